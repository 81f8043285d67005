"""Every formula behind a verdict, with its source. NumPy arrays in and out; leading axes are independent studies.

A difference between two arms has two sources of chance, and each has a variance of its own: new seeds and new test
items. The mean difference over n seeds and m items is

    D = μ + S̄ + Ī + Ē,    var D = (σ_S² + σ_E²/m) / n + σ_I² / m

where the first term is seen as the spread of the seeds' differences and the second as what the items' differences have
in common between seeds.

Sources, beside those named below: X. Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, MLSys
2021 (which variation a comparison is about); R. Dror, G. Baumer, S. Shlomov and R. Reichart, The Hitchhiker's Guide to
Testing Statistical Significance in NLP, ACL 2018 (the choice of the test); D. Card et al., With Little Power Comes
Great Responsibility, EMNLP 2020 (power, exaggerated winners); R. Agarwal et al., Deep RL at the Edge of the Statistical
Precipice, NeurIPS 2021 (intervals in place of points from few runs).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.spec import LEAST_SEEDS
from foveate.summary import ALPHA

Array = NDArray[np.float64]
FIRST_LOOK = 0.8  # share of the error rate that an undeclared first look spends
SPENDING_POWER = 2.0  # of a study that declares its largest number of seeds
DECLARED = 0.95  # share of the error rate that such a study spends by then; the rest is for looks after all
RESAMPLES = 1000
ROUNDING = 1e-12  # relative to the values: differences below this are rounding of double precision
WORDS = ("undecided", "better", "worse", "equivalent", "too few seeds")
UNDECIDED, BETTER, WORSE, EQUIVALENT, TOO_FEW = range(5)


@dataclass(frozen=True)
class Evidence:
    """Mean differences and their variances, arrays of one shape.

    Attributes:
        mean: of the differences over seeds.
        seeds, items: number of seeds and of items (of groups, where items have groups); items 0: none are known.
        seed_variance, item_variance, overlap_variance: terms of the mean's variance, the last by divisions' overlap.
    """

    mean: Array
    seeds: NDArray[np.int64]
    seed_variance: Array
    items: NDArray[np.int64]
    item_variance: Array
    overlap_variance: Array | float = 0.0

    @property
    def variance(self) -> Array:
        return self.seed_variance + self.item_variance + self.overlap_variance

    @property
    def item_share(self) -> Array:
        """Share of the variance that comes from the items; nan where there is no variance."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.item_variance / self.variance

    def seeds_only(self) -> "Evidence":
        """The same on these very items and divisions: no variance of theirs."""
        nothing = np.zeros_like(self.mean)
        return Evidence(self.mean, self.seeds, self.seed_variance, np.zeros_like(self.items), nothing)


def evidence(
    differences: ArrayLike,
    item_variance: ArrayLike = 0.0,
    items: ArrayLike = 0,
    scale: ArrayLike = 0.0,
    overlap: float = 0.0,
) -> Evidence:
    """Evidence from differences (..., n), one a seed, paired; scale: the largest value they were computed from.

    overlap: test over training items, where each seed divides the same items anew: the mean's variance is then (1/n +
    overlap) sd². Source: C. Nadeau and Y. Bengio, Inference for the Generalization Error, Mach. Learn. 52 (2003).
    """
    values = np.asarray(differences, dtype=float)
    n, shape = values.shape[-1], values.shape[:-1]
    mean = values.mean(-1)
    rounding = ROUNDING * np.maximum(np.asarray(scale, dtype=float), np.abs(values).max(-1))
    mean = np.where(np.abs(mean) <= rounding, 0.0, mean)
    sd = values.std(-1, ddof=1) if n > 1 else np.full(shape, np.nan)
    sd = np.where(sd <= rounding, 0.0, sd)
    return Evidence(
        mean=mean,
        seeds=np.full(shape, n),
        seed_variance=sd**2 / n,
        items=np.broadcast_to(np.asarray(items), shape),
        item_variance=np.broadcast_to(np.asarray(item_variance, dtype=float), shape),
        overlap_variance=overlap * sd**2 if overlap else 0.0,
    )


