"""Listed values (`lr = [0.003, 0.01]`): each is tried in every arm and seed, and the run that is best on the validation
part stands for its arm and seed. The test part has no say in it.

Every arm has the same number of tries. The choice is made anew in each seed, so that its own chance (another seed may
choose another value) is part of the spread between seeds that the verdict is judged by. One choice for all seeds would
be a shared cause that no number of seeds averages out: two equal arms that chose differently differ in every seed.

Source: Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021, arXiv:2103.03098: the
ideal estimator repeats the choice of hyperparameters with each seed; one made once for all understates the variance.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foveate.spec import Metric
from foveate.study.analyse.intervals import estimate
from foveate.summary import ArmTuning, Tried, Tuning
from foveate.training import validation_name

Rows = Mapping[str, Mapping[str, Any]]  # key of a run → its row of the store
ENDED = ("done", "failed")


def listed_values(names: Sequence[str], runs: Rows) -> dict[str, dict[str, Any]]:
    """Key → a run's values of these names of [train], which the study lists."""
    if not names:
        return {key: {} for key in runs}
    trained = {key: json.loads(run["spec"])["train"] for key, run in runs.items()}
    return {key: {name: one[name] for name in names} for key, one in trained.items()}


def in_words(values: Mapping[str, Any]) -> str:
    """ "lr 0.01, optimizer sgd" """
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def standing_runs(runs: Rows, scores: Mapping[str, float], metric: Metric) -> dict[str, dict[str, Any]]:
    """Key → row of the one run that stands for each arm and seed.

    It is the one that is best on the validation part; of equal ones, the one listed first. While values are still to be
    tried it is one of those. Where every value failed it is the first.

    Args:
        runs: of the plan, in its order.
        scores: key → the judged metric on the validation part, of finished runs.
    """
    standing = {}
    for tried in _by_arm_and_seed(runs).values():
        pending = [key for key in tried if runs[key]["state"] not in ENDED]
        done = [key for key in tried if key in scores]
        best = max(done, key=lambda key: metric.gain(scores[key], 0.0)) if done else tried[0]
        key = pending[0] if pending else best
        standing[key] = dict(runs[key])
    return standing


def validation_scores(rows: Iterable[Mapping[str, Any]], metric: Metric) -> dict[str, float]:
    """Key of a run → the metric on the validation part."""
    name = validation_name(metric.name)
    return {row["run"]: row["value"] for row in rows if row["metric"] == name}


def tuning(
    names: Sequence[str], runs: Rows, scores: Mapping[str, float], metric: Metric, items: int | None
) -> Tuning | None:
    """What was tried in each arm and what was chosen; None where nothing is listed.

    Args:
        names: of [train], that the study lists.
        runs, scores, metric: as of `standing_runs`.
        items: of the validation part.
    """
    if not names:
        return None
    values = listed_values(names, runs)
    standing = set(standing_runs(runs, scores, metric))
    combinations = list({json.dumps(one): one for one in values.values()}.values())
    labels = dict.fromkeys(run["arm"] for run in runs.values())
    arms = []
    for label in labels:
        tried = []
        for combination in combinations:
            keys = {run["seed"]: key for key, run in runs.items() if run["arm"] == label and values[key] == combination}
            found = {seed: scores[key] for seed, key in keys.items() if key in scores}
            tried.append(
                Tried(
                    values=combination,
                    text=in_words(combination),
                    score=estimate(found),
                    chosen=tuple(seed for seed in found if keys[seed] in standing),
                    failed=tuple(seed for seed, key in keys.items() if runs[key]["state"] == "failed"),
                )
            )
        arms.append(ArmTuning(label, tuple(tried), _chosen(tried), _at_an_end(label, names, tried)))
    return Tuning(tuple(names), metric, items, tuple(arms), _told(names, combinations, metric, items))


def _by_arm_and_seed(runs: Rows) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for key, run in runs.items():
        found.setdefault((run["arm"], run["seed"]), []).append(key)
    return found


def _told(names: Sequence[str], combinations: list[dict[str, Any]], metric: Metric, items: int | None) -> str:
    lists = []
    for name in names:
        values = [_shown(value) for value in dict.fromkeys(one[name] for one in combinations)]
        lists.append(f"{name} from {', '.join(values[:-1])} and {values[-1]}")
    where = "the validation part" if items is None else f"{items:,} validation items"
    return f"chosen in each network and seed by {metric.name} on {where}: {' and '.join(lists)}"


def _chosen(tried: list[Tried]) -> str:
    """ "lr 0.01 (4 of 5 seeds), lr 0.1 (1 of 5 seeds)"; "" while nothing is chosen."""
    seeds = sum(len(one.chosen) for one in tried)
    taken = sorted((one for one in tried if one.chosen), key=lambda one: -len(one.chosen))
    return ", ".join(f"{one.text} ({len(one.chosen)} of {seeds} seed{'s' * (seeds > 1)})" for one in taken)


def _at_an_end(label: str, names: Sequence[str], tried: list[Tried]) -> str:
    """A line for each number whose chosen value is mostly the smallest or largest of its list; "" where none is."""
    seeds = sum(len(one.chosen) for one in tried)
    lines = []
    for name in names:
        values = [one.values[name] for one in tried]
        if not seeds or isinstance(values[0], str):
            continue
        for end, value, further in (("largest", max(values), "larger"), ("smallest", min(values), "smaller")):
            count = sum(len(one.chosen) for one in tried if one.values[name] == value)
            if 2 * count > seeds and not (end == "smallest" and _is_least(value)):
                lines.append(
                    f"{label}: {name} {_shown(value)}, the {end} of its list, was chosen in {count} of {seeds} seeds; "
                    f"a {further} one may do better"
                )
    return "; ".join(lines)


def _is_least(value: float) -> bool:
    """Is there no smaller value: 0 of a rate, 1 of a count?"""
    return value == 0 or (isinstance(value, int) and value == 1)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
