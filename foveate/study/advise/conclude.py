"""The rows of a search and the study of its confirmation → the advice, and the sentence it ends in."""

import dataclasses
from collections.abc import Mapping, Sequence

from foveate.spec import Metric
from foveate.study.advise.budget import LatencyBudget
from foveate.study.analyse import analyse
from foveate.study.analyse.words import advantage, difference
from foveate.summary import Advice, ArmSummary, Candidate, Cost, Rung, Score, Setting, Summary, Times
from foveate.summary import Arm as PlainArm
from foveate.variant import PLAIN


def conclude(
    confirmed: Summary | None,
    *,
    metric: Metric,
    network: str,
    budget: LatencyBudget,
    candidates: Sequence[Candidate],
    rungs: tuple[Rung, ...],
    confirming: tuple[int, ...],
    scores: Mapping[str, Mapping[int, float]],
    plain_ms: Times | None,
    null_check: bool,
) -> Advice:
    """The advice. Only what the confirmation judges better than plain, within the budget as measured there, is advised.

    Args:
        confirmed: of the finalists; None: there were none.
        candidates: with their gains in the search.
        scores: of the search, label → seed → score.
        plain_ms: latency of the plain network when the first candidates were measured.
        null_check: were the candidates copies of the plain network?
    """
    finalists = [arm for arm in confirmed.arms if arm.kind == "attention"] if confirmed else []
    better = [arm for arm in finalists if arm.against_plain and arm.against_plain.word == "better"]
    within = [arm for arm in better if null_check or _keeps(arm, budget)]
    ranked = sorted(within or finalists, key=_gain, reverse=True)
    first = ranked[0] if ranked else None
    trained = [one for one in candidates if one.rung]
    if within:
        assert first is not None
        text = _advised(first, metric, budget, len(finalists), len(trained), null_check)
    else:
        text = _nothing(first, better, metric, budget, candidates, null_check)
    trainings = sum(len(of_arm) for of_arm in scores.values())
    if confirmed is not None:
        trainings += sum(len(arm.score.seeds) if arm.score else 0 for arm in confirmed.arms)
    return Advice(
        short="Insert" if within else "Nothing helped",
        text=text,
        chosen=first.label if within and first else None,
        found=first.against_plain if first else None,
        latency_ratio=first.cost.latency_ratio if first else None,
        metric=metric,
        network=network,
        budget=budget.text,
        null_check=null_check,
        candidates=_with_front(candidates),
        rungs=rungs,
        confirming=confirming if confirmed is not None else (),
        trainings=trainings,
        searched=_searched(metric, network, candidates, scores, plain_ms),
        confirmed=confirmed,
    )


def _keeps(arm: ArmSummary, budget: LatencyBudget) -> bool:
    ratio, ms = arm.cost.latency_ratio, arm.cost.latency_ms
    return ratio is not None and ms is not None and budget.keeps(ratio.median, ms.median)


def _gain(arm: ArmSummary) -> float:
    return arm.against_plain.gain if arm.against_plain else float("-inf")


def _advised(
    arm: ArmSummary, metric: Metric, budget: LatencyBudget, finalists: int, trained: int, null_check: bool
) -> str:
    found = arm.against_plain
    assert found is not None, "an arm that is better has a comparison"
    corrected = f", corrected for {finalists} finalists" if finalists > 1 else ""
    p = "" if found.p_holm is None else f", p = {found.p_holm:.2g}{corrected}"
    evidence = (
        f"confirmed with {len(found.seeds)} fresh paired seeds on the test part, which no choice among {trained} "
        f"candidates has seen{p}"
    )
    gain = f"{metric.name} {advantage(found, metric)} over the plain network"
    if null_check:
        return f"A copy of the plain network is taken for better: {arm.label}, {gain}; {evidence}."
    return f"Insert {arm.label}: {gain}, at {_cost(arm, budget)}; {evidence}."


