"""What corruptions of the test images cost each arm of a study, as values."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foveate.metric import Metric
from foveate.summary.rows import Score

_ROW = re.compile(r"(?P<metric>.+) under (?P<corruption>\w+) (?P<severity>[1-5])")


def corrupted_row(metric: str, corruption: str, severity: int) -> str:
    """What a run's row of this metric on images with this corruption is called."""
    return f"{metric} under {corruption} {severity}"


def is_corrupted_row(name: str) -> bool:
    """Is it such a row?"""
    return _ROW.fullmatch(name) is not None


@dataclass(frozen=True)
class CorruptedScores:
    """The scores on corrupted test images.

    Attributes:
        metric: of the scores.
        corruptions: their names, in the order of the study.
        severities: all that were measured.
        values: arm → corruption → severity → mean over seeds.
    """

    metric: Metric
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    values: Mapping[str, Mapping[str, Mapping[int, float]]]

    def of_corruption(self, arm: str, corruption: str) -> float | None:
        """Mean over its severities; None: the arm has none."""
        return _mean(self.values.get(arm, {}).get(corruption, {}).values())

    def of_severity(self, arm: str, severity: int) -> float | None:
        """Mean over the corruptions that were measured at this severity; None: the arm has none."""
        found = self.values.get(arm, {}).values()
        return _mean(values[severity] for values in found if severity in values)


def corrupted_scores(metric: Metric, rows: Iterable[Score]) -> CorruptedScores | None:
    """From the rows of a study's runs; None where nothing was corrupted."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    corruptions: dict[str, None] = {}
    severities: set[int] = set()
    for row in rows:
        if (name := _ROW.fullmatch(row.metric)) is None or row.value is None:
            continue
        corruption, severity = name["corruption"], int(name["severity"])
        corruptions[corruption] = None
        severities.add(severity)
        found.setdefault(row.label, {}).setdefault(corruption, {}).setdefault(severity, []).append(row.value)
    if not found:
        return None
    values = {
        arm: {one: {step: sum(seeds) / len(seeds) for step, seeds in steps.items()} for one, steps in of_arm.items()}
        for arm, of_arm in found.items()
    }
    return CorruptedScores(metric, tuple(corruptions), tuple(sorted(severities)), values)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
