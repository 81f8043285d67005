"""Studies of made-up scores, judged."""

from collections.abc import Sequence
from typing import Any

from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Score, Setting, Summary

RATE = Metric("mIoU")
PLAIN = [0.80, 0.82, 0.81, 0.83, 0.80, 0.82, 0.81, 0.84]
GAIN = [0.012, 0.014, 0.013, 0.015, 0.012, 0.013, 0.014, 0.012]
NOISE = [0.010, -0.012, 0.003, 0.004, -0.005, 0.010, 0.0, -0.009]
NAN = float("nan")
Rows = dict[str, Sequence[float | None]]


def judged(rows: Rows, *, controls: dict[str, Sequence[float]] | None = None, **more: Any) -> Summary:
    """label → one score a seed (None: missing, nan: diverged); "none" is plain; controls: variant → its control's."""
    controls = controls or {}
    arms = [Arm(label, "plain" if label == "none" else "attention") for label in rows]
    arms += [Arm(f"wide {label}", "control", matches=(label,)) for label in controls]
    table = {**rows, **{f"wide {label}": values for label, values in controls.items()}}
    scores = [
        Score(label, seed, "mIoU", value)
        for label, values in table.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    fields = {name: more.pop(name) for name in ("matters", "compare", "overlap") if name in more}
    seeds = tuple(range(max(map(len, table.values()))))
    setting = Setting(network="net", seeds=seeds, control="size" if controls else "none", **fields)
    return analyse(setting, [RATE], arms, scores, **more)


def plus(gains: Sequence[float], seeds: int = 5) -> list[float]:
    return [plain + gain for plain, gain in zip(PLAIN[:seeds], gains, strict=False)]


def plain(seeds: int = 5) -> list[float]:
    return PLAIN[:seeds]


def twice(gains: Sequence[float]) -> list[float]:
    return [2 * gain for gain in gains]


BETTER, WORSE = plus(GAIN), plus([-gain for gain in GAIN])
SAME = plus([0.0004, -0.0003, 0.0001, 0.0002, -0.0004])
OPEN = plus(NOISE)