def _cost(arm: ArmSummary, budget: LatencyBudget) -> str:
    ratio, change = arm.cost.latency_ratio, arm.cost_change
    parts = []
    if ratio is not None:
        parts.append(
            f"{ratio.median:.2f} times its latency ({ratio.low:.2f} to {ratio.high:.2f}; the budget is {budget.text})"
        )
    if change.parameters is not None:
        parts.append(f"{change.parameters:+,} parameters".replace("-", "−"))
    return " and ".join(parts)


def _nothing(
    first: ArmSummary | None,
    better: Sequence[ArmSummary],
    metric: Metric,
    budget: LatencyBudget,
    candidates: Sequence[Candidate],
    null_check: bool,
) -> str:
    trained = [one for one in candidates if one.rung]
    what = "copies of the plain network" if null_check else f"candidates within the latency budget of {budget.text}"
    if not trained:
        over = sum(one.dropped.startswith("over") for one in candidates)
        return (
            f"Nothing helped: none of the {len(candidates)} candidates could be tried, {over} of them are over the "
            f"latency budget of {budget.text}."
        )
    if first is None:
        return (
            f"Nothing helped: none of the {len(trained)} {what} scored above the plain network on the validation part, "
            "so that there was nothing to confirm."
        )
    if better:
        arm = max(better, key=_gain)
        ratio = arm.cost.latency_ratio
        took = "" if ratio is None else f", {ratio.median:.2f} times the plain network's latency"
        return (
            f"Nothing helped within the budget: {arm.label} is better, but in the confirmation it is over the latency "
            f"budget of {budget.text}{took}."
        )
    found = first.against_plain
    if found is None:
        return f"Nothing helped: of the {len(trained)} {what} no finalist finished a seed that plain finished as well."
    p = "" if found.p_holm is None else f", corrected p = {found.p_holm:.3g}"
    return (
        f"Nothing helped: none of the {len(trained)} {what} is confirmed better than the plain network; {first.label} "
        f"came nearest with {difference(found, metric)} in {metric.name} on the test part, {len(found.seeds)} fresh "
        f"paired seeds{p}."
    )


def _with_front(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Which candidates are on the front of gain and latency, the plain network among them."""
    points = [(0.0, 1.0)]
    points += [(one.gain, one.latency_ratio.median) for one in candidates if one.gain is not None and one.latency_ratio]

    def beaten(gain: float, ratio: float) -> bool:
        return any(other != (gain, ratio) and other[0] >= gain and other[1] <= ratio for other in points)

    return tuple(
        dataclasses.replace(one, on_front=not beaten(one.gain, one.latency_ratio.median))
        if one.gain is not None and one.latency_ratio
        else one
        for one in candidates
    )


def _searched(
    metric: Metric,
    network: str,
    candidates: Sequence[Candidate],
    scores: Mapping[str, Mapping[int, float]],
    plain_ms: Times | None,
) -> Summary | None:
    """All scores of the search as a summary, for the picture: a latency there is the ratio times that of plain, and the
    few seeds of a candidate have no interval."""
    trained = [one for one in candidates if scores.get(one.label)]
    if not trained or not scores.get(PLAIN):
        return None
    arms = [PlainArm(PLAIN, "plain"), *(PlainArm(one.label, "attention", one.variant) for one in trained)]
    rows = [
        Score(label, seed, metric.name, value)
        for label in (PLAIN, *(one.label for one in trained))
        for seed, value in scores[label].items()
    ]
    costs = {}
    if plain_ms is not None:
        costs[PLAIN] = Cost(latency_ms=plain_ms)
        for one in trained:
            if (ratio := one.latency_ratio) is not None:
                scaled = Times(*(plain_ms.median * part for part in (ratio.median, ratio.low, ratio.high)))
                costs[one.label] = Cost(latency_ms=scaled, latency_ratio=ratio)
    seeds = tuple(sorted({row.seed for row in rows}))
    found = analyse(Setting("search", network, seeds), [metric], arms, rows, costs=costs)
    bare = [
        dataclasses.replace(arm, score=arm.score and dataclasses.replace(arm.score, low=None, high=None))
        for arm in found.arms
    ]
    return dataclasses.replace(found, arms=tuple(bare))
