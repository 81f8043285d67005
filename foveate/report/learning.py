"""Learning curves: a small panel for each arm on shared axes, the plain network behind each for comparison."""

from typing import Any

from foveate.report.drawing import Drawing, Scale, bounds, scale, shorten

WIDTH, GAP, LEFT, TOP, SIZE = 960.0, 16.0, 54.0, 8.0, 12.0
PANEL_HEIGHT, HEAD, FOOT = 150.0, 26.0, 22.0
METRICS = {
    "test_accuracy": ("Accuracy on test images (%)", 100.0),
    "test_loss": ("Loss on test images (nats)", 1.0),
    "train_loss": ("Loss on training images (nats)", 1.0),
}


def learning_curves(summary: dict[str, Any], metric: str = "test_accuracy") -> Drawing:
    """The mean over seeds with the range from lowest to highest seed, epoch by epoch."""
    title, factor = METRICS[metric]
    arms = [arm for arm in summary["arms"] if summary["curves"].get(arm["label"], {}).get(metric)]
    lines = {arm["label"]: summary["curves"][arm["label"]][metric] for arm in arms}
    rows = max(1, -(-len(arms) // 4))
    columns = max(2, -(-len(arms) // rows))
    height = TOP + rows * (HEAD + PANEL_HEIGHT + FOOT) + 26
    drawing = Drawing(
        f"curves-{metric.replace('_', '-')}", WIDTH, height, f"{title} by epoch, one panel for each network"
    )
    if not arms:
        drawing.height, drawing.description = 90, "Nothing to draw: no learning curve was recorded."
        drawing.text(WIDTH / 2, 50, drawing.description, size=14, anchor="middle", style="muted")
        return drawing
    drawing.description = " ".join(_in_words(label, line, factor) for label, line in lines.items())
    epochs = [point["epoch"] for line in lines.values() for point in line]
    settled = min(epochs) + 0.25 * (max(epochs) - min(epochs))  # the first climb would press the rest flat
    shown = [point for line in lines.values() for point in line if point["epoch"] >= settled]
    low, high = bounds([factor * point[key] for point in shown for key in ("low", "high")], [], margin=0.06)
    panel = (WIDTH - LEFT - GAP * columns) / columns
    plain = lines.get(summary["plain"])
    for number, arm in enumerate(arms):
        left = LEFT + (number % columns) * (panel + GAP)
        top = TOP + (number // columns) * (HEAD + PANEL_HEIGHT + FOOT) + HEAD
        y = scale(max(low, 0.0), high, top + PANEL_HEIGHT, top, 4)
        x = scale(min(epochs), max(epochs), left, left + panel, 4)
        _frame(drawing, x, y, number % columns == 0)
        drawing.text(left, top - 9, shorten(arm["label"], panel, SIZE), style=arm["kind"])
        drawing.clip(left, top, panel, PANEL_HEIGHT)
        if plain and arm["kind"] != "plain":
            drawing.path([(x(p["epoch"]), y(factor * p["mean"])) for p in plain], "plain curve thin")
        _curve(drawing, lines[arm["label"]], x, y, factor, arm["kind"])
        drawing.unclip()
    drawing.turned(10, (height - 26) / 2, title, style="muted")
    foot = (
        "Epoch (the first may lie outside). Line: mean over seeds; band: lowest to highest; thin grey: plain network."
    )
    drawing.text(WIDTH - GAP, height - 8, foot, anchor="end", style="muted")
    return drawing


def _frame(drawing: Drawing, x: Scale, y: Scale, first: bool) -> None:
    for tick in y.ticks:
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        if first:
            drawing.text(x.start - 8, y(tick) + 4, y.label(tick), size=11, anchor="end", style="muted")
    for tick in (tick for tick in x.ticks if tick == int(tick)):
        drawing.text(x(tick), y.start + 16, f"{tick:.0f}", size=11, anchor="middle", style="muted")
    drawing.line(x.start, y.start, x.end, y.start, "axis")


def _curve(drawing: Drawing, line: list[dict[str, Any]], x: Scale, y: Scale, factor: float, role: str) -> None:
    upper = [(x(p["epoch"]), y(factor * p["high"])) for p in line]
    lower = [(x(p["epoch"]), y(factor * p["low"])) for p in reversed(line)]
    drawing.path(upper + lower, f"{role} band", closed=True)
    if len(line) == 1:
        drawing.mark(x(line[0]["epoch"]), y(factor * line[0]["mean"]), role, size=3)
    drawing.path([(x(p["epoch"]), y(factor * p["mean"])) for p in line], f"{role} curve")


def _in_words(label: str, line: list[dict[str, Any]], factor: float) -> str:
    first, last = line[0], line[-1]
    return (
        f"{label}: from {factor * first['mean']:.3g} at epoch {first['epoch']} "
        f"to {factor * last['mean']:.3g} at epoch {last['epoch']}."
    )
