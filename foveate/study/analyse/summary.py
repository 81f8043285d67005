"""Rows of a study → its summary."""

import math
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from foveate.spec import Study
from foveate.study.analyse.answer import answer
from foveate.study.analyse.intervals import adjust, mean_and_sd, paired, t_interval
from foveate.study.analyse.planner import what_seeds_can_show
from foveate.study.analyse.words import short_difference, verdict

SCHEMA = 1
SAME = {"size": "cost", "latency": "latency", "none": "cost"}
Row = dict[str, Any]


def analyse(
    study: Study,
    arms: list[Row],
    results: list[Row],
    curves: list[Row],
    costs: dict[str, Row],
    about: Row,
) -> Row:
    """The summary of a study: what the report draws and `--json` prints.

    Accuracies and differences are fractions, times milliseconds; everything called `text` or `short` is ready to print.
    Differences are paired over the seeds that both arms have. Holm's correction runs over three families apart: the
    attention variants against plain (the verdict), the variants against their controls, and the controls against plain.

    Raises: ValueError: a row names an arm that is not there, an arm is named twice, a result is given twice, there is
        not exactly one plain arm, or two controls claim one variant.
    """
    labels = [arm["label"] for arm in arms]
    _check(arms, labels)
    failed = [dict(row) for row in about.get("failed", [])]
    scores = _scores(results, labels, failed)
    plain = next(arm["label"] for arm in arms if arm["kind"] == "plain")
    control_of = {variant: arm["label"] for arm in arms for variant in arm.get("matches") or []}

    rows = []
    for arm in arms:
        label, control = arm["label"], control_of.get(arm["label"])
        rows.append(
            {
                **arm,
                "matches": list(arm.get("matches") or []),
                "accuracy": _accuracy(scores[label]),
                "cost": _cost(costs.get(label)),
                "cost_change": _cost_change(costs.get(label), None if label == plain else costs.get(plain)),
                "against_plain": None if label == plain else paired(scores[label], scores[plain]),
                "control": control,
                "against_control": paired(scores[label], scores[control]) if control else None,
                "control_cost": _cost_change(costs.get(control), costs.get(label)) if control else None,
            }
        )
    for family in ("attention", "control"):
        adjust([row["against_plain"] for row in rows if row["kind"] == family])
    adjust([row["against_control"] for row in rows])
    for row in rows:
        for comparison in (row["against_plain"], row["against_control"]):
            if comparison:
                comparison["text"] = short_difference(comparison)
        row["verdict"] = verdict(row["against_plain"], row["against_control"], SAME[study.control])
        if row["kind"] == "plain":
            row["verdict"] = {"word": "plain", "short": "the reference", "text": "the network without attention"}

    compared = [row["against_plain"] for row in rows if row["kind"] == "attention" and row["against_plain"]]
    seeds_used = max((len(found["seeds"]) for found in compared), default=len(study.seeds))
    planner = what_seeds_can_show(seeds_used, sum(a["kind"] == "attention" for a in arms), _pooled_sd(compared))
    summary = {
        "schema": SCHEMA,
        "study": {
            "name": study.name,
            "network": str(about.get("network") or study.network),
            "seeds": list(study.seeds),
            "control": study.control,
            "epochs": study.train.epochs,
        },
        "metric": {"name": "accuracy", "unit": "fraction", "on": "test images"},
        "plain": plain,
        "arms": rows,
        "curves": _curves(curves, labels),
        "seeds_can_show": planner,
        "failed": failed,
        "about": {key: value for key, value in about.items() if key != "failed"},
    }
    summary["answer"] = answer(summary)
    finite: Row = _finite(summary)
    return finite


def _check(arms: list[Row], labels: list[str]) -> None:
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"wanted a name of its own for each arm; got {sorted(twice)[0]!r} twice")
    if (kinds := [arm["kind"] for arm in arms]).count("plain") != 1:
        raise ValueError(f"wanted exactly one plain arm among {labels}; got {kinds.count('plain')}")
    if unknown := set(kinds) - {"plain", "attention", "control"}:
        raise ValueError(f"wanted kind 'plain', 'attention' or 'control'; got {sorted(unknown)[0]!r}")
    claimed = [variant for arm in arms for variant in arm.get("matches") or []]
    for variant in claimed:
        _known(variant, labels, "a control matches")
        if claimed.count(variant) > 1:
            raise ValueError(
                f"wanted at most one control for each variant; got {claimed.count(variant)} for {variant!r}"
            )


