"""What runs found beside their metrics: confusion, curves of precision by recall, what may be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DETAILS = "details.json"  # in the folder of a run


@dataclass(frozen=True)
class ArmDetails:
    """Of one arm.

    Attributes:
        seeds: of its runs that kept something.
        confused: names of the rows and columns of the confusion.
        confusion: items of each true class (rows) by predicted class, summed over seeds.
        curves: class → precision at evenly spaced recalls from 0 to 1, mean over seeds.
        findings: what may be wrong with a network that has learned nothing, with the number of seeds.
    """

    label: str
    seeds: tuple[int, ...]
    confused: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    curves: dict[str, tuple[float, ...]]
    findings: tuple[str, ...]

    @property
    def mean_curve(self) -> tuple[float, ...]:
        """The mean over classes; () without curves."""
        return tuple(sum(values) / len(values) for values in zip(*self.curves.values(), strict=True))


def arm_details(label: str, runs: Mapping[int, Mapping[str, Any]]) -> ArmDetails:
    """Of an arm, from what its runs wrote: seed → {"confused", "confusion", "curves", "findings"}."""
    kept = list(runs.values())
    confused = next((tuple(one["confused"]) for one in kept if one["confused"]), ())
    tables = [one["confusion"] for one in kept if tuple(one["confused"]) == confused and confused]
    confusion = tuple(tuple(sum(values) for values in zip(*rows, strict=True)) for rows in zip(*tables, strict=True))
    names = dict.fromkeys(name for one in kept for name in one["curves"])
    curves = {name: _mean([one["curves"][name] for one in kept if name in one["curves"]]) for name in names}
    lines = [line for one in kept for line in one["findings"]]
    findings = tuple(f"{line} ({lines.count(line)} of {len(kept)} seeds)" for line in dict.fromkeys(lines))
    return ArmDetails(label, tuple(runs), confused, confusion, curves, findings)


def _mean(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(values) / len(values) for values in zip(*curves, strict=True))
