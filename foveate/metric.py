"""A figure that is measured: its unit, which direction is better, and how a person reads it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value: nothing may be changed, nothing unknown may be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Frozen):
    """A figure that a task or a trainer measures: what it is called, its unit, which direction is better.

    Attributes:
        name: as in results and tables, such as "accuracy", "mIoU", "error".
        unit: of the values: "fraction", "px", "m/s", "nats", …; "" for a number without one.
        better: "higher" or "lower"; "neither" for a figure that is shown and never judged.
        shown: "percent" multiplies by 100 wherever a person reads it, and differences are points; "plain" does not.
            Default: "percent" for fractions.
        of: the class, size or other part of the set that it is measured on; "": the whole.
        remade_by: of a metric of the whole set that is no mean over items, what makes it again of what a run keeps:
            "detections:FIGURE" of `foveate.detections`, or "my.py:function" of one's own; "": its sums, if it has some.
    """

    name: str = Field(min_length=1, max_length=60, pattern=r"^[\w@./%+-][\w @./%+()\[\]:-]*$")
    unit: str = Field("fraction", max_length=30)
    better: Literal["higher", "lower", "neither"] = "higher"
    shown: Literal["percent", "plain"] = "percent"
    of: str = Field("", max_length=200)
    remade_by: str = ""

    def __init__(
        self, name: str = "", unit: str = "fraction", better: str = "higher", shown: str = "", **rest: Any
    ) -> None:
        shown = shown or ("percent" if unit == "fraction" else "plain")
        super().__init__(**{"name": name, "unit": unit, "better": better, "shown": shown, **rest})

    @property
    def factor(self) -> float:
        """What a value is multiplied by where a person reads it."""
        return 100.0 if self.shown == "percent" else 1.0

    @property
    def shown_unit(self) -> str:
        """Unit of a value where a person reads it: "%", "px", …"""
        return "%" if self.shown == "percent" else "" if self.unit == "fraction" else self.unit

    @property
    def difference_unit(self) -> str:
        """Unit of a difference where a person reads it: "points", "px", …"""
        if self.shown == "percent" or self.unit == "%":
            return "points"
        return "" if self.unit == "fraction" else self.unit

    def format(self, value: float) -> str:
        """A value as a person reads it, with its unit: "84.2 %", "1.37 px"."""
        return f"{self.number(value)} {self.shown_unit}".strip()

    def number(self, value: float) -> str:
        """The same without the unit: one decimal of a percentage, else three significant digits."""
        value = self.factor * value
        if self.shown == "percent":
            return f"{value:.1f}".replace("-", "−")
        return significant(value).replace("-", "−")

    def gain(self, ours: float, theirs: float) -> float:
        """How much better `ours` is than `theirs`, in the metric's unit: positive is better, whatever the direction."""
        return theirs - ours if self.better == "lower" else ours - theirs


def significant(value: float, digits: int = 3) -> str:
    """The value with this many digits, no exponent between 1e-4 and 1e7: 0.01234 → "0.0123", 1234.5 → "1234"."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    whole = len(str(int(abs(float(f"{value:.{digits - 1}e}"))))) if abs(value) >= 1 else 0
    if whole:
        return f"{value:.{max(digits - whole, 0)}f}"
    text = f"{value:.{digits - 1}e}"
    return f"{value:.{digits - 1 - int(text.partition('e')[2])}f}"
