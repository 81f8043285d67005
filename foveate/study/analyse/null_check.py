"""A null check: how often a study claims a difference between runs of one and the same network.

Studies of two arms are drawn from the runs of one network, each run once at most in a study, so that every drawn study
is a random sample of that network's runs and no difference is true. The rate over all such studies is a U-statistic of
the runs: right on average whatever their number, while the rate of one pool of runs strays around it, the more so the
fewer there are (with 12 runs and 3 seeds by 1.2 points). Studies drawn from one pool are not independent, so the
interval is the jackknife's over runs and not that of a count.

Source: W. Hoeffding, A Class of Statistics with Asymptotically Normal Distribution, Ann. Math. Stat. 19 (1948); B.
Efron, Jackknife-after-Bootstrap Standard Errors and Influence Functions, J. R. Stat. Soc. B 54 (1992), for the
replications without a run; Dror et al. 2018 on A/A comparisons.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foveate.study.analyse import inference
from foveate.study.analyse.inference import BETTER, FIRST_LOOK, WORSE, Array
from foveate.study.analyse.items import Groups, Items, Whole, shared_values
from foveate.summary import ALPHA, NullCheck, NullRate

STUDIES = 20_000
SIZES = (3, 5, 8, 10, 15, 20)  # seeds of the drawn studies
SPARE = 2  # a pool has this many times the runs of a drawn study, or more
LITTLE = 40  # with fewer runs the rate is known only roughly
PORTION = 2_000_000  # numbers in memory at a time
EXPECTED = ALPHA * FIRST_LOOK


def null_check(
    scores: Sequence[float],
    items: Sequence[Items | Whole | None] = (),
    groups: Groups | None = None,
    arms: int = 2,
    overlap: float = 0.0,
) -> NullCheck:
    """The rates of false claims in studies drawn from the runs of one network.

    scores: of each run. items: names and values of each run's items; where a run has none, or the metric is one of the
        whole set, the verdicts are those over seeds alone. arms: of the study whose runs they are. overlap: test over
        training items, where each run has its own division of them.
    """
    found = shared_values(items, groups or {}) if len(items) == len(scores) and not overlap else None
    rates = tuple(
        null_rate(np.asarray(scores, float), seeds, found, overlap=overlap)
        for seeds in SIZES
        if 2 * SPARE * seeds <= len(scores)
    )
    return NullCheck(arms, len(scores), EXPECTED, rates, _text(len(scores), rates))


def null_rate(
    scores: Array,
    seeds: int,
    residuals: tuple[Array, int] | None = None,
    studies: int = STUDIES,
    weight: float = FIRST_LOOK,
    overlap: float = 0.0,
) -> NullRate:
    """The rate for studies of two arms with this many seeds, and its interval.

    residuals: (runs, groups) sums of the items' residuals, and the number of items. weight: share of the error rate.
    overlap: as of `null_check`.
    """
    draw, runs = np.random.default_rng(seeds), len(scores)
    wrong, there = np.zeros(studies, bool), np.zeros((studies, runs), bool)
    products = None if residuals is None else residuals[0] @ residuals[0].T
    step = max(1, PORTION // max(runs, (2 * seeds) ** 2))
    for start in range(0, studies, step):
        chosen = np.argsort(draw.random((min(step, studies - start), runs)), 1)[:, : 2 * seeds]
        part, units = _items_part(chosen, products, residuals)
        gains = scores[chosen[:, :seeds]] - scores[chosen[:, seeds:]]
        found = inference.evidence(gains, part, units, np.abs(scores).max(), overlap)
        p = inference.p_value(found)[:, None]
        words = inference.decide(found.mean[:, None], p, np.ones_like(p), 0.0, seeds=seeds, weight=weight).words[:, 0]
        place = np.arange(start, start + len(chosen))
        wrong[place] = (words == BETTER) | (words == WORSE)
        there[place[:, None], chosen] = True
    rate = float(wrong.mean())
    half = 1.96 * math.sqrt(_jackknife_variance(wrong, there))
    return NullRate(seeds, studies, rate, max(0.0, rate - half), min(1.0, rate + half))


def _items_part(
    chosen: NDArray[np.int64], products: Array | None, residuals: tuple[Array, int] | None
) -> tuple[Array, int]:
    """The items' part of each drawn study's variance, `inference.item_variance`, from products of runs' residuals."""
    if products is None or residuals is None:
        return np.zeros(len(chosen)), 0
    seeds, (units, items) = chosen.shape[1] // 2, (residuals[0].shape[1], residuals[1])
    signs = np.repeat([1.0, -1.0], seeds)
    of_study = products[chosen[:, :, None], chosen[:, None, :]]
    common = np.einsum("bij,i,j->b", of_study, signs, signs) / seeds**2
    own = np.einsum("bii->bi", of_study)
    pairs = of_study[:, np.arange(seeds), seeds + np.arange(seeds)]
    within = (own[:, :seeds] + own[:, seeds:] - 2 * pairs).mean(1)
    correction = units / (units - 1) / items**2
    return np.maximum(0.0, correction * (seeds * common - within) / (seeds - 1)), units


def _jackknife_variance(wrong: NDArray[np.bool_], there: NDArray[np.bool_]) -> float:
    """Variance of the rate: over runs, from the studies without each, less what the number of studies adds to it."""
    studies, runs = there.shape
    without = (~there).sum(0)
    rates = (wrong[:, None] & ~there).sum(0) / without
    rate = wrong.mean()
    drawn = rate * (1 - rate)
    spread = (runs - 1) / runs * ((rates - rates.mean()) ** 2).sum()
    noise = (runs - 1) * drawn * float((1 / without - 1 / studies).mean())
    return float(max(0.0, spread - noise) + drawn / studies)


def _text(runs: int, rates: tuple[NullRate, ...]) -> str:
    least = 2 * SPARE * SIZES[0]
    if not rates:
        return (
            f"{runs} runs are too few to say how often a difference is claimed where there is none: studies of "
            f"{SIZES[0]} seeds are drawn from {least} runs or more, and {LITTLE} say something"
        )
    told = "; ".join(
        f"in {100 * one.rate:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f} %) with {one.seeds} seeds"
        for one in rates
    )
    high = [one.seeds for one in rates if one.low > EXPECTED]
    outcome = f"at {high[0]} seeds the rate is distinguishably more" if high else "no rate is distinguishably more"
    few = f" {runs} runs show this only roughly; {LITTLE} say more." if runs < LITTLE else ""
    return (
        f"In studies of two arms drawn from these {runs} runs of one network a difference is claimed {told}; expected: "
        f"{100 * EXPECTED:.0f} %, the error rate of a first look, and {outcome}.{few}"
    ).removesuffix(".")
