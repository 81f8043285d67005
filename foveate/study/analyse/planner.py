"""What a number of seeds can show, before any is run."""

import dataclasses
import math
import sys
from bisect import bisect_left
from functools import cache

from foveate.spec import LEAST_SEEDS, Metric
from foveate.study.analyse.inference import (
    FIRST_LOOK,
    pooled_freedom,
    sd_bound,
    smallest_seen,
    with_items,
)
from foveate.summary import ALPHA, SeedsCanShow, SeedStep, size_of

LADDER = (3, 5, 6, 8, 10, 15, 20, 30)
MOST_SEEDS = 200


@cache
def smallest_in_sd(n_seeds: int, comparisons: int = 1, weight: float = FIRST_LOOK) -> float | None:
    """The smallest true difference, in sd of the paired differences, that a study finds with 80 % power.

    The test is two-sided at 0.05 · weight / comparisons, Holm's first and strictest step. None below two seeds.
    """
    return smallest_seen(n_seeds, ALPHA * weight / max(comparisons, 1))


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
    n_seeds: int,
    comparisons: int,
    sd: float | None = None,
    metric: Metric | None = None,
    *,
    arms: int | None = None,
    margin: float | None = None,
    item_part: float = 0.0,
    weight: float = FIRST_LOOK,
    overlap: float = 0.0,
) -> SeedsCanShow:
    """What `n_seeds` paired seeds can show about `comparisons` claims; `text` says it in words.

    Args:
        n_seeds: seeds that each variant and the plain network are trained with.
        comparisons: claims, corrected for together.
        sd: standard deviation of the paired differences in the metric's unit, where one is known from these seeds.
        metric: that is compared, for its unit; None: a number without one.
        arms: variants that sd is pooled over; None: as many as comparisons.
        margin: the smallest difference that matters: how many seeds show it.
        item_part: the test items' part of the variance of a mean difference.
        weight: share of the error rate that this look may spend.
        overlap: test over training items, where each seed has its own division of them.

    Raises: ValueError: fewer than one seed, a negative number of comparisons, or an sd that is no number ≥ 0.
    """
    metric = metric or Metric("score", unit="")
    if n_seeds < 1 or comparisons < 0:
        raise ValueError(f"wanted 1 or more seeds and 0 or more comparisons; got {n_seeds} and {comparisons}")
    if sd is not None and not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"wanted an sd of 0 or more, in the metric's unit ({metric.unit or 'none'}); got {sd}")
    sd = sd or None
    floor = min(1.0, max(2.0 ** (1 - n_seeds), sys.float_info.min))
    level = ALPHA * weight / max(comparisons, 1)
    in_sd = smallest_in_sd(n_seeds, comparisons, weight)
    sd_high = None
    if sd is not None and n_seeds >= LEAST_SEEDS:
        sd_high = sd_bound(sd, pooled_freedom(n_seeds, max(1, comparisons if arms is None else arms)))

    def seen(n: int, spread: float) -> float | None:
        size = smallest_in_sd(n, comparisons, weight)
        wider = math.sqrt(1 + n * overlap)
        return None if size is None else with_items(size * wider * spread, item_part, level)

    def needed(spread: float | None) -> int | None:
        if spread is None or not margin:
            return None
        counts = range(LEAST_SEEDS, MOST_SEEDS + 1)
        place = bisect_left(counts, True, key=lambda n: (seen(n, spread) or math.inf) <= margin)
        return counts[place] if place < len(counts) else None

    smallest = None if sd is None else seen(n_seeds, sd)
    steps = sorted({*LADDER, *([n_seeds] if n_seeds > 1 else [])})
    found = SeedsCanShow(
        seeds=n_seeds,
        comparisons=comparisons,
        exact_floor=floor,
        exact_can_reach=floor * max(comparisons, 1) <= ALPHA,
        holm_allows=int(ALPHA / floor + 1e-9),
        seeds_for_exact=seeds_for_exact(comparisons),
        smallest_sd_one=smallest_in_sd(n_seeds, 1, weight),
        smallest_sd=in_sd,
        sd=sd,
        sd_high=sd_high,
        smallest=smallest,
        smallest_high=None if sd_high is None else seen(n_seeds, sd_high),
        level=level,
        needed=needed(sd if sd_high is not None else None),
        needed_high=needed(sd_high),
        items_alone=with_items(0.0, item_part, level),
        useful=n_seeds > 1 and (smallest is None or can_differ_by(metric, smallest)),
        ladder=tuple(
            SeedStep(n, smallest_in_sd(n, comparisons, weight) or 0.0, None if sd is None else seen(n, sd))
            for n in steps
        ),
        text="",
    )
    return dataclasses.replace(found, text=" ".join(_sentences(found, metric, margin)))


