"""Measured latency: median and interval, the candidates interleaved so that a busy moment hits all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one pass over the batch: the median, and the 95 % interval of the median."""

    median: float
    low: float
    high: float


def interval_of_the_median(samples: list[float]) -> Latency:
    """Median and its distribution-free 95 % interval, from order statistics."""
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * math.sqrt(n)  # 1.96 · √n / 2, either side of the middle
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    middle = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
    return Latency(middle, ordered[low], ordered[high])


def time_interleaved(
    steps: Mapping[str, Callable[[], object]], *, repeats: int, budget_s: float
) -> dict[str, list[float]]:
    """Milliseconds of every step, round after round in turning order, until the repeats or the seconds are used up.

    At least 5 rounds are run whatever the budget; two warm-up rounds come first and are not counted.
    """
    names = list(steps)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for name in names * 2:
        steps[name]()
    _wait()
    end = time.perf_counter() + budget_s
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            steps[name]()
            _wait()
            samples[name].append(1e3 * (time.perf_counter() - start))
        if turn >= 4 and time.perf_counter() > end:
            break
    return samples


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forward_step(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward pass without gradients."""

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return step


def training_step(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward and backward pass in training mode, of the mean of the squared outputs; no optimiser."""

    def step() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        model(x).float().square().mean().backward()
        model.zero_grad(set_to_none=True)

    return step
