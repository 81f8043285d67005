"""How fast the runs of an arm come to the score that the plain network ends with, paired by seed."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from foveate.spec import Metric
from foveate.summary import ArmSummary, Convergence, Failure, Logged

Curves = dict[str, dict[int, dict[int, float]]]  # label → seed → epoch → score
_NO_NUMBERS = re.compile(r"\b(nan|inf|infinite)\b|diverge")


def diverged(error: str) -> bool:
    """Did a run fail because its losses or scores were no numbers?"""
    return _NO_NUMBERS.search(error.lower()) is not None


def with_convergence(
    arms: Sequence[ArmSummary],
    plain: str,
    metric: Metric,
    curves: Iterable[Logged],
    failed: Sequence[Failure],
    items: Mapping[str, int | None],
) -> tuple[ArmSummary, ...]:
    """The arms, each with its convergence; as they are where the plain network has no curve.

    items: "train", of an epoch, and "batch", of the step that was timed; None: not known.
    """
    scores = _scores(metric, curves)
    finished = {seed for arm in arms if arm.label == plain and arm.score for seed in arm.score.seeds}
    wanted = {seed: of_seed[max(of_seed)] for seed, of_seed in scores.get(plain, {}).items() if seed in finished}
    if not wanted:
        return tuple(arms)
    found = {arm.label: _of_arm(arm, metric, scores.get(arm.label, {}), wanted, failed) for arm in arms}
    of_epoch, of_step = items.get("train"), items.get("batch")
    steps = of_epoch / of_step if of_epoch and of_step else None
    whole = found[plain].median
    return tuple(replace(arm, convergence=_timed(arm, found[arm.label], steps, whole)) for arm in arms)


def _scores(metric: Metric, curves: Iterable[Logged]) -> Curves:
    """Of the validation part where it was logged, else of the test part."""
    rows = [row for row in curves if row.value is not None and math.isfinite(row.value)]
    names = {row.metric for row in rows}
    name = next((one for one in (f"validation_{metric.name}", f"test_{metric.name}") if one in names), None)
    found: Curves = {}
    for row in rows:
        if row.metric == name and row.value is not None:
            found.setdefault(row.label, {}).setdefault(row.seed, {})[row.epoch] = row.value
    return found


def _of_arm(
    arm: ArmSummary,
    metric: Metric,
    scores: Mapping[int, Mapping[int, float]],
    wanted: Mapping[int, float],
    failed: Sequence[Failure],
) -> Convergence:
    lost = {failure.seed: failure.error for failure in failed if failure.label == arm.label}
    finished = set(arm.score.seeds) if arm.score else set()
    seeds = sorted(seed for seed in wanted if seed in lost or (seed in finished and seed in scores))
    epochs = [
        None
        if seed in lost
        else next((e for e, value in sorted(scores[seed].items()) if metric.gain(value, wanted[seed]) >= 0), None)
        for seed in seeds
    ]
    reached = [epoch for epoch in epochs if epoch is not None]
    median = statistics.median(math.inf if epoch is None else epoch for epoch in epochs) if epochs else math.inf
    many = f"{len(reached)} of {len(seeds)} seeds"
    return Convergence(
        seeds=tuple(seeds),
        epochs=tuple(epochs),
        median=median if math.isfinite(median) else None,
        seconds=None,
        ratio=None,
        diverged=tuple(sorted(seed for seed, error in lost.items() if diverged(error))),
        runs=len(finished | set(lost)),
        text=f"{median:g} epoch{'' if median == 1 else 's'} ({many})"
        if math.isfinite(median)
        else f"not reached ({many})",
    )


def _timed(arm: ArmSummary, found: Convergence, steps: float | None, whole: float | None) -> Convergence:
    """With its time, and its ratio to that of the plain network, which takes `whole` epochs."""
    step, change = arm.cost.train_step_ms, arm.cost_change.train_step
    if step is None or found.median is None:
        return found
    ratio = 1.0 if arm.kind == "plain" else change.ratio if change else None
    return replace(
        found,
        seconds=None if steps is None else found.median * steps * step.median / 1000,
        ratio=None if ratio is None or whole is None else ratio * found.median / whole,
    )
