"""A summary as JSON, and numbers as a person reads them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from foveate.metric import Metric, significant


def to_json(value: Any) -> Any:
    """A summary, or any part of it, as values for `json.dumps(..., allow_nan=False)`: None for nan and infinity."""
    if value is None or isinstance(value, (str, int)):  # True and False are int
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_json(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json(entry) for entry in value]
    return to_json(value.item()) if hasattr(value, "item") else str(value)


def p_text(p: float) -> str:
    """ "p = 0.27", or "p < 0.001"."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def signed(metric: Metric, values: Sequence[float]) -> list[str]:
    """Differences as a person reads them: signed, with equal decimals, nothing but zero shown as zero."""
    scaled = [metric.factor * value for value in values]
    sizes = [abs(value) for value in scaled if value]
    if sizes and metric.shown == "plain" and not 1e-4 <= max(sizes) < 1e7:
        texts = [f"{value:+.2e}" if value else "0" for value in scaled]
    else:
        digits = _decimals(sizes, metric)
        texts = [f"{value:+.{digits}f}" for value in scaled]
        texts = [text.lstrip("+-") if float(text) == 0 else text for text in texts]
    return [text.replace("-", "−") for text in texts]


def _decimals(sizes: list[float], metric: Metric) -> int:
    """One to three decimals of points; of plain numbers three digits of the largest, more where the least needs it."""
    if not sizes:
        return 1 if metric.shown == "percent" else 0
    smallest, largest = min(sizes), max(sizes)
    least = 1 if metric.shown == "percent" else max(0, 2 - math.floor(math.log10(largest)))
    return next((digits for digits in (least, least + 1) if smallest >= 0.5 * 10.0**-digits), least + 2)


def size_of(metric: Metric, size: float) -> str:
    """A difference without its sign, with its unit: "1.1 points", "0.31 px"."""
    size = abs(size) * metric.factor
    if metric.shown == "percent":
        text = f"{size:.0f}" if size >= 10 else f"{size:.{_decimals([size] if size else [], metric)}f}"
    else:
        text = significant(size, 2)
    return f"{text} {metric.difference_unit}".strip()
