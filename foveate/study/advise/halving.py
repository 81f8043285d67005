"""Successive halving over seeds: how many candidates are trained with how many seeds, and which of them go on.

The resource of a rung is seeds, not epochs: attention slows the first epochs of a training, so that a short training
ranks candidates by how they start. Every rung has seeds of its own, each paired with the plain network's, and a
candidate is ranked by the mean over all of its pairs; no run is trained twice.

Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016,
arXiv:1502.07943: rungs of equal cost, the best share of each goes on.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foveate.summary import Rung

FACTOR = 3  # a third of the candidates of a rung goes on, with three times as many seeds
SEEDS = 2  # of the first rung
FINALISTS = 2
CONFIRMING = 8  # fresh seeds of the confirmation
LEAST_CONFIRMING = 3  # with fewer nothing is judged

Gains = Mapping[str, Mapping[int, float]]  # of a candidate, seed → gain over plain; −inf for a failed run


@dataclass(frozen=True)
class Schedule:
    """The rungs of a search, how many finalists come out of the last, and the seeds that they are confirmed with."""

    rungs: tuple[Rung, ...]
    finalists: int
    confirming: tuple[int, ...]

    @property
    def runs(self) -> int:
        """Trainings in all, those of the plain network included, if no candidate drops out."""
        searched = sum((rung.candidates + 1) * len(rung.seeds) for rung in self.rungs)
        return searched + (self.finalists + 1) * len(self.confirming)


def schedule(trials: int, *, seeds: int = SEEDS, finalists: int = FINALISTS, confirming: int = CONFIRMING) -> Schedule:
    """The rungs for a number of candidates.

    Args:
        trials: candidates of the first rung.
        seeds: of the first rung; every further one has `FACTOR` times as many.
        finalists: that are confirmed, fewer than the candidates.
        confirming: seeds of the confirmation.

    Raises: ValueError: a number is too small.
    """
    for name, value, least in (("trials", trials, 2), ("seeds", seeds, 1), ("finalists", finalists, 1)):
        if value < least:
            raise ValueError(f"--{name}: wanted {least} or more; got {value}")
    if confirming < LEAST_CONFIRMING:
        raise ValueError(f"--confirm-seeds: wanted {LEAST_CONFIRMING} or more, fewer judge nothing; got {confirming}")
    finalists, rungs, first = min(finalists, trials - 1), list[Rung](), 0
    count = trials
    while count > finalists or not rungs:
        rungs.append(Rung(count, tuple(range(first, first + seeds))))
        first, seeds, count = first + seeds, FACTOR * seeds, max(finalists, math.ceil(count / FACTOR))
    return Schedule(tuple(rungs), finalists, tuple(range(first, first + confirming)))


def largest_schedule(runs: int, **numbers: int) -> Schedule:
    """That with the most candidates whose trainings are no more than `runs`; numbers as of `schedule`.

    Raises: ValueError: two candidates are too many already.
    """
    found = schedule(2, **numbers)
    if found.runs > runs:
        raise ValueError(f"--budget: wanted {found.runs} trainings or more, which two candidates take; got {runs}")
    for trials in range(3, runs):
        larger = schedule(trials, **numbers)
        if larger.runs > runs:
            break
        found = larger
    return found


def best_first(gains: Gains) -> list[str]:
    """The candidates by their mean gain; equal ones in the order given. One with a failed run comes last."""
    return sorted(gains, key=lambda label: -mean_gain(gains[label].values()))


def mean_gain(gains: Iterable[float]) -> float:
    """−inf for no gains, and where one is."""
    values = list(gains)
    return math.fsum(values) / len(values) if values and -math.inf not in values else -math.inf


def survivors(gains: Gains, count: int) -> list[str]:
    """The best `count`, without those that failed."""
    return [label for label in best_first(gains) if mean_gain(gains[label].values()) > -math.inf][:count]