# -- the items' part --------------------------------------------------------------------------------------------------


def item_variance(differences: ArrayLike, groups: Sequence[int] | NDArray[np.int64] | None = None) -> Array:
    """σ_I²/m from differences (..., n seeds, m items): the covariance between seeds, averaged over pairs of seeds.

    With B the variance of the items' means over seeds and A the mean variance within a seed (both divided by m), the
    items' own part is (n B − A) / (n − 1): what the random-effects analysis of a crossed design gives, taken as 0 where
    it is negative. groups: (m,) numbers of the items' groups, which are resampled whole; the variance is then that of a
    ratio of sums over groups.

    Source: S. Searle, G. Casella and C. McCulloch, Variance Components, 1992, ch. 4; W. Cochran, Sampling Techniques,
    1977, ch. 9A, for clusters.
    """
    values = np.asarray(differences, dtype=float)
    n, m = values.shape[-2:]
    residuals = values - values.mean(-1, keepdims=True)
    if groups is not None:
        _, codes = np.unique(np.asarray(groups), return_inverse=True)
        summed = np.zeros((*residuals.shape[:-1], int(codes.max()) + 1))
        np.add.at(np.moveaxis(summed, -1, 0), codes, np.moveaxis(residuals, -1, 0))
        residuals = summed
    units = residuals.shape[-1]
    if n < 2 or units < 2:
        return np.zeros(values.shape[:-2])
    correction = units / (units - 1) / m**2
    common = correction * (residuals.mean(-2) ** 2).sum(-1)
    within = correction * (residuals**2).sum(-1).mean(-1)
    return _between_seeds(common, within, n)


def _between_seeds(common: Array, within: Array, n: int) -> Array:
    return np.asarray(np.maximum(0.0, (n * common - within) / (n - 1)))


def resampled_item_variance(
    value: Callable[[Array], Array], items: int, groups: Sequence[int] | NDArray[np.int64] | None = None
) -> float:
    """σ_I²/m of a metric of the whole set, by a bootstrap of the items crossed with the seeds; fixed random numbers.

    value: weights of the items (B, m) → differences (B, n seeds). Groups of items are drawn whole.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993; the crossed form: A. Owen, The
    Pigeonhole Bootstrap, Ann. Appl. Stat. 1 (2007).
    """
    codes = np.arange(items) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = int(codes.max()) + 1
    if units < 2:
        return 0.0
    draw = np.random.default_rng(0)
    counts = draw.multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    found = value(counts[:, codes].astype(float))
    found = found[np.isfinite(found).all(1)]
    n = found.shape[1]
    if n < 2 or len(found) < 2:
        return 0.0
    common, within = found.mean(1).var(ddof=1), found.var(0, ddof=1).mean()
    return float(_between_seeds(common, within, n) * units / (units - 1))


# -- intervals and tests ----------------------------------------------------------------------------------------------


def half_width(found: Evidence, level: ArrayLike) -> Array:
    """Half of the interval that misses with probability `level`; nan where seeds and items vary not at all.

    The quantile is the mean of Student's t with n − 1 and m − 1 degrees of freedom, weighted by the two variances.
    Satterthwaite's approximation, the usual choice, misses in up to 7 % with 3 seeds, this one in at most 5 %.

    Source: W. Cochran and G. Cox, Experimental Designs, 1957, p. 100; W. Cochran, Approximate Significance Levels of
    the Behrens-Fisher Test, Biometrics 20 (1964).
    """
    spread = np.sqrt(found.variance)
    return np.where(spread > 0, spread * _quantile(found, np.asarray(level, dtype=float)), np.nan)


