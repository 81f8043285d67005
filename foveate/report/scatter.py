"""A metric against latency: what each arm gives and what it costs, with an interval in both directions."""

from collections.abc import Sequence

from foveate.report.axes import axis_title, highest_of, metric_bounds
from foveate.report.drawing import Drawing, Scale, scale, shorten
from foveate.report.labels import Box, place
from foveate.spec import Metric
from foveate.summary import ArmSummary, Estimate, Summary, Times

WIDTH, SIZE = 960.0, 12.0
LEFT, RIGHT, TOP, BELOW = 62.0, 20.0, 18.0, 78.0


def score_latency(summary: Summary) -> Drawing | None:
    """One mark for each arm with a finished run and a measured latency; plain is drawn through as reference lines.

    None where no arm has both.
    """
    metric, factor = summary.metric, summary.metric.factor
    measured = [(arm, arm.score, arm.cost.latency_ms) for arm in summary.arms]
    shown = [(arm, found, time) for arm, found, time in measured if found is not None and time is not None]
    if not shown:
        return None
    height = min(640.0, 360.0 + 14 * len(shown))
    title = f"{metric.name} against latency, one mark for each network"
    drawing = Drawing("score-latency", WIDTH, height, title)
    words = [_in_words(arm, found, time, metric) for arm, found, time in shown]
    drawing.description = " ".join(words)

    means = [factor * found.mean for _, found, _ in shown]
    ends = [factor * end for _, found, _ in shown for end in (found.low, found.high) if end is not None]
    y = scale(*metric_bounds(means, ends, margin=0.1, highest=highest_of(metric)), height - BELOW, TOP)
    times = [time for *_, time in shown]
    spreads = [end for time in times for end in (time.low, time.high)]
    x = scale(*metric_bounds([time.median for time in times], spreads, margin=0.08), LEFT, WIDTH - RIGHT, 7)
    _axes(drawing, x, y, height, metric)

    points, obstacles = [], []
    for arm, found, time in shown:
        at = x(time.median), y(factor * found.mean)
        points.append(at)
        if arm.kind == "plain":
            drawing.line(LEFT, at[1], WIDTH - RIGHT, at[1], "reference")
            drawing.line(at[0], TOP, at[0], height - BELOW, "reference")
        drawing.interval(x, time.low, time.high, at[1], arm.kind)
        obstacles.append(Box(x(x.clip(time.low)), at[1] - 2, x(x.clip(time.high)), at[1] + 2))
        if found.low is not None and found.high is not None:
            low, high = factor * found.low, factor * found.high
            drawing.interval(y, low, high, at[0], arm.kind, upright=True)
            obstacles.append(Box(at[0] - 2, y(y.clip(high)), at[0] + 2, y(y.clip(low))))
    arms = [arm for arm, *_ in shown]
    for arm, at, hint in zip(arms, points, words, strict=True):
        drawing.mark(*at, arm.kind, hint)
    _names(drawing, arms, points, obstacles, Box(LEFT + 2, TOP, WIDTH - RIGHT, height - BELOW - 2))
    _legend(drawing, height, {arm.kind for arm in arms})
    front = on_the_front([(metric.gain(found.mean, 0.0), time.median) for _, found, time in shown])
    best = max(shown, key=lambda one: metric.gain(one[1].mean, 0.0))
    fastest = min(shown, key=lambda one: one[2].median)
    drawing.reading = (
        f"Best: {best[0].label} with {metric.format(best[1].mean)}; fastest: {fastest[0].label} with "
        f"{fastest[2].median:.3g} ms. No other network is both better and faster than: "
        f"{', '.join(arm.label for arm, there in zip(arms, front, strict=True) if there)}."
    )
    drawing.data = [("variant", metric.name, "low", "high", "latency_ms", "low", "high", "on the Pareto front")]
    drawing.data += [
        (arm.label, found.mean, found.low, found.high, time.median, time.low, time.high, there)
        for (arm, found, time), there in zip(shown, front, strict=True)
    ]
    return drawing


def on_the_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (gain, cost): is no other point at least as good and as cheap, and one of both better?"""
    return [
        not any(other[0] >= gain and other[1] <= cost and other != (gain, cost) for other in points)
        for gain, cost in points
    ]


def _names(
    drawing: Drawing,
    arms: list[ArmSummary],
    points: list[tuple[float, float]],
    obstacles: list[Box],
    frame: Box,
) -> None:
    names = [shorten(arm.label, 290, SIZE) for arm in arms]
    spots = place(points, names, obstacles, frame, SIZE)
    for arm, name, at, spot in zip(arms, names, points, spots, strict=True):
        if spot.leader:
            near = min(max(at[0], spot.box.left), spot.box.right), min(max(at[1], spot.box.top), spot.box.bottom)
            drawing.line(*at, *near, "leader")
        drawing.text(spot.x, spot.y, name, size=SIZE, anchor=spot.anchor, style=f"{arm.kind} halo")


def _axes(drawing: Drawing, x: Scale, y: Scale, height: float, metric: Metric) -> None:
    for tick in y.ticks:
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        drawing.text(LEFT - 8, y(tick) + 4, y.label(tick), anchor="end", style="muted")
    for tick in x.ticks:
        drawing.line(x(tick), height - BELOW, x(tick), height - BELOW + 5, "axis")
        drawing.text(x(tick), height - BELOW + 19, x.label(tick), anchor="middle", style="muted")
    drawing.line(LEFT, height - BELOW, WIDTH - RIGHT, height - BELOW, "axis")
    title = shorten(axis_title(metric), height - BELOW - TOP, SIZE)
    drawing.turned(16, (TOP + height - BELOW) / 2, title, style="muted")
    drawing.text(
        (LEFT + WIDTH - RIGHT) / 2,
        height - BELOW + 38,
        "Latency of one forward pass (ms, median)",
        anchor="middle",
        style="muted",
    )


def _legend(drawing: Drawing, height: float, kinds: set[str]) -> None:
    words = {"plain": "plain network", "attention": "variant", "control": "control"}
    at = LEFT + 4
    for kind in (kind for kind in words if kind in kinds):
        drawing.mark(at, height - 16, kind)
        drawing.text(at + 11, height - 12, words[kind], style="muted")
        at += 24 + len(words[kind]) * SIZE * 0.54
    note = "bars: 95 % interval over seeds, spread of latency; arrow head: goes on"
    drawing.text(WIDTH - RIGHT, height - 12, note, anchor="end", style="muted")


def _in_words(arm: ArmSummary, found: Estimate, time: Times, metric: Metric) -> str:
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({metric.number(found.low)} to {metric.number(found.high)})"
    return (
        f"{arm.label}: {metric.name} {metric.format(found.mean)}{interval}, "
        f"latency {time.median:.3g} ms ({time.low:.3g} to {time.high:.3g})."
    )
