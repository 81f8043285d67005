"""Numbers as people read them, always with their unit or a sign that there is none to give."""

import math
from collections.abc import Mapping

from foveate.metric import Metric, significant
from foveate.summary import Comparison, Estimate, Setting, Summary
from foveate.summary import signed as signed_differences

NONE = "–"


def epochs(setting: Setting) -> str:
    """ "12 epochs", or what the runs made of them: "stopped after 2 to 3 of 12 epochs"; "" where it is not known."""
    if not setting.epochs:
        return ""
    planned = f"{setting.epochs:,} epoch{'' if setting.epochs == 1 else 's'}"
    fewest, most = setting.epochs_ran or (setting.epochs, setting.epochs)
    if fewest == most == setting.epochs:
        return planned
    return f"stopped after {fewest:,}{f' to {most:,}' if most > fewest else ''} of {planned}"


def whole(value: float | None) -> str:
    """78042 → "78,042"."""
    return NONE if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """Three significant digits with k, M or G: 12501000 → "12.5 M"."""
    if value is None:
        return NONE
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size * 0.9995:
            shown = value / size
            return f"{shown:.{2 if abs(shown) < 9.995 else 1 if abs(shown) < 99.95 else 0}f}{unit}"
    return f"{value:.0f}"


def signed(value: float | None, unit: str = "") -> str:
    """1200 → "+1,200"; 0 → "0"."""
    if value is None:
        return NONE
    return (f"{value:+,.0f}" if round(value) else "0").replace("-", "−") + unit


def percent(value: float | None) -> str:
    """A signed change: 0.43 → "+0.4 %"; 0.004 → "+0.004 %"; nothing but zero is shown as zero."""
    if value is None:
        return NONE
    if value == 0:
        return "0 %"
    digits = next((d for d in (1, 2, 3) if abs(value) >= 0.5 * 10.0**-d), 4)
    return f"{value:+.{digits}f} %".replace("-", "−")


def milliseconds(value: float | None) -> str:
    """Three significant digits, no exponent: 1.2345 → "1.23"; 2 → "2.00"; 1234.5 → "1235"."""
    if value is None:
        return NONE
    digits = next((d for d, least in ((0, 99.95), (1, 9.995), (2, 0.9995), (3, 0.09995)) if value >= least), 4)
    return f"{value:.{digits}f}"


def spread(low: float, high: float) -> str:
    """Of milliseconds: "1.20 to 1.31"."""
    return f"{milliseconds(low)} to {milliseconds(high)}"


def estimate(metric: Metric, found: Estimate | None) -> tuple[str, str]:
    """Mean and half width of the 95 % interval, without unit: ("84.2", "1.3"); no half width with one seed."""
    if found is None:
        return NONE, ""
    if found.low is None or found.high is None:
        return metric.number(found.mean), ""
    mean, half = metric.factor * found.mean, metric.factor * (found.high - found.mean)
    if metric.shown == "percent":
        return f"{mean:.1f}".replace("-", "−"), f"{half:.1f}"
    if not half or not 1e-4 <= half < 1e7 or abs(mean) >= 1e7:
        return metric.number(found.mean), significant(half, 2)
    digits = max(0, 1 - math.floor(math.log10(half)))  # two digits of the half width
    return f"{mean:.{digits}f}".replace("-", "−"), f"{half:.{digits}f}"


def number(metric: Metric, value: float | None) -> str:
    """A value without its unit."""
    return NONE if value is None else metric.number(value)


def size(metric: Metric, value: float) -> str:
    """A difference without sign and unit: two decimals of points, else two digits."""
    value = metric.factor * value
    return f"{value:.2f}" if metric.shown == "percent" else significant(value, 2)


def difference_range(found: Comparison | None) -> tuple[str, str]:
    """A comparison's text in two parts: ("+1.3", "+0.4 to +2.2")."""
    if found is None:
        return NONE, ""
    mean, _, interval = found.text.partition(" (")
    return mean, interval.rstrip(")")


def seeds_only(metric: Metric, found: Comparison | None) -> str:
    """ "−0.2 to +1.3 points", of a comparison whose own interval is over items as well; else ""."""
    if found is None or not found.items or found.seeds_only.low is None or found.seeds_only.high is None:
        return ""
    low, high = signed_differences(metric, [found.seeds_only.low, found.seeds_only.high])
    return f"{low} to {high} {metric.difference_unit}".strip()


def mebibytes(value: float) -> str:
    """Of bytes, three significant digits: 5242880 → "5"."""
    return f"{value / 2**20:.3g}"


def duration(seconds: float | None) -> str:
    """221.4 → "3 min 41 s"."""
    if seconds is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def baseline(summary: Summary) -> str:
    """ "Baseline, always giving the most frequent class: mIoU 10.0 %"; "" where none is known."""
    chance, words = summary.about.get("chance") or {}, summary.about.get("baseline")
    shown = _figures(summary, chance)
    return f"Baseline, {words}: {shown}" if shown and words else ""


def further_baselines(summary: Summary) -> list[str]:
    """The same of the task's other baselines."""
    others = summary.about.get("further_baselines") or {}
    return [
        f"Baseline, {words}: {shown}{_against(summary, found)}"
        for words, found in others.items()
        if (shown := _figures(summary, found))
    ]


def _against(summary: Summary, found: Mapping[str, float]) -> str:
    """Which arms are better and worse than a baseline in the judged metric, by their intervals over seeds alone."""
    metric = summary.metric
    if metric.name not in found or metric.better == "neither":
        return ""
    labels: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable from it": []}
    for arm in summary.arms:
        if arm.score is None or arm.score.low is None or arm.score.high is None:
            continue
        gains = sorted(metric.gain(end, found[metric.name]) for end in (arm.score.low, arm.score.high))
        word = "better" if gains[0] > 0 else "worse" if gains[1] < 0 else "not distinguishable from it"
        labels[word].append(arm.label)
    parts = [f"{', '.join(those)} {word}" for word, those in labels.items() if those]
    return f". In {metric.name}, by intervals over seeds: {'; '.join(parts)}" if parts else ""


def _figures(summary: Summary, found: Mapping[str, float]) -> str:
    """Metrics of the whole set, in the study's order."""
    those = [one for one in summary.metrics if one.name in found and not one.of]
    return ", ".join(f"{one.name} {one.format(found[one.name])}" for one in those)


def controls(summary: Summary) -> list[str]:
    """For each control what it adds for what its variants add; then the differences to those that are not judged."""
    lines = []
    for arm in summary.arms:
        for variant in arm.matches:
            texts = [one.text for one in arm.cost_matches if one.variant == variant]
            of = f", for {variant}" if len(arm.matches) > 1 else ""
            lines += [f"{arm.label}{of}: {'; '.join(texts)}"] if texts else []
    for arm in summary.arms:
        for label, found in arm.against_controls.items():
            if label != arm.control and not found.comparisons:
                unit = f" {summary.metric.difference_unit}" if summary.metric.difference_unit else ""
                lines.append(f"{arm.label} to its {label}: {found.text}{unit}, described, not judged")
    return lines
