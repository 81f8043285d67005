"""Rows of the calibration's tables: rates with their intervals, what is wanted of them, and the tables as Markdown."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Row:
    """A line of the table: how often it happened in how many studies, and what is wanted: "at most 5 %", …"""

    part: str
    case: str
    happened: int
    studies: int
    wanted: str
    low: float
    high: float
    holds: bool | None

    @property
    def rate(self) -> float:
        return self.happened / self.studies


def row(part: str, case: str, happened: Array, wanted: str) -> Row:
    """wanted: "≤ 5 %" holds where the interval ends at 6 % or below; "93 to 97 %" where it reaches into that."""
    from scipy import special

    k, n = int(np.sum(happened)), int(np.size(happened))
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, 0.025))
    high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 0.975))
    return row_of(part, case, k / n, low, high, n, wanted)


def row_of(part: str, case: str, rate: float, low: float, high: float, studies: int, wanted: str) -> Row:
    """A rate whose interval is known."""
    numbers = [float(word) / 100 for word in wanted.replace("≤", "").replace("%", "").split() if word != "to"]
    holds = None
    if wanted.startswith("≤"):
        holds = high <= numbers[0] + 0.01
    elif numbers:
        holds = low <= numbers[-1] and high >= numbers[0]
    return Row(part, case, round(rate * studies), studies, wanted, low, high, holds)


def markdown(rows: list[Row], about: dict[str, Any]) -> str:
    lines = [
        "# Calibration of the verdicts",
        "",
        f"`{about['command']}`: {about['seconds']:.0f} s. Rates in percent with their 95 % interval; what a row is "
        "required to be, if anything, stands beside it. The other rows show what each rule is there for.",
        "",
        *about["notes"],
        "",
    ]
    for part in dict.fromkeys(one.part for one in rows):
        lines += [f"## {part[0].upper()}{part[1:]}", "", "| case | rate, % | interval | studies | required | |"]
        lines.append("|---|---|---|---|---|---|")
        for one in (one for one in rows if one.part == part):
            mark = {True: "holds", False: "**does not hold**", None: ""}[one.holds]
            numbers = f"{100 * one.rate:.1f} | {100 * one.low:.1f} to {100 * one.high:.1f} | {one.studies:,}"
            lines.append(f"| {one.case} | {numbers} | {one.wanted} | {mark} |")
        lines.append("")
    return "\n".join(lines)
