"""Verdicts in words. The word follows the Holm-adjusted p, the interval beside it is the unadjusted 95 % interval.

better / worse      Holm-adjusted p < 0.05; then the interval excludes 0 as well, so the two never contradict
suggestive          the interval excludes 0, the adjusted p does not reach 0.05
none                no detectable difference
identical           every seed gave exactly the same score
one seed, no runs   nothing to judge

Better is what the metric calls better: a lower error is better, though its difference to plain is negative.
"""

from foveate.spec import Metric
from foveate.study.analyse.planner import smallest_in_sd, unseen
from foveate.summary import Comparison, Verdict, signed

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
REFERENCE = Verdict("plain", SHORT["plain"], "the network without attention")


def difference(found: Comparison, metric: Metric) -> str:
    """ "+1.3 points (95 % interval +0.4 to +2.2)", or without the interval where there is none; says which direction
    is better where it is the lower one."""
    mean, interval = _parts(found, metric)
    inside = [f"95 % interval {interval}"] if interval else []
    inside += ["lower is better"] if metric.better == "lower" else []
    return _with_unit(mean, metric) + (f" ({'; '.join(inside)})" if inside else "")


def advantage(found: Comparison, metric: Metric) -> str:
    """By how much an arm beats another: as `difference` for metrics of which more is better, and for others
    "3.2 px (difference −3.2, 95 % interval −4.1 to −2.3; lower is better)"."""
    if metric.better != "lower" or found.gain <= 0:
        return difference(found, metric)
    mean, interval = _parts(found, metric)
    interval = f", 95 % interval {interval}" if interval else ""
    return f"{_with_unit(mean[1:], metric)} (difference {mean}{interval}; lower is better)"


def short_difference(found: Comparison, metric: Metric) -> str:
    """ "+1.3 (+0.4 to +2.2)" for a table."""
    mean, interval = _parts(found, metric)
    return f"{mean} ({interval})" if interval else mean


def _parts(found: Comparison, metric: Metric) -> tuple[str, str]:
    if found.low is None or found.high is None:
        return signed(metric, [found.mean])[0], ""
    mean, low, high = signed(metric, [found.mean, found.low, found.high])
    return mean, f"{low} to {high}"


def _with_unit(number: str, metric: Metric) -> str:
    return f"{number} {metric.difference_unit}".strip()


def judge(found: Comparison | None) -> str:
    """One of the words above."""
    if found is None:
        return "no runs"
    if len(found.seeds) < 2:
        return "one seed"
    if found.sd == 0 and found.mean == 0:
        return "identical"
    if found.significant:
        return "better" if found.gain > 0 else "worse"
    return "suggestive" if found.low is not None and found.high is not None and found.low * found.high > 0 else "none"


def verdict(found: Comparison | None, against: Comparison | None, same: str, metric: Metric) -> Verdict:
    """Word, short form and sentence for one arm: its difference to plain, then to its control (None: no control)."""
    word = judge(found)
    text = _sentence(word, found, metric)
    short = SHORT[word]
    if against is not None and word not in {"no runs", "one seed"} and len(against.seeds) > 1:
        to_control = judge(against)
        short += _short_clause(word, to_control)
        text += _clause(word, to_control, against, same, metric)
    return Verdict(word, short, text)


def _sentence(word: str, found: Comparison | None, metric: Metric) -> str:
    if found is None:
        return "no verdict: no seed has finished both here and on the plain network"
    seeds = len(found.seeds)
    amount = difference(found, metric)
    if word == "one seed":
        return f"one seed shows nothing about seeds: {amount} in seed {found.seeds[0]}"
    if word == "identical":
        return f"identical to plain in each of {seeds} seeds"
    if found.sd == 0:
        exactly = f"exactly {_with_unit(signed(metric, [found.mean])[0], metric)} in each of {seeds} seeds"
        direction = "; lower is better" if metric.better == "lower" else ""
        test = f"without spread there is no t interval, and the exact sign-flip p is {found.p_exact:.2g}{direction}"
        return f"{SHORT[word]}{' than plain' if word in {'better', 'worse'} else ' to plain'}: {exactly} ({test})"
    if word in {"better", "worse"}:
        return f"{word} than plain: {amount}"
    if word == "suggestive":
        return (
            f"suggestive, {'higher' if found.mean > 0 else 'lower'} than plain: {amount}, but it does "
            f"not survive the correction for {found.comparisons} comparisons (adjusted p = {found.p_holm:.2g})"
        )
    size = (found.sd or 0.0) * (smallest_in_sd(seeds, found.comparisons) or 0.0)
    return f"no detectable difference to plain: {amount[:-1]}; {unseen(seeds, size, metric)})"


def _short_clause(word: str, to_control: str) -> str:
    if to_control in {"better", "worse"}:
        joined = ", also" if to_control == word else "," if word in {"none", "identical"} else ", but"
        return f"{joined} {to_control} than control"
    return ", not distinguishable from control" if word in {"better", "worse", "suggestive"} else ""


def _clause(word: str, to_control: str, against: Comparison, same: str, metric: Metric) -> str:
    network = f"a plain network widened to the same {same}"
    mean, interval = _parts(against, metric)
    numbers = f"({_with_unit(mean, metric)}{f', {interval}' if interval else ''})"
    if to_control in {"better", "worse"}:
        joined = "but" if {word, to_control} == {"better", "worse"} or word not in {"better", "worse"} else "and"
        return f"; {joined} {to_control} than {network} {numbers}"
    joined = "but" if word in {"better", "worse"} else "and"
    corrected = " after the correction" if to_control == "suggestive" else ""
    return f"; {joined} not distinguishable from {network}{corrected} {numbers}"


def listed(labels: list[str]) -> str:
    """ "a", "a and b", "a, b and c" """
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
