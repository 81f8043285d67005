"""Verdicts in words, each against the smallest difference that matters.

better / worse      the corrected p is below 0.05 and the difference is at least the one that matters
equivalent          the interval that holds for all claims lies inside ± the difference that matters
undecided           neither; suggestive where the interval of this comparison alone excludes 0
identical           every seed gave exactly the same score
too few seeds       fewer than three
unfinished          runs of the study are still to be done
descriptive         no claim of this study
failed, no runs     every run of the arm failed; nothing to judge

Better is what the metric calls better: a lower error is better, though its difference to plain is negative.
"""

from foveate.spec import LEAST_SEEDS, Metric
from foveate.study.analyse.planner import unseen
from foveate.summary import Comparison, Margin, Verdict, signed

SHORT = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "undecided": "undecided",
    "identical": "identical",
    "too few seeds": "too few seeds",
    "unfinished": "unfinished",
    "descriptive": "described, not judged",
    "failed": "every run failed",
    "no runs": "no finished runs",
    "plain": "the reference",
}
CLAIMS = {"better", "worse", "equivalent", "undecided", "identical"}
REFERENCE = Verdict("plain", SHORT["plain"], "the network without attention")


def difference(found: Comparison, metric: Metric) -> str:
    """ "+1.3 points (95 % interval +0.4 to +2.2)", or without the interval where there is none; says which direction
    is better where it is the lower one."""
    mean, interval = _parts(found, metric)
    if found.failed or found.failed_other:
        return f"{_with_unit(mean, metric)} in the {len(found.seeds)} of {found.runs} seeds that finished on both sides"
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


def for_all_claims(found: Comparison, metric: Metric) -> str:
    """ "+0.2 to +2.4 points", the interval that holds for all claims at once; "" where there is none."""
    if found.claim_low is None or found.claim_high is None:
        return ""
    low, high = signed(metric, [found.claim_low, found.claim_high])
    return _with_unit(f"{low} to {high}", metric)


def short_difference(found: Comparison, metric: Metric) -> str:
    """ "+1.3 (+0.4 to +2.2)" for a table; after failed runs "+1.3 (2 of 5 seeds)"."""
    mean, interval = _parts(found, metric)
    if found.failed or found.failed_other:
        interval = f"{len(found.seeds)} of {found.runs} seeds"
    return f"{mean} ({interval})" if interval else mean


def _parts(found: Comparison, metric: Metric) -> tuple[str, str]:
    if found.low is None or found.high is None:
        return signed(metric, [found.mean])[0], ""
    mean, low, high = signed(metric, [found.mean, found.low, found.high])
    return mean, f"{low} to {high}"


def _with_unit(number: str, metric: Metric) -> str:
    return f"{number} {metric.difference_unit}".strip()


def suggestive(found: Comparison) -> bool:
    """Does the interval of this comparison alone exclude 0, without a claim coming of it?"""
    return found.word == "undecided" and found.low is not None and found.high is not None and found.low * found.high > 0


def failures(seeds: int, runs: int, verb: str = "failed") -> str:
    """ "diverged in 3 of 5 seeds" """
    return f"{verb} in {seeds} of {runs} seeds"


def verdict(
    found: Comparison | None,
    against: Comparison | None,
    metric: Metric,
    margin: Margin,
    *,
    network: str,
    failed: int = 0,
    verb: str = "failed",
    smallest: float | None = None,
) -> Verdict:
    """Word, short form and sentence for one arm: its difference to plain, then to its control (None: no control).

    network: what the control is. failed: runs of the arm that failed, all of them where found is None; verb:
    how. smallest: difference that these seeds usually show.
    """
    if found is None:
        word = "failed" if failed else "no runs"
        text = (
            f"{verb} in every seed that ran ({failed}): no verdict"
            if failed
            else ("no verdict: no seed has finished both here and on the plain network")
        )
        return Verdict(word, SHORT[word], text)
    first = against if found.word == "descriptive" and against is not None and against.word in CLAIMS else found
    word = first.word
    text = sentence(found, metric, margin, "plain", verb=verb, smallest=smallest)
    short = "suggestive only" if suggestive(first) else SHORT[word]
    if against is not None and against.word in CLAIMS:
        to_control = against.word
        if first is found:
            short += _short_clause(word, to_control)
        else:
            short = (
                f"{short} {'to' if word == 'equivalent' else 'than'} control"
                if word in {"better", "worse", "equivalent"}
                else f"{short} against control"
            )
        text += _clause(found.word, to_control, against, network, metric)
    return Verdict(word, short, text)