def _sentences(found: SeedsCanShow, metric: Metric, margin: float | None) -> list[str]:
    seeds, comparisons, enough = found.seeds, found.comparisons, found.seeds_for_exact
    among = "one comparison" if comparisons <= 1 else f"{comparisons} comparisons"
    if found.smallest_sd is None:
        return [
            "One seed shows nothing about seeds: there is no interval and no test.",
            f"A verdict needs {LEAST_SEEDS} seeds; an exact test needs {enough} for {among}.",
        ]
    sentences = [
        f"The paired test used here finds a true difference of {found.smallest_sd:.1f} standard deviations of the "
        f"paired differences in 4 studies of 5, with {seeds} seeds and Holm's correction for {among}"
        + (f" ({found.smallest_sd_one:.1f} if there were only one)." if comparisons > 1 else ".")
    ]
    if seeds < LEAST_SEEDS:
        sentences.append(f"A verdict needs {LEAST_SEEDS} seeds.")
    if found.smallest is not None and found.sd is not None:
        at = f"At a standard deviation of {size_of(metric, found.sd)}"
        if found.useful:
            seen = f"that is about {size_of(metric, found.smallest)}; smaller differences usually go unseen."
            if found.sd_high is not None and found.smallest_high is not None:
                seen += (
                    f" The spread is itself known only roughly: it may be up to {size_of(metric, found.sd_high)} (80 % "
                    f"bound), and that difference up to {size_of(metric, found.smallest_high)}."
                )
        else:
            seen = (
                f"that is more than {metric.name} can differ by: {seeds} seeds can show nothing useful here. "
                f"{_enough(found, metric)}"
            )
        sentences.append(f"{at} {seen}")
    sentences += [clear] if (clear := clear_answer(found, metric, margin)) else []
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


def clear_answer(found: SeedsCanShow, metric: Metric, margin: float | None) -> str:
    """How many seeds show a difference that matters, with the uncertainty of the spread; "" where nobody can tell."""
    if found.sd_high is None or not margin:
        return ""
    size = size_of(metric, margin)
    if found.items_alone > margin:
        return (
            f"No number of seeds shows a difference of {size} here: these test items alone hide differences under "
            f"about {size_of(metric, found.items_alone)}; it takes more test items."
        )
    low, high = found.needed, found.needed_high
    if low is None:
        return f"A difference of {size} takes more than {MOST_SEEDS} seeds to be found in 4 studies of 5."
    if high is not None and high <= found.seeds:
        return ""
    upper = f"{high}" if high is not None else f"more than {MOST_SEEDS}"
    between = f"{low}" if low == high else f"{low} to {upper}"
    return (
        f"A difference of {size} takes about {between} seeds to be found in 4 studies of 5, by the spread of these "
        f"{found.seeds} seeds."
    )


def _enough(found: SeedsCanShow, metric: Metric) -> str:
    for step in found.ladder:
        if step.smallest is not None and step.seeds > found.seeds and can_differ_by(metric, step.smallest):
            return f"With {step.seeds} it would be about {size_of(metric, step.smallest)}."
    return "More seeds, or runs that vary less, are needed."