def _quantile(found: Evidence, level: Array) -> Array:
    from scipy import special

    by_seeds = -special.stdtrit(np.maximum(found.seeds - 1, 1), level / 2)
    if not np.any(found.item_variance):
        return np.asarray(by_seeds)
    by_items = -special.stdtrit(np.maximum(found.items - 1, 1), level / 2)
    share = np.nan_to_num(found.item_share)
    return np.asarray((1 - share) * by_seeds + share * by_items)


def p_value(found: Evidence, null: ArrayLike = 0.0) -> Array:
    """Two-sided p of a mean difference of `null`: the level at which the interval ends there.

    Where all seeds gave exactly the same difference, p is at least 2/2^n, that of the exact sign-flip test; equal to
    the null it is 1. One seed: nan.
    """
    from scipy import special

    away = np.abs(found.mean - np.asarray(null, dtype=float))
    spread = np.sqrt(found.variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(spread > 0, away / spread, np.where(away > 0, np.inf, 0.0))
    by_seeds = 2 * special.stdtr(np.maximum(found.seeds - 1, 1), -statistic)
    p = np.asarray(by_seeds)
    if np.any(found.item_variance):
        by_items = 2 * special.stdtr(np.maximum(found.items - 1, 1), -statistic)
        low, high = (np.log(np.maximum(np.minimum(by_seeds, by_items), 1e-300)), np.log(np.maximum(by_seeds, 1e-300)))
        for _ in range(30):  # the p of the mixed quantile lies between the two
            middle = (low + high) / 2
            above = _quantile(found, np.exp(middle)) > statistic
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        p = np.exp((low + high) / 2)
    p = np.where(found.seed_variance == 0, np.maximum(p, 2.0 ** (1 - found.seeds)), p)
    p = np.where(away == 0, 1.0, np.minimum(p, 1.0))
    return np.where(found.seeds > 1, p, np.nan)


def equivalence_p(found: Evidence, margin: ArrayLike) -> Array:
    """p of equivalence: twice the larger p of the two one-sided tests against −margin and +margin.

    Below a level where the interval of that level lies inside ±margin: stricter than the usual test, which takes the
    90 % interval, so that an arm's claims of a difference and of equivalence share one error rate.

    Source: D. Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the Power Approach, J. Pharmacokinet.
    Biopharm. 15 (1987).
    """
    margin = np.asarray(margin, dtype=float)
    larger = np.maximum(p_value(found, margin), p_value(found, -margin))
    return np.where(np.abs(found.mean) < margin, larger, 1.0)


def signed_rank_p(gains: ArrayLike) -> Array:
    """Two-sided exact p of Wilcoxon's signed-rank test on gains (..., n), where a failed run is the worst outcome.

    A pair in which only our run failed is −inf, only theirs +inf, both 0. Equal sizes share their mean rank, zeros have
    no say; every pattern of signs is counted.

    Source: J. Lachin, Worst-Rank Score Analysis with Informatively Missing Observations in Clinical Trials, Control.
    Clin. Trials 20 (1999); F. Wilcoxon, Individual Comparisons by Ranking Methods, 1945.
    """
    values = np.asarray(gains, dtype=float)
    shape, n = values.shape[:-1], values.shape[-1]
    values = values.reshape(-1, n)
    sizes = np.abs(values)
    smaller = (sizes[:, None, :] < sizes[:, :, None]) & (sizes[:, None, :] > 0)
    same = (sizes[:, None, :] == sizes[:, :, None]) & (sizes[:, None, :] > 0)
    doubled = np.where(sizes > 0, 2 * smaller.sum(-1) + same.sum(-1) + 1, 0)  # twice the mean rank, a whole number
    total = doubled.sum(1)
    rows, width = len(values), n * (n + 1) + 1
    chances = np.zeros((rows, width))
    chances[:, 0] = 1.0
    places = np.arange(width)
    for rank in doubled.T:
        before = places[None, :] - rank[:, None]
        moved = np.where(before >= 0, np.take_along_axis(chances, np.maximum(before, 0), 1), 0.0)
        chances = (chances + moved) / 2
    positive = np.where(values > 0, doubled, 0).sum(1)
    away = np.abs(2 * places[None, :] - total[:, None])
    p = np.where(away >= np.abs(2 * positive - total)[:, None], chances, 0.0).sum(1)
    return np.minimum(p, 1.0).reshape(shape)


def median_gain(gains: ArrayLike) -> Array:
    """The median over seeds (last axis), where failed runs are infinitely bad; between −inf and +inf it is 0."""
    limit = 1e300
    return np.asarray(np.median(np.clip(np.asarray(gains, dtype=float), -limit, limit), -1))


# -- many comparisons, many looks -------------------------------------------------------------------------------------


def holm(p_values: ArrayLike, dropped: int = 0) -> Array:
    """Holm's step-down adjustment along the last axis; nan is no member.

    dropped: comparisons that were planned once and are no longer there: members whose p is 1.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 6 (1979).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, -1)  # nan last
    ranked = np.take_along_axis(p, order, -1)
    members = np.isfinite(p).sum(-1, keepdims=True) + dropped
    factors = np.maximum(members - np.arange(p.shape[-1]), 1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.nan_to_num(factors * ranked), -1))
    result = np.empty_like(p)
    np.put_along_axis(result, order, adjusted, -1)
    return np.where(np.isfinite(p), result, np.nan)


def look_weight(looks: Sequence[int], most: int | None = None) -> float:
    """Share of the error rate that the last of these looks may spend; the shares of all looks add up to at most 1.

    A claim of a look is made at 0.05 times its share, so that some false claim in any look has a chance of at most 0.05
    (Bonferroni's bound; no assumption about how the looks depend on each other, the data or the test). A study that
    declares the most seeds that it may take, N, has spent 0.95 (n/N)² of the rate by n seeds. One that does not spends
    0.8 at its first look; it, and one that looks in another way than it declared, spends half of the rest at each
    further one.

    looks: numbers of seeds at each look so far, this one last.

    Source: K. Lan and D. DeMets, Discrete Sequential Boundaries for Clinical Trials, Biometrika 70 (1983); K. Kim and
    D. DeMets, Design and Analysis of Group Sequential Tests Based on the Type I Error Spending Rate Function,
    Biometrika 74 (1987), for the power family.
    """
    spent, share, before = 0.0, 0.0, 0
    for number, seeds in enumerate(looks):
        if most is not None and before < seeds <= most:
            share = DECLARED * ((seeds / most) ** SPENDING_POWER - (before / most) ** SPENDING_POWER)
            before = seeds
        else:
            most = None  # from here on as if nothing had been declared
            share = FIRST_LOOK if number == 0 else (1 - spent) / 2
        spent += share
    return share


# -- the decision -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """Of a family along the last axis: numbers into `WORDS`, p of a difference and of equivalence, corrected."""

    words: NDArray[np.int64]
    p_holm: Array
    p_equivalent: Array


def decide(
    gain: ArrayLike,
    p: ArrayLike,
    p_equivalent: ArrayLike,
    margin: ArrayLike,
    *,
    seeds: ArrayLike = LEAST_SEEDS,
    failed: ArrayLike = 0,
    failed_other: ArrayLike = 0,
    weight: ArrayLike = 1.0,
    dropped: int = 0,
) -> Decision:
    """Judge one family of comparisons (..., K), each against the smallest difference that matters.

    better, worse: the p, divided by the look's weight and corrected with Holm's method, is below 0.05, and the gain is
        at least the margin. An arm with more failed runs than the other is never better, one with fewer never worse.
    equivalent: the interval of level 0.05 · weight / K lies inside ± margin (Bonferroni: true of all K at once).
    too few seeds: fewer than three. undecided: the rest.

    gain: positive is better; with failed runs the median over seeds, where they count as infinitely bad.
    """
    gain, p, p_equivalent, margin, weight = (
        np.asarray(one, dtype=float) for one in (gain, p, p_equivalent, margin, weight)
    )
    weight = np.broadcast_to(weight, gain.shape[:-1] or ())[..., None]
    failed, failed_other = np.asarray(failed), np.asarray(failed_other)
    p_holm = holm(np.minimum(1.0, p / weight), dropped)
    members = np.isfinite(p).sum(-1, keepdims=True) + dropped
    p_same = np.minimum(1.0, p_equivalent * members / weight)
    differs, large = p_holm < ALPHA, np.abs(gain) >= margin
    words = np.full(gain.shape, UNDECIDED)
    words = np.where(np.isfinite(p_same) & (p_same < ALPHA), EQUIVALENT, words)
    words = np.where(differs & large & (gain > 0) & (failed <= failed_other), BETTER, words)
    words = np.where(differs & large & (gain < 0) & (failed >= failed_other), WORSE, words)
    words = np.where(np.asarray(seeds) < LEAST_SEEDS, TOO_FEW, words)
    return Decision(words, p_holm, p_same)


def default_margin(plain_mean: float | None, percent: bool) -> float | None:
    """The smallest difference that matters where nobody states one: half a point of a percentage, else 1 % of plain's
    mean; None without one."""
    if percent:
        return 0.005
    return None if plain_mean is None else 0.01 * abs(plain_mean)


# -- what few seeds leave open ----------------------------------------------------------------------------------------


def failure_bound(failed: int, runs: int) -> float:
    """Upper end of the exact one-sided 95 % interval of the share of runs that fail; with none seen about 3/n.

    Source: C. Clopper and E. Pearson, The Use of Confidence or Fiducial Limits, Biometrika 26 (1934); J. Hanley and
    A. Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249 (1983), the rule of three.
    """
    from scipy import special

    return 1.0 if failed >= runs else float(special.betaincinv(failed + 1, runs - failed, 1 - ALPHA))


def sd_bound(sd: float, freedom: float, level: float = 0.2) -> float:
    """Upper end of the one-sided interval of a standard deviation, 80 % by default: what a plan should count with.

    Source: R. Browne, On the Use of a Pilot Sample for Sample Size Determination, Stat. Med. 14 (1995).
    """
    from scipy import special

    return sd * math.sqrt(freedom / (2 * float(special.gammaincinv(freedom / 2, level))))


def pooled_freedom(seeds: int, comparisons: int) -> float:
    """Degrees of freedom of a variance pooled over comparisons with one plain network.

    Differences to the same network are correlated by one half, their sample variances by a quarter.
    """
    return (seeds - 1) * comparisons / (1 + (comparisons - 1) / 4)


def smallest_seen(seeds: int, level: float, power: float = 0.8) -> float | None:
    """The smallest true difference, in sd of the paired differences, that a paired t test finds with this power.

    The test is two-sided at `level`. None below two seeds.

    Source: J. Cohen, Statistical Power Analysis, 1988; the noncentral t as a mean over the sample sd's quantiles.
    """
    if seeds < 2:
        return None
    from scipy import optimize, special

    freedom = seeds - 1
    critical = float(special.stdtrit(freedom, 1 - level / 2))
    middle = (np.arange(4000) + 0.5) / 4000  # the sample sd, in units of the true one, at evenly spaced quantiles
    threshold = critical * np.sqrt(2 * special.gammaincinv(freedom / 2, middle) / freedom)

    def missing(shift: float) -> float:
        return float((special.ndtr(shift - threshold) + special.ndtr(-shift - threshold)).mean()) - power

    return float(optimize.brentq(missing, 0.0, 4 * critical + 10)) / math.sqrt(seeds)


def with_items(smallest: float, item_part: float, level: float, power: float = 0.8) -> float:
    """The smallest difference seen over new items as well, from that over seeds and the items' part of the variance."""
    from scipy import special

    reach = float(special.ndtri(1 - level / 2) + special.ndtri(power))
    return math.hypot(smallest, reach * math.sqrt(item_part))