def _known(label: str, labels: list[str], where: str) -> None:
    if label not in labels:
        near = get_close_matches(str(label), labels, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(labels)}"
        raise ValueError(f"{where} the arm {label!r}, which is not in this study; {hint}")


def _scores(results: Iterable[Row], labels: list[str], failed: list[Row]) -> dict[str, dict[int, float]]:
    """label → seed → accuracy. A run that ended without a finite accuracy is a failed run, not a missing one."""
    scores: dict[str, dict[int, float]] = {label: {} for label in labels}
    for row in results:
        if row["metric"] != "accuracy" or row.get("state", "done") != "done":
            continue
        label, seed, value = row["label"], int(row["seed"]), row["value"]
        _known(label, labels, "a result names")
        if value is None or not math.isfinite(value):
            failed.append({"label": label, "seed": seed, "error": f"ended with accuracy {value}"})
            continue
        if not 0 <= value <= 1:
            raise ValueError(f"wanted accuracy as a fraction, 0 to 1; got {value} for {label!r}, seed {seed}")
        if seed in scores[label]:
            raise ValueError(f"wanted one accuracy for each arm and seed; got two for {label!r}, seed {seed}")
        scores[label][seed] = float(value)
    return scores


def _accuracy(scores: dict[int, float]) -> Row | None:
    if not scores:
        return None
    values = [scores[seed] for seed in sorted(scores)]
    mean, sd = mean_and_sd(values)
    low, high = t_interval(values) or (None, None)
    return {"mean": mean, "sd": sd, "low": low, "high": high, "seeds": sorted(scores), "values": values}


def _cost(cost: Row | None) -> Row:
    """Every key that the report asks for; None where it was not measured."""
    return {**dict.fromkeys(("parameters", "macs", "latency_ms", "train_step_ms")), **(cost or {})}


def _cost_change(ours: Row | None, base: Row | None) -> Row:
    """What `ours` costs more than `base`.

    A ratio of times is that of their ratios to the plain network, measured round by round, where both have one; it runs
    from low/high to high/low, which is exact against the plain network itself and else wide.
    """
    change: Row = dict.fromkeys(("parameters", "parameters_percent", "macs", "macs_percent", "latency", "train_step"))
    if not ours or not base:
        return change
    for key in ("parameters", "macs"):
        if ours.get(key) is not None and base.get(key) is not None:
            change[key] = ours[key] - base[key]
            change[f"{key}_percent"] = 100 * change[key] / base[key] if base[key] else None
    for key in ("latency", "train_step"):
        unit = "ratio" if ours.get(f"{key}_ratio") and base.get(f"{key}_ratio") else "ms"
        mine, other = ours.get(f"{key}_{unit}"), base.get(f"{key}_{unit}")
        if mine and other and min(other["low"], other["median"]) > 0:
            low, high = mine["low"] / other["high"], mine["high"] / other["low"]
            change[key] = {
                "ratio": mine["median"] / other["median"],
                "low": low,
                "high": high,
                "told_apart": low > 1 or high < 1,
            }
    return change


def _pooled_sd(compared: list[Row]) -> float | None:
    """One sd of paired differences for the whole study: each variant's variance weighted by its degrees of freedom."""
    parts = [(len(found["seeds"]) - 1, found["sd"]) for found in compared if found["sd"] is not None]
    freedom = sum(weight for weight, _ in parts)
    return math.sqrt(sum(weight * sd**2 for weight, sd in parts) / freedom) if freedom else None


def _curves(curves: list[Row], labels: list[str]) -> Row:
    """label → metric → one point an epoch: the mean over seeds and the range from lowest to highest seed."""
    gathered: dict[str, dict[str, dict[int, list[float]]]] = {
        label: defaultdict(lambda: defaultdict(list)) for label in labels
    }
    for row in curves:
        _known(row["label"], labels, "a curve names")
        if row["value"] is not None and math.isfinite(row["value"]):
            gathered[row["label"]][row["metric"]][int(row["epoch"])].append(float(row["value"]))
    return {
        label: {
            metric: [
                {"epoch": epoch, "mean": math.fsum(v) / len(v), "low": min(v), "high": max(v), "seeds": len(v)}
                for epoch, v in sorted(epochs.items())
            ]
            for metric, epochs in metrics.items()
        }
        for label, metrics in gathered.items()
        if metrics
    }


def _finite(value: Any) -> Any:
    """The same value with plain lists and dicts, and None for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _finite(value.item()) if hasattr(value, "item") else str(value)
