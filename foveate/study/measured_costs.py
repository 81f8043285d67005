"""The costs of a study's arms: measured in one process on one machine, in turns, while no run is at work."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.spec import Run, Training
from foveate.store import Store
from foveate.study.executor import Executor, Job, WorkerResult
from foveate.study.local import LocalProcesses
from foveate.study.plan import Plan

LATENCY_BATCH = 32
LATENCY_ROUNDS = 60
COSTS = "costs"  # key of the job
_COUNTED = (
    ("parameters", "parameters"),
    ("macs", "multiply-adds a sample"),
    ("bytes_moved", "bytes a batch"),
    ("activation_bytes", "bytes a batch"),
    ("elementwise", "operations a batch"),
    ("reductions", "operations a batch"),
    ("launches", "operators a pass"),
)
_TIMES = (
    ("latency_ms", "ms a batch"),
    ("latency_ratio", "times plain"),
    ("train_step_ms", "ms a batch"),
    ("train_step_ratio", "times plain"),
)
Row = tuple[str, str, float, float | None, float | None, str]


def costs_job(runs: Mapping[str, Run], train: Training) -> Job:
    """The job that measures the networks of these runs, by label."""
    content: dict[str, Any] = {
        "runs": {label: run.model_dump(mode="json") for label, run in runs.items()},
        "batch_size": min(LATENCY_BATCH, train.batch_size),
        "repeats": LATENCY_ROUNDS,
        "budget_s": 1.0 + len(runs),
    }
    return Job(COSTS, "costs", content, train.threads)


def measure_costs(plan: Plan, train: Training, folder: Path, store: Store, working: Executor) -> None:
    """Measure every arm and keep the rows.

    A machine that is lost meanwhile is no failure: they are measured on another one, or when it is back.

    Raises: RuntimeError: they cannot be measured.
    """
    first: dict[str, Run] = {}
    for run in plan.runs:
        first.setdefault(run.arm, run)
    job = costs_job({arm.label: first[arm.label] for arm in plan.arms}, train)
    with contextlib.nullcontext(working) if working.measures_costs else LocalProcesses(folder) as here:
        ended = carried_out(job, here)
    if ended.result is None:
        raise RuntimeError(f"the costs could not be measured: {ended.error or ended.crash}")
    result = ended.result
    rows = [row for label, cost in result["costs"].items() for row in _rows(label, cost)]
    store.put_costs(rows, result["machine"], result["versions"])
    store.set_meta("roofs", result["roofs"])
    where = {"where": result["where"]} if "where" in result else {}  # a machine of a cluster
    store.set_meta("latency", {"batch_size": job.content["batch_size"], "threads": train.threads} | where)


def carried_out(job: Job, working: Executor) -> WorkerResult:
    """The job's end; where its machine is lost, on another one or when it is back."""
    while True:
        jobs = [job]
        for ended in working.work(lambda machine="", jobs=jobs: jobs.pop() if jobs else None, lambda key, news: None):
            if ended.lost is None:
                return ended
        working.wait_for_machines()


def _rows(label: str, cost: Mapping[str, Any]) -> list[Row]:
    """What the store keeps of an arm's costs."""
    rows: list[Row] = [(label, metric, cost[metric], None, None, unit) for metric, unit in _COUNTED]
    for metric, unit in _TIMES:
        if metric in cost:
            value = cost[metric]
            rows.append((label, metric, value["median"], value["low"], value["high"], unit))
    return rows
