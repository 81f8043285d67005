"""Rows of a study → its summary."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from foveate.registry import nearest
from foveate.spec import Metric
from foveate.study.analyse.answer import answer
from foveate.study.analyse.intervals import adjust, estimate, paired
from foveate.study.analyse.items import Items, compare_items, values_of
from foveate.study.analyse.planner import what_seeds_can_show
from foveate.study.analyse.words import REFERENCE, short_difference, verdict
from foveate.summary import (
    SCHEMA,
    Arm,
    ArmSummary,
    Comparison,
    Cost,
    CostChange,
    CurvePoint,
    Failure,
    ItemComparison,
    Kind,
    Logged,
    Ratio,
    Score,
    Setting,
    Summary,
    Times,
)

SAME = {"size": "cost", "latency": "latency", "none": "cost"}
Scores = dict[str, dict[str, dict[int, float]]]  # metric → label → seed → value


def analyse(
    setting: Setting,
    metrics: Sequence[Metric],
    arms: Sequence[Arm],
    rows: Iterable[Score],
    *,
    metric: str | None = None,
    curves: Iterable[Logged] = (),
    costs: Mapping[str, Cost] | None = None,
    failed: Iterable[Failure] = (),
    about: Mapping[str, Any] | None = None,
    items: Mapping[str, Mapping[int, Path | Items]] | None = None,
) -> Summary:
    """The summary of a study: what the report draws and `--json` prints.

    Differences are paired over the seeds that both arms have. Holm's correction runs over three families apart: the
    variants against plain (the verdict), the variants against their controls, and the controls against plain. Metrics
    other than the one that is judged are described, each with its unit and direction, and carry no verdict.

    Args:
        metrics: every metric that rows may name.
        rows: the scores of finished runs; a run whose score is no finite number is a failed run.
        metric: name of the one that the verdict is about; None: the first.
        items: label → seed → the run's file of item scores, or names and values of the judged metric.

    Raises: ValueError: a row names an arm or a metric that is not there, an arm is named twice, a result is given
        twice, there is not exactly one plain arm, two controls claim one variant, no direction of the judged metric is
        better, or a fraction is outside 0 to 1.
    """
    primary = _primary(metrics, metric)
    metrics = (primary, *(one for one in metrics if one.name != primary.name))
    labels = [arm.label for arm in arms]
    _check(arms, labels)
    about = dict(about or {})
    failures, notes = list(failed), list(about.get("notes", []))
    for failure in failures:
        _known(failure.label, labels, "a failed run names")
    scores = _scores(rows, labels, metrics, failures, notes)
    table = _Table(setting, metrics, arms, scores, costs or {}, failures, items or {})
    summaries = table.summaries()

    compared = [one.against_plain for one in summaries if one.kind == "attention" and one.against_plain]
    seeds_used = max((len(found.seeds) for found in compared), default=max(1, len(setting.seeds)))
    variants = sum(arm.kind == "attention" for arm in arms)
    planner = what_seeds_can_show(seeds_used, variants, _pooled_sd(compared), primary)
    if notes:
        about["notes"] = notes
    return Summary(
        schema=SCHEMA,
        setting=setting,
        metric=primary,
        metrics=metrics,
        plain=table.plain,
        arms=summaries,
        curves=_curves(curves, labels),
        seeds_can_show=planner,
        failed=tuple(failures),
        about=about,
        answer=answer(setting, primary, summaries, planner, str(about.get("name") or about.get("data") or "")),
    )


class _Table:
    """The arms, side by side."""

    def __init__(
        self,
        setting: Setting,
        metrics: tuple[Metric, ...],
        arms: Sequence[Arm],
        scores: Scores,
        costs: Mapping[str, Cost],
        failures: list[Failure],
        items: Mapping[str, Mapping[int, Path | Items]],
    ) -> None:
        self.setting, self.metrics, self.metric, self.arms, self.scores = setting, metrics, metrics[0], arms, scores
        self.failures = failures
        self.plain = next(arm.label for arm in arms if arm.kind == "plain")
        self.control_of = {variant: arm.label for arm in arms for variant in arm.matches}
        labels = [arm.label for arm in arms]
        for label in [*costs, *items]:
            _known(label, labels, "costs or items name")
        self.costs = costs
        self.items = {label: _read_items(of_arm, self.metric) for label, of_arm in items.items()}

    def summaries(self) -> tuple[ArmSummary, ...]:
        judged = self.scores[self.metric.name]
        to_plain = {a.label: self._against(a, self.plain, judged, self.metric) for a in self.arms}
        to_control = {a.label: self._against(a, self.control_of.get(a.label), judged, self.metric) for a in self.arms}
        families = [[a.label for a in self.arms if a.kind == kind] for kind in ("attention", "control")]
        for table, family in [*((to_plain, family) for family in families), (to_control, list(to_control))]:
            table.update(zip(family, adjust([table[label] for label in family]), strict=True))
        return tuple(
            self._summary(arm, self._with_text(to_plain[arm.label]), self._with_text(to_control[arm.label]))
            for arm in self.arms
        )

    def _against(
        self, arm: Arm, other: str | None, scores: dict[str, dict[int, float]], metric: Metric
    ) -> Comparison | None:
        return None if other in (None, arm.label) else paired(scores[arm.label], scores[str(other)], metric)

    def _with_text(self, found: Comparison | None, metric: Metric | None = None) -> Comparison | None:
        return found and dataclasses.replace(found, text=short_difference(found, metric or self.metric))

    def _summary(self, arm: Arm, to_plain: Comparison | None, to_control: Comparison | None) -> ArmSummary:
        label, control = arm.label, self.control_of.get(arm.label)
        estimates = {one.name: estimate(self.scores[one.name][label]) for one in self.metrics}
        others = {
            one.name: self._with_text(self._against(arm, self.plain, self.scores[one.name], one), one)
            for one in self.metrics[1:]
        }
        judged = verdict(to_plain, to_control, SAME[self.setting.control], self.metric)
        cost = self.costs.get(label)
        return ArmSummary(
            **{one.name: getattr(arm, one.name) for one in dataclasses.fields(Arm)},
            score=estimates[self.metric.name],
            estimates={name: found for name, found in estimates.items() if found},
            against_plain=to_plain,
            against_control=to_control,
            descriptive={name: found for name, found in others.items() if found},
            items=self._item_comparison(label),
            cost=cost or Cost(),
            cost_change=cost_change(cost, None if label == self.plain else self.costs.get(self.plain)),
            control=control,
            control_cost=cost_change(self.costs.get(control), cost) if control else None,
            failed=tuple(sorted(failure.seed for failure in self.failures if failure.label == label)),
            verdict=REFERENCE if arm.kind == "plain" else judged,
        )

    def _item_comparison(self, label: str) -> ItemComparison | None:
        if label == self.plain or label not in self.items or self.plain not in self.items:
            return None
        return compare_items(self.items[label], self.items[self.plain], self.metric)


def _primary(metrics: Sequence[Metric], name: str | None) -> Metric:
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


def _check(arms: Sequence[Arm], labels: list[str]) -> None:
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"wanted a name of its own for each arm; got {sorted(twice)[0]!r} twice")
    if (kinds := [arm.kind for arm in arms]).count("plain") != 1:
        raise ValueError(f"wanted exactly one plain arm among {labels}; got {kinds.count('plain')}")
    if unknown := set(kinds) - set(get_args(Kind)):
        raise ValueError(f"wanted kind 'plain', 'attention' or 'control'; got {sorted(unknown)[0]!r}")
    claimed = [variant for arm in arms for variant in arm.matches]
    for variant in claimed:
        _known(variant, labels, "a control matches")
        if claimed.count(variant) > 1:
            raise ValueError(
                f"wanted at most one control for each variant; got {claimed.count(variant)} for {variant!r}"
            )


def _known(label: str, labels: list[str], where: str) -> None:
    if label not in labels:
        raise ValueError(f"{where} the arm {label!r}, which is not in this study; {nearest(label, labels, 1)}")


def _scores(
    rows: Iterable[Score], labels: list[str], metrics: tuple[Metric, ...], failures: list[Failure], notes: list[str]
) -> Scores:
    """Every metric's values. A run that ended without a finite score is a failed run, not a missing one."""
    known = {metric.name: metric for metric in metrics}
    scores: Scores = {name: {label: {} for label in labels} for name in known}
    for row in rows:
        _known(row.label, labels, "a result names")
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


