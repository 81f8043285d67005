"""Rows of a study → its summary."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from foveate.items import read_items, read_tables
from foveate.registry import nearest
from foveate.spec import Metric
from foveate.study.analyse.answer import answer
from foveate.study.analyse.attention import attention_found, with_attention
from foveate.study.analyse.beside import Judged
from foveate.study.analyse.checked import Scores, check_arms, check_label, finished_scores, primary_metric
from foveate.study.analyse.claims import default_claims
from foveate.study.analyse.convergence import diverged, with_convergence
from foveate.study.analyse.costs import cost_change, cost_matches
from foveate.study.analyse.curves import curves_of
from foveate.study.analyse.inference import default_margin, look_weight
from foveate.study.analyse.intervals import estimate, judge, paired
from foveate.study.analyse.items import (
    Groups,
    Items,
    Whole,
    compare_items,
    item_part,
    of_metric,
    sampled_variance,
    values_of,
)
from foveate.study.analyse.planner import what_seeds_can_show
from foveate.study.analyse.remade import TableReaders
from foveate.study.analyse.words import REFERENCE, sentence, short_difference, verdict
from foveate.summary import (
    SCHEMA,
    Arm,
    ArmSummary,
    AttentionState,
    Claim,
    Claimed,
    Comparison,
    Cost,
    Failure,
    ItemComparison,
    Ledger,
    Logged,
    Look,
    Margin,
    Score,
    Setting,
    Summary,
    size_of,
)

CONTROLS = {
    "": "a plain network widened to the same cost",
    "conv": "1×1 layers of the same cost in its place",
    "wider": "a plain network widened to the same cost",
    "block": "a plain network with one block more",
    "longer": "the plain network trained for the same time",
    "frozen": "the same attention with random weights",
    "shuffled": "the same attention with channels and positions shuffled",
}


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
    pending: Iterable[tuple[str, int]] = (),
    about: Mapping[str, Any] | None = None,
    items: Mapping[str, Mapping[int, Path | str | Items]] | None = None,
    groups: Groups | None = None,
    ledger: Ledger | None = None,
    attention: Iterable[AttentionState] = (),
) -> Summary:
    """The summary of a study: what the report draws and `--json` prints.

    Differences are paired over the seeds that both arms have. A study is judged by one family of claims: those of
    `setting.compare`, else each variant against plain and against its first control. Holm's correction runs over all
    of them and those that the ledger remembers. Everything else (further controls, controls against plain, other
    metrics, and what `compare` leaves out) is described, with its interval, and carries no verdict. Where runs are
    pending nothing has a verdict.

    Args:
        metrics: every metric that rows may name.
        rows: the scores of finished runs; a run whose score is no finite number is a failed run.
        metric: name of the one that the verdict is about; None: the first.
        pending: label and seed of the runs that are planned and not done.
        items: label → seed → the run's file of item scores, or names and values of the judged metric.
        groups: name of an item → its group; groups are resampled whole. None: every item stands alone.
        ledger: what the study remembers; None: this is its first look.
        attention: the state of the attention at the end of the runs that kept it.

    Raises: ValueError: a row names an arm or a metric that is not there, an arm is named twice, a result is given
        twice, there is not exactly one plain arm, a variant has two controls of one form, no direction of the judged
        metric is better, a fraction is outside 0 to 1, `matters` is negative, or `compare` names what is not there.
    """
    primary = primary_metric(metrics, metric)
    metrics = (primary, *(one for one in metrics if one.name != primary.name))
    labels = [arm.label for arm in arms]
    check_arms(arms, labels)
    about = dict(about or {})
    failures, notes = list(failed), list(about.get("notes", []))
    for failure in failures:
        check_label(failure.label, labels, "a failed run names")
    curves = tuple(curves)
    for row in curves:
        check_label(row.label, labels, "a curve names")
    scores = finished_scores(rows, labels, metrics, failures, notes)
    ledger, pending = ledger or Ledger(), tuple(pending)
    table = _Table(
        setting, metrics, arms, scores, costs or {}, failures, items or {}, groups or {}, ledger, pending, attention
    )
    step = {"train": about.get("train_items"), "batch": (about.get("latency") or {}).get("batch_size")}
    summaries = with_convergence(table.summaries(), table.plain, primary, curves, failures, step)
    claimed = table.claimed()

    compared = [one.against_plain for one in summaries if one.kind == "attention" and one.against_plain]
    planner = what_seeds_can_show(
        max((found.runs for found in compared), default=max(1, len(setting.seeds))),
        table.size,
        _pooled_sd(compared),
        primary,
        arms=max(1, len(compared)),
        margin=table.margins[primary.name].value,
        item_part=max((found.item_variance for found in compared), default=0.0),
        weight=table.weight,
        overlap=setting.overlap,
    )
    if notes:
        about["notes"] = notes
    judged = Judged(
        setting=setting,
        metric=primary,
        margin=table.margins[primary.name],
        arms=summaries,
        primary=claimed,
        planner=planner,
        ledger=ledger,
        looks=table.looks,
        weight=table.weight,
        grouped=bool(groups),
        verbs={label: _verb(failures, label) for label in labels},
        runs=len(pending)
        + len({(label, seed) for label, of_arm in scores[primary.name].items() for seed in of_arm})
        + len({(failure.label, failure.seed) for failure in failures}),
        pending=pending,
        dropped=table.dropped,
    )
    return Summary(
        schema=SCHEMA,
        setting=setting,
        metric=primary,
        metrics=metrics,
        plain=table.plain,
        arms=summaries,
        margin=table.margins[primary.name],
        claims=table.size,
        primary=claimed,
        pending=pending,
        look=len(table.looks),
        weight=table.weight,
        curves=curves_of(curves),
        seeds_can_show=planner,
        failed=tuple(failures),
        about=about,
        answer=answer(judged, str(about.get("name") or about.get("data") or "")),
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
        items: Mapping[str, Mapping[int, Path | str | Items]],
        groups: Groups,
        ledger: Ledger,
        pending: tuple[tuple[str, int], ...],
        attention: Iterable[AttentionState],
    ) -> None:
        self.setting, self.metrics, self.metric, self.arms, self.scores = setting, metrics, metrics[0], arms, scores
        self.failures, self.groups, self.pending = failures, groups, pending
        self.plain = next(arm.label for arm in arms if arm.kind == "plain")
        self.form_of = {arm.label: arm.form for arm in arms if arm.kind == "control"}
        self.controls_of: dict[str, dict[str, str]] = {}  # variant → form → label; the first is judged
        for arm in arms:
            for variant in arm.matches:
                self.controls_of.setdefault(variant, {})[arm.form] = arm.label
        self.control_of = {variant: next(iter(forms.values())) for variant, forms in self.controls_of.items()}
        labels = [arm.label for arm in arms]
        for label in [*costs, *items]:
            check_label(label, labels, "costs or items name")
        self.costs, self.sources = costs, items
        self.states = tuple(attention)
        self._kept, self._tables = cache(read_items), cache(read_tables)  # a file has every metric
        self._readers = TableReaders()
        self._read: dict[tuple[str, str], dict[int, Items | Whole]] = {}
        if setting.matters is not None and not (math.isfinite(setting.matters) and setting.matters >= 0):
            raise ValueError(f"matters: wanted a difference of 0 or more; got {setting.matters}")
        self.margins = {one.name: self._margin(one) for one in metrics}
        self.claims = self._claims()
        names = [claim.name for claim in self.claims]
        self.dropped = tuple(name for name in ledger.claims if name not in names)
        self.size = len(names) + len(self.dropped)
        looks, now = list(ledger.looks), Look(len(setting.seeds), self.size)
        looks = looks[: looks.index(now) + 1] if now in looks else [*looks, now]
        self.looks = tuple(look.seeds for look in looks)
        self.weight = look_weight(self.looks, ledger.most)
        self.found = self._judged()

    def _margin(self, metric: Metric) -> Margin:
        stated = metric is self.metric and self.setting.matters is not None
        if stated:
            value: float | None = (self.setting.matters or 0.0) / metric.factor
        else:
            plain = estimate(self.scores[metric.name][self.plain])
            percent = metric.shown == "percent" or metric.unit == "%"
            value = default_margin(None if plain is None else plain.mean, percent)
            value = value * 100 if value and metric.unit == "%" else value
        return Margin(value, stated, "" if value is None else size_of(metric, value))

    def _claims(self) -> tuple[Claim, ...]:
        if not self.setting.compare:
            return default_claims(self.arms)
        labels, names = [arm.label for arm in self.arms], [metric.name for metric in self.metrics]
        for claim in self.setting.compare:
            check_label(claim.arm, labels, "compare names")
            if claim.against not in {"plain", "control", *self.controls_of.get(claim.arm, ())}:
                check_label(claim.against, labels, "compare names")
            if claim.against == "control" and claim.arm not in self.control_of:
                raise ValueError(f"compare: {claim.arm!r} has no equal-cost control in this study")
            if claim.arm == self._other(claim):
                raise ValueError(f"compare: wanted two arms; got {claim.arm!r} against itself")
            if claim.metric is not None:
                if claim.metric not in names:
                    raise ValueError(
                        f"compare: no metric {claim.metric!r} was measured; {nearest(claim.metric, names)}"
                    )
                if self.metrics[names.index(claim.metric)].better == "neither":
                    raise ValueError(f"compare: metric {claim.metric!r} has no better direction")
        return self.setting.compare

    def _other(self, claim: Claim) -> str:
        named = {"plain": self.plain, "control": self.control_of.get(claim.arm, "")}
        return (self.controls_of.get(claim.arm, {}) | named).get(claim.against, claim.against)

    def _metric(self, claim: Claim) -> Metric:
        return next(one for one in self.metrics if one.name == (claim.metric or self.metric.name))

    def _judged(self) -> dict[tuple[str, str, str], Comparison]:
        """(arm, other arm, metric) → the claims' comparisons, with their words."""
        keys = [(claim.arm, self._other(claim), self._metric(claim)) for claim in self.claims]
        family = [self._compare(*key) for key in keys]
        if self.pending:
            judged = [found and dataclasses.replace(found, word="unfinished") for found in family]
        else:
            margins = [self.margins[metric.name].value for *_, metric in keys]
            judged = judge(
                family, [metric for *_, metric in keys], margins, dropped=len(self.dropped), weight=self.weight
            )
        return {
            (arm, other, metric.name): self._with_text(found, metric)
            for (arm, other, metric), found in zip(keys, judged, strict=True)
            if found
        }

    def _compare(self, arm: str, other: str, metric: Metric) -> Comparison | None:
        scores = self.scores[metric.name]
        mine, theirs = self._items(arm, metric), self._items(other, metric)
        seeds = sorted(set(scores[arm]) & set(scores[other]))
        overlap = self.setting.overlap
        part, count = item_part(mine, theirs, seeds, self.groups) if mine and theirs and not overlap else (0.0, 0)
        found = paired(
            scores[arm],
            scores[other],
            metric,
            failed=self._failed(arm),
            failed_other=self._failed(other),
            item_variance=part,
            items=count,
            overlap=overlap,
        )
        if not (found and found.sd and overlap):
            return found
        sampled = sampled_variance(mine, theirs, seeds, self.groups)
        return dataclasses.replace(found, sampled_share=None if sampled is None else min(1.0, sampled / found.sd**2))

    def _items(self, label: str, metric: Metric) -> dict[int, Items | Whole]:
        """Seed → scores of the run's items, of the seeds that have them."""
        if (label, metric.name) not in self._read:
            found = {seed: self._of_run(source, metric) for seed, source in self.sources.get(label, {}).items()}
            self._read[label, metric.name] = {seed: values for seed, values in found.items() if values is not None}
        return self._read[label, metric.name]

    def _of_run(self, source: Path | str | Items, metric: Metric) -> Items | Whole | None:
        """Scores in memory are of the judged metric alone."""
        if not isinstance(source, (str, Path)):
            return source if metric is self.metric else None
        kept = self._kept(source)
        return None if kept is None else of_metric(kept, metric, self._tables(source), self._readers)

    def _values(self, label: str) -> dict[int, Items]:
        """Seed → the judged metric's value of each item, of the seeds that have them."""
        found: dict[int, Items | None] = {}
        for seed, source in self.sources.get(label, {}).items():
            if isinstance(source, (str, Path)):
                kept = self._kept(source)
                found[seed] = None if kept is None else values_of(kept, self.metric)
            else:
                found[seed] = source
        return {seed: values for seed, values in found.items() if values is not None}

    def _failed(self, label: str) -> tuple[int, ...]:
        return tuple(sorted({failure.seed for failure in self.failures if failure.label == label}))

    def _against(self, label: str, other: str, metric: Metric) -> Comparison | None:
        """The claim, or where it is none the comparison as a description."""
        if other == label:
            return None
        if claim := self.found.get((label, other, metric.name)):
            return claim
        found = self._compare(label, other, metric)
        return found and self._with_text(found, metric)

    def _with_text(self, found: Comparison, metric: Metric) -> Comparison:
        return dataclasses.replace(found, text=short_difference(found, metric))

    def claimed(self) -> tuple[Claimed, ...]:
        """The primary comparisons that the study names."""
        result = []
        for claim in self.setting.compare:
            metric, other = self._metric(claim), self._other(claim)
            found, margin = self.found.get((claim.arm, other, metric.name)), self.margins[metric.name]
            verb = _verb(self.failures, claim.arm)
            told = "no finished pair" if found is None else sentence(found, metric, margin, other, verb=verb)
            result.append(Claimed(claim, metric, found, f"{claim.arm} against {other}, {metric.name}: {told}"))
        return tuple(result)

    def summaries(self) -> tuple[ArmSummary, ...]:
        return tuple(self._summary(arm) for arm in self.arms)

    def _summary(self, arm: Arm) -> ArmSummary:
        label, control, failed = arm.label, self.control_of.get(arm.label), self._failed(arm.label)
        to_plain = self._against(label, self.plain, self.metric)
        to_controls = {
            other: found
            for other in self.controls_of.get(label, {}).values()
            if (found := self._against(label, other, self.metric))
        }
        to_control = to_controls.get(control or "")
        estimates = {one.name: estimate(self.scores[one.name][label]) for one in self.metrics}
        others = {one.name: self._against(label, self.plain, one) for one in self.metrics[1:]}
        cost, smallest = self.costs.get(label), None
        if to_plain and to_plain.sd is not None and to_plain.comparisons and not self.pending:
            level = {"item_part": to_plain.item_variance, "weight": self.weight, "overlap": to_plain.overlap}
            smallest = what_seeds_can_show(
                to_plain.runs, self.size, to_plain.sd, self.metric, arms=1, **level
            ).smallest_high
        judged = verdict(
            to_plain,
            to_control,
            self.metric,
            self.margins[self.metric.name],
            network=CONTROLS[self.form_of.get(control or "", "")],
            failed=len(failed),
            verb=_verb(self.failures, label),
            smallest=smallest,
        )
        own = [state for state in self.states if state.label == label and arm.kind != "control"]
        attention = attention_found(own)
        return ArmSummary(
            **{one.name: getattr(arm, one.name) for one in dataclasses.fields(Arm)},
            score=estimates[self.metric.name],
            estimates={name: found for name, found in estimates.items() if found},
            against_plain=to_plain,
            against_control=to_control,
            against_controls=to_controls,
            descriptive={name: found for name, found in others.items() if found},
            items=self._item_comparison(label),
            cost=cost or Cost(),
            cost_change=cost_change(cost, None if label == self.plain else self.costs.get(self.plain)),
            control=control,
            control_cost=cost_change(self.costs.get(control), cost) if control else None,
            cost_matches=cost_matches(arm, self.costs, self.plain, self.setting),
            failed=failed,
            verdict=REFERENCE if arm.kind == "plain" else with_attention(judged, attention),
            attention=attention,
        )

    def _item_comparison(self, label: str) -> ItemComparison | None:
        mine, theirs = self._values(label), self._values(self.plain)
        return compare_items(mine, theirs, self.metric) if label != self.plain and mine and theirs else None


def _verb(failures: list[Failure], label: str) -> str:
    """How runs of an arm failed: "diverged" where the losses or scores were no numbers."""
    errors = [failure.error for failure in failures if failure.label == label]
    return "diverged" if errors and all(map(diverged, errors)) else "failed"


def _pooled_sd(compared: list[Comparison]) -> float | None:
    """One sd of paired differences for the whole study: each variant's variance weighted by its degrees of freedom."""
    parts = [(len(found.seeds) - 1, found.sd) for found in compared if found.sd is not None]
    freedom = sum(weight for weight, _ in parts)
    return math.sqrt(sum(weight * sd**2 for weight, sd in parts) / freedom) if freedom else None
