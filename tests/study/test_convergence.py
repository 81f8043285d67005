"""Epochs until an arm is as good as the plain network at its end, seed by seed."""

import pytest

from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Convergence, Cost, Failure, Logged, Score, Setting, Times

ACCURACY, ERROR = Metric("accuracy"), Metric("error", unit="px", better="lower")


def found(
    curves: dict[str, dict[int, list[float]]],
    *,
    metric: Metric = ACCURACY,
    part: str = "test",
    failed: tuple[Failure, ...] = (),
    steps_ms: dict[str, float] | None = None,
) -> dict[str, Convergence | None]:
    """Arm → what was found; curves: arm → seed → the score after each epoch."""
    lost = {(one.label, one.seed) for one in failed}
    arms = [Arm(label, "plain" if label == "none" else "attention") for label in curves]
    rows = [
        Score(label, seed, metric.name, line[-1])
        for label, of_arm in curves.items()
        for seed, line in of_arm.items()
        if (label, seed) not in lost
    ]
    logged = [
        Logged(label, seed, epoch, f"{part}_{metric.name}", value)
        for label, of_arm in curves.items()
        for seed, line in of_arm.items()
        for epoch, value in enumerate(line, 1)
    ]
    costs = {label: Cost(train_step_ms=Times(ms, ms, ms)) for label, ms in (steps_ms or {}).items()}
    about = {"train_items": 640, "latency": {"batch_size": 32}}
    summary = analyse(Setting(), [metric], arms, rows, curves=logged, failed=failed, costs=costs, about=about)
    return {arm.label: arm.convergence for arm in summary.arms}


def test_epochs_are_counted_to_the_plain_score_of_the_same_seed() -> None:
    curves = {
        "none": {0: [0.2, 0.5, 0.6], 1: [0.2, 0.7, 0.7], 2: [0.1, 0.2, 0.3]},
        "se": {0: [0.6, 0.7, 0.8], 1: [0.1, 0.2, 0.7], 2: [0.1, 0.1, 0.2]},
    }
    of = found(curves, steps_ms={"none": 10.0, "se": 20.0})
    assert of["se"].epochs == (1, 3, None)
    assert of["se"].median == 3
    assert of["se"].text == "3 epochs (2 of 3 seeds)"
    assert of["none"].epochs == (3, 2, 3)
    assert of["none"].ratio == 1
    assert of["se"].seconds == pytest.approx(3 * 20 * 0.020)  # 20 steps of 32 items an epoch
    assert of["se"].ratio == pytest.approx(2)


def test_lower_is_better_where_it_is_and_the_validation_part_comes_first() -> None:
    of = found({"none": {0: [9.0, 4.0]}, "se": {0: [4.0, 5.0]}}, metric=ERROR, part="validation")
    assert of["se"].epochs == (1,)
    assert of["se"].text == "1 epoch (1 of 1 seeds)"


def test_half_of_the_runs_that_never_come_there_have_no_median() -> None:
    of = found({"none": {0: [0.5], 1: [0.5]}, "se": {0: [0.6], 1: [0.4]}})
    assert of["se"].median is None
    assert of["se"].text == "not reached (1 of 2 seeds)"


def test_diverged_runs_count_as_never_and_are_named() -> None:
    failed = (Failure("se", 1, "loss was nan at step 3"), Failure("se", 2, "out of memory"))
    curves = {"none": {0: [0.5], 1: [0.5], 2: [0.5]}, "se": {0: [0.6], 1: [0.6], 2: [0.6]}}
    of = found(curves, failed=failed)
    assert of["se"].epochs == (1, None, None)
    assert of["se"].diverged == (1,)
    assert of["se"].runs == 3


def test_a_seed_whose_plain_run_failed_is_left_out() -> None:
    failed = (Failure("none", 0, "loss was nan at step 3"),)
    of = found({"none": {0: [0.1], 1: [0.5]}, "se": {0: [0.9], 1: [0.6]}}, failed=failed)
    assert of["se"].seeds == (1,)
    assert of["none"].diverged == (0,)


def test_without_curves_there_is_none() -> None:
    assert found({"none": {0: [0.5]}, "se": {0: [0.6]}}, part="train") == {"none": None, "se": None}
