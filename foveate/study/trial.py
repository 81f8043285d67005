"""A few steps of a training, for measuring: what they take in each setting of the machine, and how much memory.

The steps are those of the loop: the study's batch, its loss, its optimiser.
"""

import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch

from foveate.costs.latency import interval_of_a_ratio, interval_of_the_median, time_interleaved
from foveate.data.dataset import Dataset
from foveate.spec import Run
from foveate.study.build import build_variant_for
from foveate.tasks import Task
from foveate.train import TrainingFailed, repeated_step, torch_settings

ROUNDS, BUDGET_S = 20, 10.0  # of timing the settings in turns
WARM_UP = 3  # steps before memory is read
Step = Callable[[], None]


def times_of_settings(
    run: Run, settings: list[dict[str, bool]], task: Task, data: Dataset, *, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """A row for each setting (fields of [train]): {"setting", "ms", "ratio", "first_s", "error"}; the first is what the
    others are compared with. first_s: of the first step, in which torch.compile compiles.
    """
    rows: list[dict[str, Any]] = []
    steps: dict[str, Step] = {}
    with torch_settings(run.train):
        for number, setting in enumerate(settings):
            row: dict[str, Any] = {"setting": setting, "ms": None, "ratio": None, "first_s": None, "error": ""}
            rows.append(row)
            try:
                step = _step(run, setting, task, data)
                began = time.perf_counter()
                step()
                _wait()
                row["first_s"] = time.perf_counter() - began
                steps[str(number)] = step
            except (RuntimeError, TrainingFailed) as error:
                row["error"] = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if "0" not in steps:
            raise ValueError(f"a training step fails in the setting as given: {rows[0]['error']}")
        times = time_interleaved(steps, repeats=rounds, budget_s=BUDGET_S)
    for number, row in enumerate(rows):
        if str(number) in times:
            row["ms"] = dataclasses.asdict(interval_of_the_median(times[str(number)]))
            row["ratio"] = dataclasses.asdict(interval_of_a_ratio(times[str(number)], times["0"]))
    return rows


def memory_of_runs(runs: Mapping[str, Run], task: Task, data: Dataset) -> dict[str, int]:
    """Bytes of a GPU that a process which trains takes at its fullest, by label; a run whose steps fail has none.

    All that the driver gave it: context, weights, optimiser and the allocator's reserve (and whatever else is on that
    GPU meanwhile).
    """
    found: dict[str, int] = {}
    for label, run in runs.items():
        try:
            with torch_settings(run.train):
                found[label] = _memory(run, task, data)
        except Exception:  # of a network of a person's own any; the run itself fails with its reason
            traceback.print_exc()
        gc.collect()
    return found


def _memory(run: Run, task: Task, data: Dataset) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free, whole = torch.cuda.mem_get_info()
    context = whole - free - torch.cuda.memory_reserved()
    step = _step(run, {}, task, data)
    for _ in range(WARM_UP):
        step()
    _wait()
    return context + torch.cuda.max_memory_reserved()


def _step(run: Run, setting: Mapping[str, bool], task: Task, data: Dataset) -> Step:
    changed = run.model_copy(update={"train": run.train.model_copy(update=dict(setting))})
    return repeated_step(changed, build_variant_for(changed, data, task.outputs), task, data)


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