def sentence(
    found: Comparison,
    metric: Metric,
    margin: Margin,
    other: str,
    *,
    verb: str = "failed",
    smallest: float | None = None,
) -> str:
    """What came of a comparison with `other`, without capital and full stop."""
    amount = difference(found, metric)
    than = f" than {other}"
    if found.word == "too few seeds":
        return f"{_few(found)}: {amount}; a verdict takes {LEAST_SEEDS} seeds"
    if found.word in {"unfinished", "descriptive"}:
        what = "unfinished, no verdict yet" if found.word == "unfinished" else "described, not judged"
        return f"{what}: {amount}{_failed(found, verb, other)}"
    if found.failed or found.failed_other:
        told = _failed(found, verb, other).removeprefix("; ")
        if found.word in {"better", "worse"}:
            return f"{found.word}{than}, failed runs counted as the worst: {told}"
        mean = _with_unit(_parts(found, metric)[0], metric)
        return f"undecided: {told}; the other seeds alone give no verdict ({mean} in them)"
    if found.word == "identical":
        return f"identical to {other} in each of {len(found.seeds)} seeds"
    if found.low is None:
        exactly = f"exactly {_with_unit(signed(metric, [found.mean])[0], metric)} in each of {len(found.seeds)} seeds"
        direction = "; lower is better" if metric.better == "lower" else ""
        test = f"without spread there is no interval, and the exact sign-flip p is {found.p_exact:.2g}{direction}"
        word = {"better": f"better{than}", "worse": f"worse{than}", "equivalent": f"equivalent to {other}"}
        return f"{word.get(found.word, 'undecided')}: {exactly} ({test})"
    if found.word in {"better", "worse"}:
        return f"{found.word}{than}: {amount}"
    if found.word == "equivalent":
        within = for_all_claims(found, metric)
        return f"equivalent to {other}: {amount}, which holds within {margin.text} for all claims ({within})"
    if suggestive(found):
        higher = "higher" if found.mean > 0 else "lower"
        if found.significant:
            return f"undecided: {amount}, {higher} than {other}, but less than the {margin.text} that matters"
        return (
            f"suggestive, {higher} than {other}: {amount}, but it does not survive the correction for "
            f"{found.comparisons} comparisons (adjusted p = {found.p_holm:.2g})"
        )
    open_ = f"; {unseen(len(found.seeds), smallest, metric)}" if smallest is not None else ""
    return f"undecided, no detectable difference to {other}: {amount[:-1]}{open_})"


def _few(found: Comparison) -> str:
    if found.runs == 1:
        return "one seed shows nothing about seeds"
    return f"{found.runs} seeds show too little about seeds"


def _failed(found: Comparison, verb: str, other: str) -> str:
    parts = []
    if found.failed:
        parts.append(failures(len(found.failed), found.runs, verb))
    if found.failed_other:
        parts.append(f"{other} failed in {len(found.failed_other)} of {found.runs}")
    return f"; {', '.join(parts)}" if parts else ""


def _short_clause(word: str, to_control: str) -> str:
    if to_control in {"better", "worse"}:
        joined = ", also" if to_control == word else ", but" if word in {"better", "worse"} else ","
        return f"{joined} {to_control} than control"
    if to_control == "equivalent":
        return ", equivalent to control" if word != "equivalent" else ", also to control"
    return ", not distinguishable from control" if word in {"better", "worse"} else ""


def _clause(word: str, to_control: str, against: Comparison, network: str, metric: Metric) -> str:
    mean, interval = _parts(against, metric)
    numbers = f"({_with_unit(mean, metric)}{f', {interval}' if interval else ''})"
    if to_control in {"better", "worse"}:
        joined = "but" if {word, to_control} == {"better", "worse"} or word not in {"better", "worse"} else "and"
        return f"; {joined} {to_control} than {network} {numbers}"
    joined = "but" if word in {"better", "worse"} else "and"
    if to_control == "equivalent":
        return f"; {joined} equivalent to {network} {numbers}"
    corrected = " after the correction" if suggestive(against) else ""
    return f"; {joined} not distinguishable from {network}{corrected} {numbers}"


def listed(labels: list[str]) -> str:
    """ "a", "a and b", "a, b and c" """
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
