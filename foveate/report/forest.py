"""Paired differences: one row an arm, the mean with its 95 % interval, every seed as a faint dot."""

from foveate.report.drawing import Drawing, Scale, bounds, scale, shorten, width_of
from foveate.spec import Metric
from foveate.summary import ArmSummary, Comparison, Summary, signed

WIDTH, ROW, TOP, SIZE, GAP = 960.0, 34.0, 34.0, 12.0, 34.0
HEADS = {"plain": "against the plain network", "control": "against the equal-cost control"}


def forest(summary: Summary) -> Drawing:
    """Left the differences to the plain network, right (where there are controls) those to the equal-cost control."""
    metric = summary.metric
    arms = sorted((arm for arm in summary.arms if arm.kind != "plain"), key=lambda arm: arm.kind == "control")
    height = TOP + ROW * max(len(arms), 1) + 74
    title = f"Difference in {metric.name}, paired by seed{_unit(metric, ', in ')}"
    drawing = Drawing("paired-differences", WIDTH, height, title)
    panels = [key for key in HEADS if any(_against(arm, key) for arm in arms)]
    if not panels:
        drawing.height, drawing.description = 90, "Nothing to draw: no seed has finished on both of a pair."
        drawing.text(WIDTH / 2, 50, drawing.description, size=14, anchor="middle", style="muted")
        return drawing
    drawing.description = " ".join(_in_words(arm, metric) for arm in arms)

    names = min(300.0, max(110.0, 16 + max(width_of(arm.label, SIZE) for arm in arms)))
    for row, arm in enumerate(arms):
        middle = TOP + ROW * (row + 0.5)
        drawing.text(names - 12, middle + 4, shorten(arm.label, names - 14, SIZE), anchor="end", style=arm.kind)
        drawing.line(names, TOP + ROW * (row + 1), WIDTH - 12, TOP + ROW * (row + 1), "grid")
    panel = (WIDTH - names - 16 - GAP * (len(panels) - 1)) / len(panels)
    x = _shared_scale([found for arm in arms for key in panels if (found := _against(arm, key))], metric, panel)
    heads = HEADS if summary.setting.network else {"plain": f"against {summary.plain}"}
    for column, key in enumerate(panels):
        _panel(drawing, arms, key, shorten(heads[key], panel, 13), metric, x, names + column * (panel + GAP))
    drawing.reading = _reading(arms, metric)
    drawing.data = [("variant", "against", "seed", f"difference{_unit(metric, ', ')}")]
    drawing.data += [
        (arm.label, HEADS[key].removeprefix("against "), seed, metric.factor * value)
        for arm in arms
        for key in panels
        if (one := _against(arm, key)) is not None
        for seed, value in zip(one.seeds, one.differences, strict=True)
    ]
    foot = "filled: better, worse or equivalent; open: undecided or described. Bars: 95 % interval. Dots: seeds."
    drawing.text(WIDTH - 12, height - 10, foot, anchor="end", style="muted")
    return drawing


def _reading(arms: list[ArmSummary], metric: Metric) -> str:
    found = [(arm.label, arm.against_plain) for arm in arms if arm.against_plain]
    if not found:
        return ""
    label, largest = max(found, key=lambda one: abs(one[1].mean))
    ranges = [(one.low, one.high) for _, one in found]
    apart = sum(1 for low, high in ranges if low is not None and high is not None and low * high > 0)
    known = sum(1 for low, _ in ranges if low is not None)
    text = f"The largest difference to plain is that of {label}, {largest.text}{_unit(metric, ' ')}"
    return f"{text}; {apart} of {known} intervals leave out 0." if known else f"{text}."


def _against(arm: ArmSummary, key: str) -> Comparison | None:
    return arm.against_plain if key == "plain" else arm.against_control


def _unit(metric: Metric, before: str) -> str:
    return f"{before}{metric.difference_unit}" if metric.difference_unit else ""


def _shared_scale(found: list[Comparison], metric: Metric, panel: float) -> Scale:
    dots = [metric.factor * value for one in found for value in one.differences]
    ends = [metric.factor * end for one in found for end in (one.low, one.high) if end is not None]
    return scale(*bounds([0.0, *dots], ends, reach=1.5), 0, panel, 6)


def _panel(
    drawing: Drawing, arms: list[ArmSummary], key: str, head: str, metric: Metric, x: Scale, left: float
) -> None:
    here = Scale(x.low, x.high, left, left + x.end, x.ticks)
    bottom = TOP + ROW * len(arms)
    drawing.text((here.start + here.end) / 2, 18, head, size=13, anchor="middle", style="strong")
    for tick in here.ticks:
        drawing.line(here(tick), TOP, here(tick), bottom, "axis" if here.label(tick) == "0" else "grid")
        sign = "+" if here.label(tick) != "0" and tick > 0 else ""
        drawing.text(here(tick), bottom + 18, sign + here.label(tick), anchor="middle", style="muted")
    lower = metric.better == "lower"
    unit = _unit(metric, ", ")
    axis = f"← better: lower {metric.name}{unit}" if lower else f"{metric.name}{unit}: better →"
    drawing.text((here.start + here.end) / 2, bottom + 36, axis, anchor="middle", style="muted")
    for row, arm in enumerate(arms):
        middle, one = TOP + ROW * (row + 0.5), _against(arm, key)
        if one is None:
            if not (key == "control" and arm.kind == "control"):
                none = "no control" if key == "control" and not arm.control else "no finished pair"
                drawing.text(here(0) + 6, middle + 4, none, size=11, style="muted")
            continue
        if one.low is not None and one.high is not None:
            drawing.interval(here, metric.factor * one.low, metric.factor * one.high, middle, arm.kind)
        for seed, value in zip(one.seeds, one.differences, strict=True):
            hint = f"{arm.label}, seed {seed}: {signed(metric, [value])[0]}{_unit(metric, ' ')}"
            drawing.mark(here(metric.factor * value), middle + 11, arm.kind, hint, size=2.6, style="seed")
        hint = f"{arm.label}: {one.text}{_unit(metric, ' ')}"
        style = "" if one.word in {"better", "worse", "equivalent", "identical"} else "open"
        drawing.mark(here(metric.factor * one.mean), middle, arm.kind, hint, style=style)


def _in_words(arm: ArmSummary, metric: Metric) -> str:
    parts = [
        f"{one.text}{_unit(metric, ' ')} {words}"
        for one, words in ((arm.against_plain, "against plain"), (arm.against_control, "against its control"))
        if one
    ]
    return f"{arm.label}: {', '.join(parts) or 'nothing finished'}."
