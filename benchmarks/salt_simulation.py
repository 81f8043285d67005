"""What `foveate.waves` adds to deepwave: gathers of the same models by both, in turns within one run.

    python benchmarks/salt_simulation.py [--models 8] [--rounds 7]

Prints JSON: CPU seconds a model of each (medians over rounds) and their ratio with the smallest and largest of rounds.
`bare` calls deepwave.scalar with tensors that are ready; `simulate` is ours; `gathers_of` also hashes the models and
writes the gathers of a block as float16, in this process.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

import deepwave
import numpy as np
import torch

from foveate.data.seismic import salt_models
from foveate.machine import machine_name, versions
from foveate.waves import Survey, gathers_of, simulate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    survey = Survey()
    models = salt_models(chosen.models).velocity
    tensors = [torch.from_numpy(model) for model in models]
    shots, receivers = (torch.from_numpy(places) for places in survey.places(70))
    wavelet = deepwave.wavelets.ricker(survey.frequency_hz, survey.steps, survey.step_s, 1.5 / survey.frequency_hz)
    amplitudes = wavelet.expand(5, 1, -1).contiguous()
    sources = torch.stack([torch.full((5, 1), survey.depth), shots[:, None]], 2)
    places = torch.stack([torch.full((5, 70), survey.depth), receivers.expand(5, -1)], 2).contiguous()

    def bare(_: int) -> None:
        for model in tensors:
            deepwave.scalar(
                model,
                survey.spacing_m,
                survey.step_s,
                source_amplitudes=amplitudes,
                source_locations=sources,
                receiver_locations=places,
                accuracy=survey.accuracy,
                pml_width=survey.absorbing,
                pml_freq=survey.frequency_hz,
                max_vel=survey.fastest_m_s,
                courant_number=survey.courant_number,
            )

    def ours(_: int) -> None:
        for model in tensors:
            simulate(model, survey)

    def stored(number: int) -> None:
        gathers_of(
            models + np.float32(number), survey, workers=1
        )  # other models each time, so that none is in the cache

    ways = {"bare": bare, "simulate": ours, "gathers_of": stored}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as cache, torch.inference_mode():
        os.environ["FOVEATE_CACHE"] = cache
        bare(0)
        for number in range(chosen.rounds):
            for name, way in ways.items():
                start = time.process_time()
                way(number)
                seconds[name].append((time.process_time() - start) / chosen.models)
    ratios = {
        name: sorted(one / other for one, other in zip(seconds[name], seconds["bare"], strict=True))
        for name in ("simulate", "gathers_of")
    }
    found = {
        "seconds_a_model": {name: round(statistics.median(of_way), 4) for name, of_way in seconds.items()},
        "ratio_to_bare": {
            name: {"median": round(statistics.median(r), 3), "low": round(r[0], 3), "high": round(r[-1], 3)}
            for name, r in ratios.items()
        },
        "models": chosen.models,
        "rounds": chosen.rounds,
        "machine": machine_name(),
        "versions": versions() | {"deepwave": deepwave.__version__},
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
