"""What a number of seeds can show, before any is run."""

import dataclasses
import math
from functools import cache

from foveate.spec import Metric
from foveate.summary import ALPHA, SeedsCanShow, SeedStep, size_of

POWER = 0.8
LADDER = (3, 5, 6, 8, 10, 15, 20, 30)


@cache
def smallest_in_sd(n_seeds: int, comparisons: int = 1) -> float | None:
    """The smallest true difference, in sd of the paired differences, that a paired t test sees with 80 % power.

    The test is two-sided at 0.05 / comparisons, Holm's first and strictest step. None below two seeds.
    """
    if n_seeds < 2:
        return None
    import numpy as np
    from scipy import optimize, stats

    freedom = n_seeds - 1
    critical = float(stats.t.ppf(1 - ALPHA / max(comparisons, 1) / 2, freedom))
    middle = (np.arange(4000) + 0.5) / 4000  # the sample sd, in units of the true one, at evenly spaced quantiles
    threshold = critical * np.sqrt(stats.chi2.ppf(middle, freedom) / freedom)

    def missing_power(shift: float) -> float:
        return float((stats.norm.cdf(shift - threshold) + stats.norm.cdf(-shift - threshold)).mean()) - POWER

    return float(optimize.brentq(missing_power, 0.0, 4 * critical + 10)) / math.sqrt(n_seeds)


def seeds_for_exact(comparisons: int) -> int:
    """The fewest seeds with which an exact sign-flip test can reach 0.05 after Holm's correction."""
    return next(n for n in range(1, 100) if 2.0 / 2.0**n * max(comparisons, 1) <= ALPHA)


def can_differ_by(metric: Metric, size: float) -> bool:
    """Can two values of this metric differ by so much? Fractions differ by less than 1."""
    return metric.unit != "fraction" or size < 1.0


def unseen(seeds: int, size: float, metric: Metric) -> str:
    """ "with 3 seeds differences under about 1.2 points usually go unseen"; where none could be seen, that."""
    if not can_differ_by(metric, size):
        return f"with {seeds} seeds that vary so much nothing useful can be seen"
    return f"with {seeds} seeds differences under about {size_of(metric, size)} usually go unseen"


def what_seeds_can_show(
    n_seeds: int, comparisons: int, sd: float | None = None, metric: Metric | None = None
) -> SeedsCanShow:
    """What `n_seeds` paired seeds can show about `comparisons` variants; `text` says it in words.

    Args:
        n_seeds: seeds that each variant and the plain network are trained with.
        comparisons: variants compared with the plain network.
        sd: standard deviation of the paired differences in the metric's unit, where one is known.
        metric: that is compared, for its unit; None: a number without one.

    Raises: ValueError: fewer than one seed, a negative number of comparisons, or an sd that is no number ≥ 0.
    """
    metric = metric or Metric("score", unit="")
    if n_seeds < 1 or comparisons < 0:
        raise ValueError(f"wanted 1 or more seeds and 0 or more comparisons; got {n_seeds} and {comparisons}")
    if sd is not None and not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"wanted an sd of 0 or more, in the metric's unit ({metric.unit or 'none'}); got {sd}")
    sd = sd or None
    floor = min(1.0, 2.0 / 2.0**n_seeds)
    in_sd = smallest_in_sd(n_seeds, comparisons)
    smallest = None if in_sd is None or sd is None else in_sd * sd
    steps = [(n, smallest_in_sd(n, comparisons)) for n in sorted({*LADDER, *([n_seeds] if n_seeds > 1 else [])})]
    found = SeedsCanShow(
        seeds=n_seeds,
        comparisons=comparisons,
        exact_floor=floor,
        exact_can_reach=floor * max(comparisons, 1) <= ALPHA,
        holm_allows=int(ALPHA / floor + 1e-9),
        seeds_for_exact=seeds_for_exact(comparisons),
        smallest_sd_one=smallest_in_sd(n_seeds),
        smallest_sd=in_sd,
        sd=sd,
        smallest=smallest,
        useful=n_seeds > 1 and (smallest is None or can_differ_by(metric, smallest)),
        ladder=tuple(SeedStep(n, size, None if sd is None else size * sd) for n, size in steps if size is not None),
        text="",
    )
    return dataclasses.replace(found, text=" ".join(_sentences(found, metric)))


def _sentences(found: SeedsCanShow, metric: Metric) -> list[str]:
    seeds, comparisons, enough = found.seeds, found.comparisons, found.seeds_for_exact
    among = "one comparison" if comparisons <= 1 else f"{comparisons} comparisons"
    if found.smallest_sd is None:
        return [
            "One seed shows nothing about seeds: there is no interval and no test.",
            f"An interval needs two seeds and is worth reading from three; an exact test needs {enough} for {among}.",
        ]
    sentences = [
        f"The paired t test used here finds a true difference of {found.smallest_sd:.1f} standard deviations of the "
        f"paired differences in 4 studies of 5, with {seeds} seeds and Holm's correction for {among}"
        + (f" ({found.smallest_sd_one:.1f} if there were only one)." if comparisons > 1 else ".")
    ]
    if found.smallest is not None and found.sd is not None:
        at = f"At a standard deviation of {size_of(metric, found.sd)}"
        if found.useful:
            seen = f"that is about {size_of(metric, found.smallest)}; smaller differences usually go unseen."
        else:
            seen = (
                f"that is more than {metric.name} can differ by: {seeds} seeds can show nothing useful here. "
                f"{_enough(found, metric)}"
            )
        sentences.append(f"{at} {seen}")
    floor = f"An exact sign-flip test over {seeds} seeds cannot give a p below 2/2^{seeds} = {found.exact_floor:.3g}"
    if found.holm_allows == 0:
        sentences.append(
            f"{floor}: with {seeds} seeds an exact test can never reach 0.05 (it takes {enough} for {among})."
        )
    else:
        allowed = "one comparison" if found.holm_allows == 1 else f"{found.holm_allows} comparisons"
        more = "" if found.exact_can_reach else f"; {among} take {enough} seeds"
        sentences.append(f"{floor}, which after Holm's correction allows at most {allowed} at 0.05{more}.")
    return sentences


def _enough(found: SeedsCanShow, metric: Metric) -> str:
    for step in found.ladder:
        if step.smallest is not None and step.seeds > found.seeds and can_differ_by(metric, step.smallest):
            return f"With {step.seeds} it would be about {size_of(metric, step.smallest)}."
    return "More seeds, or runs that vary less, are needed."
