"""Intervals and tests over seeds. Differences are paired: one seed is one start, one data order, one augmentation."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from foveate.spec import Metric
from foveate.summary import ALPHA, Comparison, Estimate

ROUNDING = 1e-12  # relative to the values: differences below this are rounding of double precision
EXACT_UP_TO = 16  # seeds; 2^15 sign patterns are listed in full up to here
RANDOM_FLIPS = 99_999


def scale_of(values: Sequence[float]) -> float:
    """The largest absolute value: what rounding is relative to."""
    return max(map(abs, values), default=0.0)


def mean_and_sd(values: Sequence[float], scale: float | None = None) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for one value, and 0 where the values are equal.

    scale: of the values that these were computed from, where they are differences of others.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, 0.0 if sd <= ROUNDING * (scale_of(values) if scale is None else scale) else sd


def t_interval(values: Sequence[float], scale: float | None = None) -> tuple[float, float] | None:
    """95 % Student-t interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy import stats

    mean, sd = mean_and_sd(values, scale)
    assert sd is not None
    half = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half, mean + half


def estimate(scores: Mapping[int, float]) -> Estimate | None:
    """Mean, sd and interval of one arm's values, seed → value; None where there are none."""
    if not scores:
        return None
    seeds = tuple(sorted(scores))
    values = tuple(scores[seed] for seed in seeds)
    low, high = t_interval(values) or (None, None)
    mean, sd = mean_and_sd(values)
    return Estimate(mean, sd, low, high, seeds, values)


def sign_flip_p(differences: Sequence[float], scale: float | None = None) -> float:
    """Two-sided p of the exact sign-flip test on paired differences; never below 2/2^n.

    Above 16 seeds the sign patterns are drawn (99 999, from a fixed seed) instead of listed.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    seen = abs(values.sum()) * (1 - ROUNDING) - ROUNDING * (scale_of(differences) if scale is None else scale)
    if len(values) <= EXACT_UP_TO:
        # the first sign may stay: turning all signs gives the same |sum|
        signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=len(values) - 1)])
        return float((abs(signs @ values) >= seen).mean())
    signs = np.random.default_rng(0).choice((1.0, -1.0), size=(RANDOM_FLIPS, len(values)))
    return float(((abs(signs @ values) >= seen).sum() + 1) / (RANDOM_FLIPS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 6 (1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], metric: Metric) -> Comparison | None:
    """`ours - theirs` over the seeds that both have, in the values' own unit; None where they share no seed.

    `p` is the paired-t p. Where every difference is the same and not zero a t interval does not exist: `low` and `high`
    are None and `p` is the exact sign-flip p (`test` says which). All zero: interval 0 to 0 and p = 1. One seed: no
    interval, no p. `p_holm` and `comparisons` are filled in once the family is known.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
        return None
    scale = scale_of([scores[seed] for scores in (ours, theirs) for seed in seeds])
    differences = tuple(ours[seed] - theirs[seed] for seed in seeds)
    mean, sd = mean_and_sd(differences, scale)
    mean = 0.0 if abs(mean) <= ROUNDING * scale else mean
    found = Comparison(
        seeds=seeds,
        differences=differences,
        mean=mean,
        gain=metric.gain(mean, 0.0),
        sd=sd,
        low=None,
        high=None,
        p=None,
        test=None,
        p_exact=sign_flip_p(differences, scale),
        p_exact_floor=min(1.0, 2.0 / 2.0 ** len(seeds)),
    )
    if sd is None:
        return found
    if sd == 0 and mean == 0:
        return dataclasses.replace(found, low=0.0, high=0.0, p=1.0, test="none needed")
    if sd == 0:
        return dataclasses.replace(found, p=found.p_exact, test="exact sign flip")
    from scipy import stats

    low, high = t_interval(differences, scale) or (None, None)
    statistic = abs(mean) / (sd / math.sqrt(len(seeds)))
    p = float(2 * stats.t.sf(statistic, len(seeds) - 1))
    return dataclasses.replace(found, low=low, high=high, p=p, test="paired t")


def adjust(family: Sequence[Comparison | None]) -> list[Comparison | None]:
    """The comparisons of one family with `p_holm` and `comparisons`; those without a p are not part of it."""
    members = [found.p for found in family if found is not None and found.p is not None]
    adjusted = iter(holm(members))
    return [
        dataclasses.replace(found, p_holm=next(adjusted), comparisons=len(members))
        if found is not None and found.p is not None
        else found
        for found in family
    ]
