"""What a number of seeds can show, before any is run."""

import math
from functools import cache
from typing import Any

from foveate.study.analyse.intervals import ALPHA

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


def what_seeds_can_show(n_seeds: int, comparisons: int, sd: float | None = None) -> dict[str, Any]:
    """What `n_seeds` paired seeds can show about `comparisons` variants; `text` says it in words.

    Args:
        n_seeds: seeds that each variant and the plain network are trained with.
        comparisons: variants compared with the plain network.
        sd: standard deviation of the paired differences as a fraction (0.01 is one point), where one is known.

    Returns: exact_floor (2/2^n), exact_can_reach, holm_allows (comparisons an exact test allows at 0.05),
        seeds_for_exact, smallest_sd_one and smallest_sd (80 % power, one comparison and all of them), smallest_points
        (None without sd), ladder (the same for other numbers of seeds), text.

    Raises: ValueError: fewer than one seed, a negative number of comparisons, or an sd that is no number ≥ 0.
    """
    if n_seeds < 1 or comparisons < 0:
        raise ValueError(f"wanted 1 or more seeds and 0 or more comparisons; got {n_seeds} and {comparisons}")
    if sd is not None and not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"wanted an sd of 0 or more, as a fraction (0.01 is one point); got {sd}")
    floor = min(1.0, 2.0 / 2.0**n_seeds)
    found: dict[str, Any] = {
        "seeds": n_seeds,
        "comparisons": comparisons,
        "exact_floor": floor,
        "exact_can_reach": floor * max(comparisons, 1) <= ALPHA,
        "holm_allows": int(ALPHA / floor + 1e-9),
        "seeds_for_exact": seeds_for_exact(comparisons),
        "smallest_sd_one": smallest_in_sd(n_seeds),
        "smallest_sd": smallest_in_sd(n_seeds, comparisons),
        "sd_points": None if not sd else 100 * sd,
    }
    found["smallest_points"] = _points(found["smallest_sd"], sd)
    steps = [(n, smallest_in_sd(n, comparisons)) for n in sorted({*LADDER, *([n_seeds] if n_seeds > 1 else [])})]
    found["ladder"] = [{"seeds": n, "smallest_sd": size, "smallest_points": _points(size, sd)} for n, size in steps]
    found["text"] = " ".join(_sentences(found))
    return found


def _points(in_sd: float | None, sd: float | None) -> float | None:
    return 100 * in_sd * sd if in_sd is not None and sd else None


def _sentences(found: dict[str, Any]) -> list[str]:
    seeds, comparisons, enough = found["seeds"], found["comparisons"], found["seeds_for_exact"]
    among = "one comparison" if comparisons <= 1 else f"{comparisons} comparisons"
    if seeds == 1:
        return [
            "One seed shows nothing about seeds: there is no interval and no test.",
            f"An interval needs two seeds and is worth reading from three; an exact test needs {enough} for {among}.",
        ]
    sentences = [
        f"The paired t test used here finds a true difference of {found['smallest_sd']:.1f} standard deviations of the "
        f"paired differences in 4 studies of 5, with {seeds} seeds and Holm's correction for {among}"
        + (f" ({found['smallest_sd_one']:.1f} if there were only one)." if comparisons > 1 else ".")
    ]
    if found["smallest_points"] is not None:
        sentences.append(
            f"At a standard deviation of {found['sd_points']:.2f} points that is about "
            f"{found['smallest_points']:.1f} points; smaller differences usually go unseen."
        )
    floor = f"An exact sign-flip test over {seeds} seeds cannot give a p below 2/2^{seeds} = {found['exact_floor']:.3g}"
    if found["holm_allows"] == 0:
        sentences.append(
            f"{floor}: with {seeds} seeds an exact test can never reach 0.05 (it takes {enough} for {among})."
        )
    else:
        allowed = "one comparison" if found["holm_allows"] == 1 else f"{found['holm_allows']} comparisons"
        more = "" if found["exact_can_reach"] else f"; {among} take {enough} seeds"
        sentences.append(f"{floor}, which after Holm's correction allows at most {allowed} at 0.05{more}.")
    return sentences
