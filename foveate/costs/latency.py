"""Measured latency: median and interval, the candidates interleaved so that a busy moment hits all of them alike."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveate.counting import Batch, call

PARTS = 10
TWINS = 0.02  # by how much of it two copies of one network may differ in latency
STUDENT = 2.262  # 97.5 % of its distribution with nine degrees of freedom


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one pass over the batch (or a ratio of two): the median, and an interval around it."""

    median: float
    low: float
    high: float


def interval_of_the_median(samples: list[float]) -> Latency:
    """Median and its 95 % interval: distribution-free, and no narrower than ten successive parts say.

    Order statistics take the samples for independent. Neighbours in time are not, so the medians of ten successive
    parts give a second interval, by Student's t of their logarithms; the wider one counts.
    """
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * math.sqrt(n)  # 1.96 · √n / 2, either side of the middle
    low, high = ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach))]
    middle = statistics.median(ordered)
    if n >= 2 * PARTS:
        half = STUDENT * statistics.stdev(math.log(part) for part in _parts(samples)) / math.sqrt(PARTS)
        low, high = min(low, middle * math.exp(-half)), max(high, middle * math.exp(half))
    return Latency(middle, low, high)


def interval_of_a_repeat(samples: list[float]) -> Latency:
    """Median, and the interval in which the median of another such measurement on this machine is expected.

    A machine drifts: its clock, its caches and its other work change within seconds, and no interval of independent
    samples holds that. Within a run the drift shows as the range of the medians of ten successive parts; a repeat may
    be off by so much either way, but is not faster than the fastest pass that was seen.
    """
    middle, parts = statistics.median(samples), _parts(samples)
    drift = max(parts) - min(parts)
    return Latency(middle, max(min(samples), middle - drift), middle + drift)


def interval_of_a_ratio(ours: list[float], theirs: list[float]) -> Latency:
    """Median of the ratio round by round, and its 95 % interval, widened by what two copies of one network differ by.

    Copies at other places in memory differ by a percent or more for as long as they live, which no interval of samples
    shows (benchmarks/cost_repeat.py measures it).
    """
    found = interval_of_the_median([a / b for a, b in zip(ours, theirs, strict=True)])
    return Latency(found.median, found.low / (1 + TWINS), found.high * (1 + TWINS))


def distinguishable(ratio: Latency) -> bool:
    """Whether two networks can be ranked: the interval of their ratio leaves out 1."""
    return ratio.low > 1 or ratio.high < 1


def _parts(samples: list[float]) -> list[float]:
    """Medians of ten successive parts; of every sample by itself where there are no more than ten."""
    n, k = len(samples), min(PARTS, len(samples))
    return [statistics.median(samples[i * n // k : (i + 1) * n // k]) for i in range(k)]


def time_interleaved(
    steps: Mapping[str, Callable[[], object]], *, repeats: int, budget_s: float
) -> dict[str, list[float]]:
    """Milliseconds of every step, round after round in turning order, until the repeats or the seconds are used up.

    The order turns and, every other round, runs backwards, so that no step has always the same one before it. At least
    5 rounds are run, 3 where they take four times the seconds; two warm-up rounds come first and are not counted, one
    where it takes a second.
    """
    names = list(steps)
    samples: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for name in names:
        steps[name]()
    _wait()
    if time.perf_counter() - start < 1.0:
        for name in names:
            steps[name]()
        _wait()
    start = time.perf_counter()
    for turn in range(repeats):
        first = turn // 2 % len(names)
        order = names[first:] + names[:first]
        for name in order[::-1] if turn % 2 else order:
            began = time.perf_counter()
            steps[name]()
            _wait()
            samples[name].append(1e3 * (time.perf_counter() - began))
        spent = time.perf_counter() - start
        if (turn >= 4 and spent > budget_s) or (turn >= 2 and spent > 4 * max(budget_s, 1.0)):
            break
    return samples


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def forward_step(model: Callable[..., Any], x: Batch) -> Callable[[], object]:
    """One forward pass without gradients."""

    def step() -> None:
        with torch.inference_mode():
            call(model, x)

    return step


def training_step(model: nn.Module, run: Callable[..., Any], x: Batch) -> Callable[[], object]:
    """One forward and backward pass of `run`, which is the model or a compiled form of it, in training mode.

    The loss is the mean of the squared outputs; no optimiser.
    """

    def step() -> None:
        model.train()
        model.zero_grad(set_to_none=True)
        outputs = [t for t in tree_leaves(call(run, x)) if isinstance(t, Tensor) and t.is_floating_point()]
        torch.stack([t.float().square().mean() for t in outputs]).sum().backward()
        model.zero_grad(set_to_none=True)

    return step


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
