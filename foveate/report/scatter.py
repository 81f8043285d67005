"""Accuracy against latency: what each arm gives and what it costs, with an interval in both directions."""

from typing import Any

from foveate.report.drawing import Drawing, Scale, bounds, scale, shorten
from foveate.report.labels import Box, place

WIDTH, SIZE = 960.0, 12.0
LEFT, RIGHT, TOP, BELOW = 62.0, 20.0, 18.0, 78.0


def accuracy_latency(summary: dict[str, Any]) -> Drawing:
    """One mark for each arm with a finished run and a measured latency; plain is drawn through as reference lines."""
    arms = [arm for arm in summary["arms"] if arm["accuracy"] and arm["cost"]["latency_ms"]]
    height = min(640.0, 360.0 + 14 * len(arms))
    drawing = Drawing("accuracy-latency", WIDTH, height, "Accuracy against latency, one mark for each network")
    if not arms:
        drawing.height, drawing.description = 90, "Nothing to draw: no arm has both an accuracy and a latency."
        drawing.text(WIDTH / 2, 50, drawing.description, size=14, anchor="middle", style="muted")
        return drawing
    drawing.description = " ".join(_in_words(arm) for arm in arms)

    means = [100 * arm["accuracy"]["mean"] for arm in arms]
    ends = [100 * end for arm in arms for end in (arm["accuracy"]["low"], arm["accuracy"]["high"]) if end is not None]
    low, high = bounds(means, ends, margin=0.1)
    y = scale(max(low, 0.0), min(high, 100.0 + 0.02 * (high - low)), height - BELOW, TOP)
    times = [arm["cost"]["latency_ms"] for arm in arms]
    low, high = bounds([t["median"] for t in times], [t[key] for t in times for key in ("low", "high")], margin=0.08)
    x = scale(max(low, 0.0), high, LEFT, WIDTH - RIGHT, 7)
    _axes(drawing, x, y, height)

    points, obstacles = [], []
    for arm in arms:
        time, found, kind = arm["cost"]["latency_ms"], arm["accuracy"], arm["kind"]
        at = x(time["median"]), y(100 * found["mean"])
        points.append(at)
        if kind == "plain":
            drawing.line(LEFT, at[1], WIDTH - RIGHT, at[1], "reference")
            drawing.line(at[0], TOP, at[0], height - BELOW, "reference")
        drawing.interval(x, time["low"], time["high"], at[1], kind)
        obstacles.append(Box(x(x.clip(time["low"])), at[1] - 2, x(x.clip(time["high"])), at[1] + 2))
        if found["low"] is not None:
            drawing.interval(y, 100 * found["low"], 100 * found["high"], at[0], kind, upright=True)
            top, bottom = y(y.clip(100 * found["high"])), y(y.clip(100 * found["low"]))
            obstacles.append(Box(at[0] - 2, top, at[0] + 2, bottom))
    for arm, at in zip(arms, points, strict=True):
        drawing.mark(*at, arm["kind"], _in_words(arm))
    _names(drawing, arms, points, obstacles, Box(LEFT + 2, TOP, WIDTH - RIGHT, height - BELOW - 2))
    _legend(drawing, height, {arm["kind"] for arm in arms})
    return drawing


def _names(
    drawing: Drawing,
    arms: list[dict[str, Any]],
    points: list[tuple[float, float]],
    obstacles: list[Box],
    frame: Box,
) -> None:
    names = [shorten(arm["label"], 290, SIZE) for arm in arms]
    spots = place(points, names, obstacles, frame, SIZE)
    for arm, name, at, spot in zip(arms, names, points, spots, strict=True):
        if spot.leader:
            near = min(max(at[0], spot.box.left), spot.box.right), min(max(at[1], spot.box.top), spot.box.bottom)
            drawing.line(*at, *near, "leader")
        drawing.text(spot.x, spot.y, name, size=SIZE, anchor=spot.anchor, style=f"{arm['kind']} halo")


def _axes(drawing: Drawing, x: Scale, y: Scale, height: float) -> None:
    for tick in y.ticks:
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        drawing.text(LEFT - 8, y(tick) + 4, y.label(tick), anchor="end", style="muted")
    for tick in x.ticks:
        drawing.line(x(tick), height - BELOW, x(tick), height - BELOW + 5, "axis")
        drawing.text(x(tick), height - BELOW + 19, x.label(tick), anchor="middle", style="muted")
    drawing.line(LEFT, height - BELOW, WIDTH - RIGHT, height - BELOW, "axis")
    drawing.turned(16, (TOP + height - BELOW) / 2, "Accuracy on test images (%)", style="muted")
    drawing.text(
        (LEFT + WIDTH - RIGHT) / 2,
        height - BELOW + 38,
        "Latency of one forward pass (ms, median)",
        anchor="middle",
        style="muted",
    )


def _legend(drawing: Drawing, height: float, kinds: set[str]) -> None:
    words = {"plain": "plain network", "attention": "with attention", "control": "plain network widened to equal cost"}
    at = LEFT + 4
    for kind in (kind for kind in words if kind in kinds):
        drawing.mark(at, height - 16, kind)
        drawing.text(at + 11, height - 12, words[kind], style="muted")
        at += 24 + len(words[kind]) * SIZE * 0.54
    note = "bars: 95 % interval over seeds, spread of latency; arrow head: goes on"
    drawing.text(WIDTH - RIGHT, height - 12, note, anchor="end", style="muted")


def _in_words(arm: dict[str, Any]) -> str:
    found, time = arm["accuracy"], arm["cost"]["latency_ms"]
    interval = "" if found["low"] is None else f" ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
    return (
        f"{arm['label']}: accuracy {100 * found['mean']:.1f} %{interval}, "
        f"latency {time['median']:.3g} ms ({time['low']:.3g} to {time['high']:.3g})."
    )
