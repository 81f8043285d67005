"""A budget of latency, such as "+5%" or "12ms"."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LatencyBudget:
    """The most that a network may take: times the plain network's latency, or milliseconds a batch; one is None."""

    text: str
    ratio: float | None = None
    ms: float | None = None

    def keeps(self, ratio: float, ms: float) -> bool:
        """Does a network with this latency, as a ratio to plain and in milliseconds, keep the budget?"""
        return ratio <= self.ratio if self.ratio is not None else self.ms is not None and ms <= self.ms

    def check_plain(self, ms: float) -> None:
        """Raises: ValueError: the plain network itself, with this latency, is over the budget."""
        if self.ms is not None and ms > self.ms:
            least = f"{ms:.3g} ms or more, which the plain network takes"
            raise ValueError(f"--latency-budget: wanted {least}; got {self.text}")


def latency_budget(text: str) -> LatencyBudget:
    """ "+5%" or "5%": 5 % more than plain; "12ms": a batch of 32 (or of the training, if smaller) in 12 milliseconds.

    Raises: ValueError: another format, or less than the plain network takes.
    """
    found = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\s*(%|ms)\s*", text)
    if found is None or (found[2] == "ms" and found[1][0] in "+-"):
        raise ValueError(f'--latency-budget: wanted "+5%" over plain or "12ms" a batch; got {text!r}')
    number = float(found[1])
    if found[2] == "ms":
        return LatencyBudget(f"{number:g} ms", ms=number)
    if number < 0:
        raise ValueError(f"--latency-budget: wanted 0 % or more over plain, which attention is added to; got {text!r}")
    return LatencyBudget(f"+{number:g} %", ratio=1 + number / 100)
