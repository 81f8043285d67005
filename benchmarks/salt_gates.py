"""Do the gates of a study's networks look at the salt? Energy in the salt less its share of the area, over seeds.

    python benchmarks/salt_gates.py STUDY

Prints JSON: for each arm and place the mean over seeds in points, its 95 % Student-t interval over seeds, and each
seed's mean over the test models with salt.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from foveate.data import open_data
from foveate.study.trained import load_run
from foveate.tasks.gate_energy import gate_energies, has_attention


def main() -> None:
    found: dict[str, dict[str, dict[int, float]]] = {}
    area = models = 0.0
    for folder in sorted((Path(sys.argv[1]) / "runs").iterdir()):
        if not (folder / "model.safetensors").is_file():
            continue
        trained = load_run(folder)
        if trained.run.control is not None or not has_attention(trained.model):
            continue
        test = open_data(trained.run.data).test
        with torch.inference_mode():
            places = gate_energies(trained.model, [test.batch(range(len(test)), None)])
        for place in places:
            area, models = float(place.area.mean()), len(place.area)
            seeds = found.setdefault(trained.run.arm, {}).setdefault(place.site, {})
            seeds[trained.run.seed] = round(100 * place.excess[0], 2)
    rows = {}
    for arm, sites in sorted(found.items()):
        rows[arm] = {}
        for site, seeds in sites.items():
            values = np.array(list(seeds.values()))
            half = math.nan
            if len(values) > 1:
                half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
            rows[arm][site] = {
                "mean": round(float(values.mean()), 2),
                "low": None if math.isnan(half) else round(float(values.mean() - half), 2),
                "high": None if math.isnan(half) else round(float(values.mean() + half), 2),
                "seeds": seeds,
            }
    print(json.dumps({"area_percent": round(100 * area, 2), "models": models, "points": rows}, indent=1))


if __name__ == "__main__":
    main()
