"""Learning curves: a small panel for each arm on shared axes, the plain network behind each for comparison."""

from collections.abc import Collection, Mapping

from foveate.report.axes import axis_title, highest_of, metric_bounds
from foveate.report.drawing import Drawing, Scale, scale, shorten, width_of
from foveate.spec import Metric
from foveate.summary import CurvePoint, Summary

WIDTH, GAP, LEFT, TOP, SIZE = 960.0, 16.0, 54.0, 8.0, 12.0
PANEL_HEIGHT, HEAD, FOOT = 150.0, 26.0, 22.0
PARTS = ("validation", "test")  # of the data, that a metric was logged on
SETTLED = 0.25  # of the epochs: the first climb would press the rest flat
LONG = 8  # epochs from which it is left out of the range of the axis


def logged_names(summary: Summary) -> list[str]:
    """The names that the curves have: the judged metric first, other metrics, losses, whatever else was logged; not
    those of metrics of a part of the set, such as a class."""
    of_parts = {f"{part}_{metric.name}" for metric in summary.metrics for part in PARTS if metric.of}
    names = {name for curves in summary.curves.values() for name in curves} - of_parts
    order = [f"{part}_{metric.name}" for metric in summary.metrics for part in PARTS] + [
        "validation_loss",
        "train_loss",
    ]
    return [name for name in order if name in names] + sorted(names - set(order))


def watched_part(summary: Summary) -> str:
    """The part of the data that the metrics were logged on: "validation", "test", or "" where none was."""
    names = logged_names(summary)
    found = (part for part in PARTS if any(f"{part}_{metric.name}" in names for metric in summary.metrics))
    return next(found, "")


def curve_title(summary: Summary, name: str) -> str:
    """What a logged name is called on a page."""
    part, _, rest = name.partition("_")
    if metric := _metric(summary, name):
        return axis_title(metric, "validation") if part == "validation" else axis_title(metric)
    called = {"train": "training", "validation": "validation", "test": "test"}.get(part)
    return f"{rest} on {called} items" if called and rest else name


def _short_title(name: str, metric: Metric | None) -> str:
    if metric is None:
        return name
    return f"{metric.name} ({metric.shown_unit})" if metric.shown_unit else metric.name


def _metric(summary: Summary, name: str) -> Metric | None:
    return next((one for one in summary.metrics if name in [f"{part}_{one.name}" for part in PARTS]), None)


def learning_curves(summary: Summary, name: str) -> Drawing:
    """The mean over seeds with the range from lowest to highest seed, epoch by epoch, of one of `logged_names`."""
    title, metric = curve_title(summary, name), _metric(summary, name)
    factor = metric.factor if metric else 1.0
    arms = [arm for arm in summary.arms if summary.curves.get(arm.label, {}).get(name)]
    lines = {arm.label: summary.curves[arm.label][name] for arm in arms}
    rows = max(1, -(-len(arms) // 4))
    columns = max(2, -(-len(arms) // rows))
    height = TOP + rows * (HEAD + PANEL_HEIGHT + FOOT) + 26
    ident = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    drawing = Drawing(f"curves-{ident}", WIDTH, height, f"{title} by epoch, one panel for each network")
    drawing.description = " ".join(_in_words(label, line, factor) for label, line in lines.items())
    drawing.reading = _reading(lines, factor, metric, title)
    drawing.data = [("variant", "epoch", name, "lowest seed", "highest seed", "seeds")]
    drawing.data += [
        (label, point.epoch, factor * point.mean, factor * point.low, factor * point.high, point.seeds)
        for label, line in lines.items()
        for point in line
    ]
    low, high = _range(lines.values(), factor, metric)
    epochs = [point.epoch for line in lines.values() for point in line]
    panel = (WIDTH - LEFT - GAP * columns) / columns
    plain = lines.get(summary.plain)
    for number, arm in enumerate(arms):
        left = LEFT + (number % columns) * (panel + GAP)
        top = TOP + (number // columns) * (HEAD + PANEL_HEIGHT + FOOT) + HEAD
        y = scale(low, high, top + PANEL_HEIGHT, top, 4)
        x = scale(min(epochs), max(epochs), left, left + panel, 4)
        _frame(drawing, x, y, number % columns == 0)
        drawing.text(left, top - 9, shorten(arm.label, panel, SIZE), style=arm.kind)
        drawing.clip(left, top, panel, PANEL_HEIGHT)
        if plain and arm.kind != "plain":
            drawing.path([(x(point.epoch), y(factor * point.mean)) for point in plain], "plain curve thin")
        _curve(drawing, lines[arm.label], x, y, factor, arm.kind)
        drawing.unclip()
    axis = title if width_of(title, SIZE) <= height - 40 else _short_title(name, metric)
    drawing.turned(10, (height - 26) / 2, shorten(axis, height - 40, SIZE), style="muted")
    first = " (the first may lie outside)" if _shown_from(epochs) > min(epochs) else ""
    foot = f"Epoch{first}. Line: mean over seeds; band: lowest to highest; thin grey: plain network."
    drawing.text(WIDTH - GAP, height - 8, foot, anchor="end", style="muted")
    return drawing


def _reading(lines: Mapping[str, tuple[CurvePoint, ...]], factor: float, metric: Metric | None, title: str) -> str:
    lower = metric.better == "lower" if metric else "loss" in title
    ends = {label: factor * line[-1].mean for label, line in lines.items()}
    label = (min if lower else max)(ends, key=lambda one: ends[one])
    end = "lowest" if lower else "highest"
    return f"After the last epoch {label} is {end} with {ends[label]:.3g}, mean over seeds."


def _shown_from(epochs: list[int]) -> float:
    """The first epoch that the axis makes room for."""
    first, last = min(epochs), max(epochs)
    return first + SETTLED * (last - first) if len(set(epochs)) >= LONG else first


def _range(lines: Collection[tuple[CurvePoint, ...]], factor: float, metric: Metric | None) -> tuple[float, float]:
    settled = _shown_from([point.epoch for line in lines for point in line])
    shown = [point for line in lines for point in line if point.epoch >= settled]
    ends = [factor * end for point in shown for end in (point.low, point.high)]
    return metric_bounds(ends, [], margin=0.06, highest=highest_of(metric) if metric else None)


def _frame(drawing: Drawing, x: Scale, y: Scale, first: bool) -> None:
    for tick in y.ticks:
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        if first:
            drawing.text(x.start - 8, y(tick) + 4, y.label(tick), size=11, anchor="end", style="muted")
    for tick in (tick for tick in x.ticks if tick == int(tick)):
        drawing.text(x(tick), y.start + 16, f"{tick:.0f}", size=11, anchor="middle", style="muted")
    drawing.line(x.start, y.start, x.end, y.start, "axis")


def _curve(drawing: Drawing, line: tuple[CurvePoint, ...], x: Scale, y: Scale, factor: float, role: str) -> None:
    upper = [(x(point.epoch), y(factor * point.high)) for point in line]
    lower = [(x(point.epoch), y(factor * point.low)) for point in reversed(line)]
    drawing.path(upper + lower, f"{role} band", closed=True)
    if len(line) == 1:
        drawing.mark(x(line[0].epoch), y(factor * line[0].mean), role, size=3)
    drawing.path([(x(point.epoch), y(factor * point.mean)) for point in line], f"{role} curve")


def _in_words(label: str, line: tuple[CurvePoint, ...], factor: float) -> str:
    first, last = line[0], line[-1]
    return (
        f"{label}: from {factor * first.mean:.3g} at epoch {first.epoch} "
        f"to {factor * last.mean:.3g} at epoch {last.epoch}."
    )
