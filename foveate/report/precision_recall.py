"""Precision by recall of detectors: a small panel for each arm on shared axes, the plain network behind each."""

from foveate.report.drawing import Drawing, Scale, scale, shorten
from foveate.summary import Summary

WIDTH, GAP, LEFT, TOP, SIZE = 960.0, 16.0, 54.0, 8.0, 12.0
PANEL_HEIGHT, HEAD, FOOT = 180.0, 26.0, 22.0


def precision_recall(summary: Summary) -> Drawing | None:
    """Curves of each class and their mean, over seeds; None where no arm has any."""
    found = {one.label: one for one in summary.details if one.curves}
    arms = [arm for arm in summary.arms if arm.label in found]
    if not arms:
        return None
    rows = max(1, -(-len(arms) // 4))
    columns = max(2, -(-len(arms) // rows))
    height = TOP + rows * (HEAD + PANEL_HEIGHT + FOOT) + 26
    drawing = Drawing("precision-recall", WIDTH, height, "Precision by recall, one panel for each network")
    panel = (WIDTH - LEFT - GAP * columns) / columns
    plain = found.get(summary.plain)
    words = []
    for number, arm in enumerate(arms):
        own = found[arm.label]
        left = LEFT + (number % columns) * (panel + GAP)
        top = TOP + (number // columns) * (HEAD + PANEL_HEIGHT + FOOT) + HEAD
        y, x = scale(0, 100, top + PANEL_HEIGHT, top, 4), scale(0, 100, left, left + panel, 4)
        for tick in y.ticks:
            drawing.line(x.start, y(tick), x.end, y(tick), "grid")
            if number % columns == 0:
                drawing.text(x.start - 8, y(tick) + 4, y.label(tick), size=11, anchor="end", style="muted")
        for tick in x.ticks:
            anchor = "start" if tick == 0 else "end" if tick == 100 else "middle"
            drawing.text(x(tick), y.start + 16, x.label(tick), size=11, anchor=anchor, style="muted")
        drawing.line(x.start, y.start, x.end, y.start, "axis")
        drawing.text(left, top - 9, shorten(arm.label, panel, SIZE), style=arm.kind)
        for curve in own.curves.values() if len(own.curves) > 1 else ():
            drawing.path(_points(curve, x, y), f"{arm.kind} curve thin")
        if plain and arm.kind != "plain":
            drawing.path(_points(plain.mean_curve, x, y), "plain curve")
        mean = own.mean_curve
        drawing.path(_points(mean, x, y), f"{arm.kind} curve")
        words.append(f"{arm.label}: {100 * mean[len(mean) // 2]:.0f} % precision at a recall of 50 %.")
    drawing.description = " ".join(words)
    middle = {arm.label: found[arm.label].mean_curve for arm in arms}
    best = max(middle, key=lambda label: middle[label][len(middle[label]) // 2])
    drawing.reading = (
        f"At a recall of 50 % {best} has the highest precision, "
        f"{100 * middle[best][len(middle[best]) // 2]:.0f} %, mean over classes."
    )
    drawing.data = [("variant", "recall", "precision")]
    drawing.data += [
        (label, place / (len(curve) - 1), value) for label, curve in middle.items() for place, value in enumerate(curve)
    ]
    drawing.turned(10, (height - 26) / 2, "precision (%)", style="muted")
    foot = "Recall, %. Thick: mean over classes and seeds, grey: of the plain network; thin: each class."
    drawing.text(WIDTH - GAP, height - 8, foot, anchor="end", style="muted")
    return drawing


def _points(curve: tuple[float, ...], x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [(x(100 * place / (len(curve) - 1)), y(100 * value)) for place, value in enumerate(curve)]
