"""Learning curves over seeds."""

import math
from collections import defaultdict
from collections.abc import Iterable

from foveate.summary import CurvePoint, Logged


def curves_of(rows: Iterable[Logged]) -> dict[str, dict[str, tuple[CurvePoint, ...]]]:
    """label → metric → one point an epoch: the mean over seeds and the range from lowest to highest seed."""
    gathered: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if row.value is not None and math.isfinite(row.value):
            gathered[row.label][row.metric][int(row.epoch)].append(float(row.value))
    return {
        label: {
            metric: tuple(
                CurvePoint(epoch, math.fsum(values) / len(values), min(values), max(values), len(values))
                for epoch, values in sorted(epochs.items())
            )
            for metric, epochs in metrics.items()
        }
        for label, metrics in gathered.items()
    }
