"""An arm's gain against the plain network's score, one mark for each data set, with the line of the mixed model."""

from foveate.report.axes import highest_of, metric_bounds
from foveate.report.drawing import Drawing, bounds, scale, shorten
from foveate.spec import Metric
from foveate.summary import Moderation

WIDTH, HEIGHT, SIZE = 760.0, 360.0, 12.0
LEFT, RIGHT, TOP, BELOW = 62.0, 20.0, 18.0, 60.0


def moderation_drawing(found: Moderation, metric: Metric, number: int = 0) -> Drawing:
    """Gains with their intervals over the plain network's scores; the line passes through the mean of both.

    number: of the drawing, unique on its page.
    """
    factor, sets = metric.factor, found.sets
    drawing = Drawing(f"moderation-{number}", WIDTH, HEIGHT, f"Gain of {found.label} against the plain network's score")
    drawing.description = " ".join(
        f"{one.name}: plain {metric.format(one.base)}, gain {factor * one.gain:+.3g}." for one in sets
    )
    drawing.reading = f"{found.text[0].upper()}{found.text[1:]}."
    bases, gains = [factor * one.base for one in sets], [factor * one.gain for one in sets]
    ends = [factor * end for one in sets for end in (one.low, one.high) if end is not None]
    y = scale(*bounds([*gains, 0.0], ends, margin=0.1), HEIGHT - BELOW, TOP)
    x = scale(*metric_bounds(bases, [], margin=0.08, highest=highest_of(metric)), LEFT, WIDTH - RIGHT, 7)
    for tick in y.ticks:
        drawing.line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")
        drawing.text(LEFT - 8, y(tick) + 4, y.label(tick), anchor="end", style="muted")
    for tick in x.ticks:
        drawing.line(x(tick), HEIGHT - BELOW, x(tick), HEIGHT - BELOW + 5, "axis")
        drawing.text(x(tick), HEIGHT - BELOW + 19, x.label(tick), anchor="middle", style="muted")
    drawing.line(LEFT, HEIGHT - BELOW, WIDTH - RIGHT, HEIGHT - BELOW, "axis")
    drawing.line(LEFT, y(0.0), WIDTH - RIGHT, y(0.0), "reference")
    drawing.path([(x(at), y(_line(found, at / factor) * factor)) for at in (min(bases), max(bases))], "attention curve")
    for one in sets:
        at = x(factor * one.base)
        if one.low is not None and one.high is not None:
            drawing.interval(y, factor * one.low, factor * one.high, at, "attention", upright=True)
        drawing.mark(at, y(factor * one.gain), "attention", f"{one.name}: {factor * one.gain:+.3g}")
    unit = f" ({metric.difference_unit})" if metric.difference_unit else ""
    drawing.turned(16, (TOP + HEIGHT - BELOW) / 2, f"gain{unit}, positive is better", style="muted")
    shown = f" ({metric.shown_unit})" if metric.shown_unit else ""
    title = shorten(f"{metric.name} of the plain network{shown}", WIDTH - LEFT - RIGHT, SIZE)
    drawing.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BELOW + 38, title, anchor="middle", style="muted")
    drawing.data = [("data set", f"plain {metric.name}", "gain", "low", "high")]
    drawing.data += [(one.name, one.base, one.gain, one.low, one.high) for one in sets]
    return drawing


def _line(found: Moderation, base: float) -> float:
    return found.gain + found.slope * (base - found.base)
