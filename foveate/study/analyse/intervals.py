"""Intervals and tests over seeds. Differences are paired: one seed is one start, one data order, one augmentation."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
NO_SPREAD = 1e-9  # accuracies are counts over images: anything below this is rounding
EXACT_UP_TO = 16  # seeds; 2^15 sign patterns are listed in full up to here
RANDOM_FLIPS = 99_999


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for one value, and 0 where the values are equal."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, 0.0 if sd < NO_SPREAD else sd


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student-t interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy import stats

    mean, sd = mean_and_sd(values)
    assert sd is not None
    half = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half, mean + half


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the exact sign-flip test on paired differences; never below 2/2^n.

    Above 16 seeds the sign patterns are drawn (99 999, from a fixed seed) instead of listed.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    seen = abs(values.sum()) * (1 - 1e-12) - NO_SPREAD
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


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[str, Any] | None:
    """`ours - theirs` over the seeds that both have, in the values' own unit; None where they share no seed.

    `p` is the paired-t p. Where every difference is the same and not zero a t interval does not exist: `low` and `high`
    are None and `p` is the exact sign-flip p (`test` says which). All zero: interval 0 to 0 and p = 1. One seed: no
    interval, no p. `p_holm` and `comparisons` are filled in once the family is known.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    mean, sd = mean_and_sd(differences)
    found: dict[str, Any] = {
        "seeds": seeds,
        "differences": differences,
        "mean": 0.0 if abs(mean) < NO_SPREAD else mean,
        "sd": sd,
        "low": None,
        "high": None,
        "p": None,
        "test": None,
        "p_holm": None,
        "comparisons": 0,
        "p_exact": sign_flip_p(differences),
        "p_exact_floor": min(1.0, 2.0 / 2.0 ** len(seeds)),
    }
    if sd == 0 and found["mean"] == 0:
        found |= {"low": 0.0, "high": 0.0, "p": 1.0, "test": "none needed"}
    elif sd == 0:
        found |= {"p": found["p_exact"], "test": "exact sign flip"}
    elif sd is not None:
        from scipy import stats

        low, high = t_interval(differences) or (None, None)
        statistic = abs(mean) / (sd / math.sqrt(len(seeds)))
        found |= {"low": low, "high": high, "test": "paired t"}
        found["p"] = float(2 * stats.t.sf(statistic, len(seeds) - 1))
    return found


def adjust(family: Sequence[dict[str, Any] | None]) -> None:
    """Fill in `p_holm` and `comparisons` of one family of comparisons; those without a p are not part of it."""
    members = [comparison for comparison in family if comparison and comparison["p"] is not None]
    for member, adjusted in zip(members, holm([m["p"] for m in members]), strict=True):
        member["p_holm"], member["comparisons"] = adjusted, len(members)
