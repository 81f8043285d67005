"""Times of small steps side by side, none of which pays for the caches that another one left."""

import random
import time
from collections.abc import Callable, Mapping

import torch


def time_settled(steps: Mapping[str, Callable[[], object]], *, repeats: int, budget_s: float) -> dict[str, list[float]]:
    """Milliseconds of every step, round after round, each run once just before it is timed, in shuffled order.

    Shuffled, because in turning order each step would follow the same other one. At least 5 rounds are run whatever the
    budget; a round that is not counted comes first.
    """
    names, order = list(steps), random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in names}
    end = float("inf")
    for turn in range(-1, repeats):
        order.shuffle(names)
        for name in names:
            steps[name]()
            _wait()
            start = time.perf_counter()
            steps[name]()
            _wait()
            if turn >= 0:
                samples[name].append(1e3 * (time.perf_counter() - start))
        if turn < 0:
            end = time.perf_counter() + budget_s
        elif turn >= 4 and time.perf_counter() > end:
            break
    return samples


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