def _read_items(sources: Mapping[int, Path | Items], metric: Metric) -> dict[int, Items]:
    found = {seed: values_of(source, metric) for seed, source in sources.items()}
    return {seed: values for seed, values in found.items() if values is not None}


def cost_change(ours: Cost | None, base: Cost | None) -> CostChange:
    """What `ours` costs more than `base`.

    A ratio of times is that of their ratios to the plain network, measured round by round, where both have one; it runs
    from low/high to high/low, which is exact against the plain network itself and else wide.
    """
    if not ours or not base:
        return CostChange()
    parameters, parameters_percent = _added(ours.parameters, base.parameters)
    macs, macs_percent = _added(ours.macs, base.macs)
    return CostChange(
        parameters=parameters,
        parameters_percent=parameters_percent,
        macs=macs,
        macs_percent=macs_percent,
        latency=_ratio((ours.latency_ratio, base.latency_ratio), (ours.latency_ms, base.latency_ms)),
        train_step=_ratio((ours.train_step_ratio, base.train_step_ratio), (ours.train_step_ms, base.train_step_ms)),
    )


def _added(ours: int | None, base: int | None) -> tuple[int | None, float | None]:
    if ours is None or base is None:
        return None, None
    return ours - base, 100 * (ours - base) / base if base else None


def _ratio(ratios: tuple[Times | None, Times | None], times: tuple[Times | None, Times | None]) -> Ratio | None:
    mine, other = ratios if all(ratios) else times
    if mine is None or other is None or min(other.low, other.median) <= 0:
        return None
    low, high = mine.low / other.high, mine.high / other.low
    return Ratio(mine.median / other.median, low, high, distinguishable=low > 1 or high < 1)


def _pooled_sd(compared: list[Comparison]) -> float | None:
    """One sd of paired differences for the whole study: each variant's variance weighted by its degrees of freedom."""
    parts = [(len(found.seeds) - 1, found.sd) for found in compared if found.sd is not None]
    freedom = sum(weight for weight, _ in parts)
    return math.sqrt(sum(weight * sd**2 for weight, sd in parts) / freedom) if freedom else None


def _curves(curves: Iterable[Logged], labels: list[str]) -> dict[str, dict[str, tuple[CurvePoint, ...]]]:
    """label → metric → one point an epoch: the mean over seeds and the range from lowest to highest seed."""
    gathered: dict[str, dict[str, dict[int, list[float]]]] = {
        label: defaultdict(lambda: defaultdict(list)) for label in labels
    }
    for row in curves:
        _known(row.label, labels, "a curve names")
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
        if metrics
    }
