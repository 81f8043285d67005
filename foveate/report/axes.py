"""Axes of a metric: their title, and the range that its values can have."""

from collections.abc import Sequence

from foveate.report.drawing import bounds
from foveate.spec import Metric


def axis_title(metric: Metric, items: str = "held-out") -> str:
    """ "error on held-out items (px, lower is better)" """
    inside = [metric.shown_unit] if metric.shown_unit else []
    inside += ["lower is better"] if metric.better == "lower" else []
    return f"{metric.name} on {items} items" + (f" ({', '.join(inside)})" if inside else "")


def metric_bounds(
    marks: Sequence[float], ends: Sequence[float], *, margin: float, highest: float | None = None
) -> tuple[float, float]:
    """As `bounds`, but not below 0 where no mark is, and little above `highest`, what the metric can reach."""
    low, high = bounds(marks, ends, margin=margin)
    if min(marks) >= 0:
        low = max(low, 0.0)
    if highest is not None:
        high = min(high, highest + 0.02 * (high - low))
    return low, high


def highest_of(metric: Metric) -> float | None:
    """The largest value that a fraction can have, as it is shown; None for other units."""
    return metric.factor if metric.unit == "fraction" else None
