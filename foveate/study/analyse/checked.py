"""What the analysis is given, checked: metrics, arms, and the scores of the finished runs."""

import math
from collections.abc import Iterable, Sequence
from typing import get_args

from foveate.registry import nearest
from foveate.spec import Metric
from foveate.summary import Arm, Failure, Kind, Score

Scores = dict[str, dict[str, dict[int, float]]]  # metric → label → seed → value


def primary_metric(metrics: Sequence[Metric], name: str | None) -> Metric:
    """The one of this name, else the first. Raises: ValueError: if there is none, or it cannot be judged."""
    names = [metric.name for metric in metrics]
    if not metrics:
        raise ValueError("wanted one metric or more; got none")
    if twice := {one for one in names if names.count(one) > 1}:
        raise ValueError(f"wanted each metric once; got {sorted(twice)[0]!r} twice")
    if name is not None and name not in names:
        raise ValueError(f"wanted a metric that was measured; got {name!r}; {nearest(name, names)}")
    primary = metrics[0] if name is None else metrics[names.index(name)]
    if primary.better == "neither":
        judged = [one.name for one in metrics if one.better != "neither"]
        other = f"; {', '.join(judged)} can be judged" if judged else ""
        raise ValueError(
            f"metric {primary.name!r} cannot be judged: wanted better = 'higher' or 'lower', got 'neither'{other}"
        )
    return primary


def check_arms(arms: Sequence[Arm], labels: list[str]) -> None:
    """Raises: ValueError: if a label comes twice, there is not exactly one plain arm, or a variant has two controls of
    one form."""
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"wanted a name of its own for each arm; got {sorted(twice)[0]!r} twice")
    if (kinds := [arm.kind for arm in arms]).count("plain") != 1:
        raise ValueError(f"wanted exactly one plain arm among {labels}; got {kinds.count('plain')}")
    if unknown := set(kinds) - set(get_args(Kind)):
        raise ValueError(f"wanted kind 'plain', 'attention' or 'control'; got {sorted(unknown)[0]!r}")
    claimed = [(variant, arm.form) for arm in arms for variant in arm.matches]
    for variant, form in claimed:
        check_label(variant, labels, "a control matches")
        if claimed.count((variant, form)) > 1:
            count = claimed.count((variant, form))
            raise ValueError(f"wanted at most one control of a form for each variant; got {count} for {variant!r}")


def check_label(label: str, labels: list[str], where: str) -> None:
    """Raises: ValueError: if there is no such arm; the nearest is named."""
    if label not in labels:
        raise ValueError(f"{where} the arm {label!r}, which is not in this study; {nearest(label, labels, 1)}")


def finished_scores(
    rows: Iterable[Score], labels: list[str], metrics: tuple[Metric, ...], failures: list[Failure], notes: list[str]
) -> Scores:
    """Every metric's values. A run that ended without a finite score is a failed run, not a missing one."""
    known = {metric.name: metric for metric in metrics}
    scores: Scores = {name: {label: {} for label in labels} for name in known}
    for row in rows:
        check_label(row.label, labels, "a result names")
        if row.metric not in known:
            raise ValueError(
                f"a result of {row.label!r}, seed {row.seed}, is of the metric {row.metric!r}, which was not declared; "
                f"{nearest(row.metric, known, 1)}"
            )
        if row.value is None or not math.isfinite(row.value):
            if row.metric == metrics[0].name:
                failures.append(Failure(row.label, row.seed, f"ended with {row.metric} {row.value}"))
            else:
                notes.append(f"{row.metric} of {row.label}, seed {row.seed}, is {row.value} and left out")
            continue
        if known[row.metric].unit == "fraction" and not 0 <= row.value <= 1:
            raise ValueError(
                f"wanted {row.metric} as a fraction, 0 to 1; got {row.value} for {row.label!r}, seed {row.seed}"
            )
        of_arm = scores[row.metric][row.label]
        if row.seed in of_arm:
            raise ValueError(
                f"wanted one {row.metric} for each arm and seed; got two for {row.label!r}, seed {row.seed}"
            )
        of_arm[row.seed] = float(row.value)
    return scores
