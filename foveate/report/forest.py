"""Paired differences: one row an arm, the mean with its 95 % interval, every seed as a faint dot."""

from typing import Any

from foveate.report.drawing import Drawing, Scale, bounds, scale, shorten, width_of

WIDTH, ROW, TOP, SIZE, GAP = 960.0, 34.0, 34.0, 12.0, 34.0


def forest(summary: dict[str, Any]) -> Drawing:
    """Left the differences to the plain network, right (where there are controls) those to the equal-cost control."""
    arms = [arm for arm in summary["arms"] if arm["kind"] != "plain"]
    arms.sort(key=lambda arm: arm["kind"] == "control")
    height = TOP + ROW * max(len(arms), 1) + 74
    drawing = Drawing("paired-differences", WIDTH, height, "Difference in accuracy, paired by seed, in points")
    keys = [key for key in ("against_plain", "against_control") if any(arm[key] for arm in arms)]
    if not keys:
        drawing.height, drawing.description = 90, "Nothing to draw: no seed has finished on both of a pair."
        drawing.text(WIDTH / 2, 50, drawing.description, size=14, anchor="middle", style="muted")
        return drawing
    drawing.description = " ".join(_in_words(arm) for arm in arms)

    names = min(300.0, max(110.0, 16 + max(width_of(arm["label"], SIZE) for arm in arms)))
    for row, arm in enumerate(arms):
        middle = TOP + ROW * (row + 0.5)
        drawing.text(names - 12, middle + 4, shorten(arm["label"], names - 14, SIZE), anchor="end", style=arm["kind"])
        drawing.line(names, TOP + ROW * (row + 1), WIDTH - 12, TOP + ROW * (row + 1), "grid")
    panel = (WIDTH - names - 16 - GAP * (len(keys) - 1)) / len(keys)
    x = _shared_scale(arms, keys, panel)
    heads = {"against_plain": "against the plain network", "against_control": "against the equal-cost control"}
    for column, key in enumerate(keys):
        _panel(drawing, arms, key, heads[key], x, names + column * (panel + GAP))
    foot = "filled: holds after Holm's correction; open: does not. Bars: 95 % paired-t interval. Dots: seeds."
    drawing.text(WIDTH - 12, height - 8, foot, anchor="end", style="muted")
    return drawing


def _shared_scale(arms: list[dict[str, Any]], keys: list[str], panel: float) -> Scale:
    found = [arm[key] for arm in arms for key in keys if arm[key]]
    dots = [100 * value for one in found for value in one["differences"]]
    ends = [100 * end for one in found for end in (one["low"], one["high"]) if end is not None]
    low, high = bounds([0.0, *dots], ends, reach=1.5)
    return scale(min(low, -0.05), max(high, 0.05), 0, panel, 6)


def _panel(drawing: Drawing, arms: list[dict[str, Any]], key: str, head: str, x: Scale, left: float) -> None:
    here = Scale(x.low, x.high, left, left + x.end, x.ticks)
    bottom = TOP + ROW * len(arms)
    drawing.text((here.start + here.end) / 2, 18, head, size=13, anchor="middle", style="strong")
    for tick in here.ticks:
        drawing.line(here(tick), TOP, here(tick), bottom, "axis" if here.label(tick) == "0" else "grid")
        sign = "+" if here.label(tick) != "0" and tick > 0 else ""
        drawing.text(here(tick), bottom + 18, sign + here.label(tick), anchor="middle", style="muted")
    drawing.text((here.start + here.end) / 2, bottom + 36, "points of accuracy", anchor="middle", style="muted")
    for row, arm in enumerate(arms):
        middle, one = TOP + ROW * (row + 0.5), arm[key]
        if one is None:
            if not (key == "against_control" and arm["kind"] == "control"):
                none = "no control" if key == "against_control" and not arm["control"] else "no finished pair"
                drawing.text(here(0) + 6, middle + 4, none, size=11, style="muted")
            continue
        if one["low"] is not None:
            drawing.interval(here, 100 * one["low"], 100 * one["high"], middle, arm["kind"])
        for seed, value in zip(one["seeds"], one["differences"], strict=True):
            hint = f"{arm['label']}, seed {seed}: {100 * value:+.2f} points"
            drawing.mark(here(100 * value), middle + 11, arm["kind"], hint, size=2.6, style="seed")
        holds = one["p_holm"] is not None and one["p_holm"] < 0.05
        hint = f"{arm['label']}: {one['text']} points"
        drawing.mark(here(100 * one["mean"]), middle, arm["kind"], hint, style="" if holds else "open")


def _in_words(arm: dict[str, Any]) -> str:
    parts = [
        f"{one['text']} points {words}"
        for one, words in ((arm["against_plain"], "against plain"), (arm["against_control"], "against its control"))
        if one
    ]
    return f"{arm['label']}: {', '.join(parts) or 'nothing finished'}."
