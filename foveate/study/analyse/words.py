"""Verdicts in words. The word follows the Holm-adjusted p, the interval beside it is the unadjusted 95 % interval.

better / worse      Holm-adjusted p < 0.05; then the interval excludes 0 as well, so the two never contradict
suggestive          the interval excludes 0, the adjusted p does not reach 0.05; said so
none                no detectable difference
identical           every seed gave exactly the same accuracy
one seed, no runs   nothing to judge
"""

from collections.abc import Sequence
from typing import Any

from foveate.study.analyse.intervals import ALPHA
from foveate.study.analyse.planner import smallest_in_sd

Comparison = dict[str, Any]
SHORT = {
    "better": "better",
    "worse": "worse",
    "suggestive": "suggestive only",
    "none": "no detectable difference",
    "identical": "identical",
    "one seed": "one seed: no verdict",
    "no runs": "no finished runs",
    "plain": "the reference",
}


def points(fraction: float, digits: int = 1) -> str:
    """A signed difference in points: 0.0132 → "+1.3"."""
    text = f"{100 * fraction:+.{digits}f}".replace("-", "−")
    return text[1:] if float(text[1:]) == 0 else text


def size_in_points(size: float) -> str:
    """A size without sign, in points already: 1.13 → "1.1 points"."""
    return f"{size:.0f} points" if size >= 10 else f"{size:.{digits_for([size / 100])}f} points"


def digits_for(fractions: Sequence[float]) -> int:
    """Digits after the point (1 to 3) such that nothing but zero is shown as zero."""
    smallest = min((abs(100 * f) for f in fractions if f), default=1.0)
    return next((digits for digits in (1, 2) if smallest >= 0.5 * 10.0**-digits), 3)


def difference(found: Comparison) -> str:
    """ "+1.3 points (95 % interval +0.4 to +2.2)", or without the interval where there is none."""
    return _difference(found, "95 % interval ")


def short_difference(found: Comparison) -> str:
    """ "+1.3 (+0.4 to +2.2)" for a table."""
    return _difference(found, "").replace(" points", "")


def _difference(found: Comparison, before: str) -> str:
    if found["low"] is None:
        return f"{points(found['mean'], digits_for([found['mean']]))} points"
    digits = digits_for([found["mean"], found["low"], found["high"]])
    mean, low, high = (points(found[key], digits) for key in ("mean", "low", "high"))
    return f"{mean} points ({before}{low} to {high})"


def judge(found: Comparison | None) -> str:
    """One of the words above."""
    if found is None:
        return "no runs"
    if len(found["seeds"]) < 2:
        return "one seed"
    if found["sd"] == 0 and found["mean"] == 0:
        return "identical"
    if found["p_holm"] is not None and found["p_holm"] < ALPHA:
        return "better" if found["mean"] > 0 else "worse"
    return "suggestive" if found["low"] is not None and found["low"] * found["high"] > 0 else "none"


def verdict(found: Comparison | None, against: Comparison | None, same: str) -> dict[str, str]:
    """Word, short form and sentence for one arm: its difference to plain, then to its control (None: no control)."""
    word = judge(found)
    text = _sentence(word, found)
    short = SHORT[word]
    if against is not None and word not in {"no runs", "one seed"} and len(against["seeds"]) > 1:
        to_control = judge(against)
        short += _short_clause(word, to_control)
        text += _clause(word, to_control, against, same)
    return {"word": word, "short": short, "text": text}


def _sentence(word: str, found: Comparison | None) -> str:
    if found is None:
        return "no verdict: no seed has finished both here and on the plain network"
    seeds = len(found["seeds"])
    if word == "one seed":
        return f"one seed shows nothing about seeds: {difference(found)} in seed {found['seeds'][0]}"
    if word == "identical":
        return f"identical to plain in each of {seeds} seeds"
    if found["sd"] == 0:
        told = f"exactly {points(found['mean'], digits_for([found['mean']]))} points in each of {seeds} seeds"
        test = f"without spread there is no t interval, and the exact sign-flip p is {found['p_exact']:.2g}"
        return f"{SHORT[word]}{' than plain' if word in {'better', 'worse'} else ' to plain'}: {told} ({test})"
    if word in {"better", "worse"}:
        return f"{word} than plain: {difference(found)}"
    if word == "suggestive":
        return (
            f"suggestive, {'higher' if found['mean'] > 0 else 'lower'} than plain: {difference(found)}, but it does "
            f"not survive the correction for {found['comparisons']} comparisons (adjusted p = {found['p_holm']:.2g})"
        )
    unseen = size_in_points(100 * found["sd"] * (smallest_in_sd(seeds, found["comparisons"]) or 0))
    return (
        f"no detectable difference to plain: {difference(found)[:-1]}; with {seeds} seeds differences under about "
        f"{unseen} usually go unseen)"
    )


def _short_clause(word: str, to_control: str) -> str:
    if to_control in {"better", "worse"}:
        joined = ", also" if to_control == word else "," if word in {"none", "identical"} else ", but"
        return f"{joined} {to_control} than control"
    return ", not told apart from control" if word in {"better", "worse", "suggestive"} else ""


def _clause(word: str, to_control: str, against: Comparison, same: str) -> str:
    network = f"a plain network widened to the same {same}"
    numbers = f"({short_difference(against).replace(' (', ' points, ').rstrip(')')})"
    if to_control in {"better", "worse"}:
        joined = "but" if {word, to_control} == {"better", "worse"} or word not in {"better", "worse"} else "and"
        return f"; {joined} {to_control} than {network} {numbers}"
    joined = "but" if word in {"better", "worse"} else "and"
    corrected = " after the correction" if to_control == "suggestive" else ""
    return f"; {joined} not distinguishable from {network}{corrected} {numbers}"
