"""One process, one job: python -m foveate.study.worker FOLDER. Ends with the coordinator that started it.

FOLDER has run.json (a training), costs.json or trial.json. The worker prints progress as JSON lines and leaves
result.json, or error.json where the job would fail the same way again. Only the coordinator writes the study's
database.
"""

import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STOPPED = 5  # exit status where the study was paused: the checkpoint is there
LOOK_S = 1.0  # between looks whether it was


def main(folder: Path) -> int:
    """Do the folder's job; 0: result.json is there, 1: error.json is there, STOPPED: a checkpoint."""
    from foveate.files import write_json
    from foveate.machine import end_with_the_parent
    from foveate.study.folder import try_lock
    from foveate.study.run import WORKING
    from foveate.train import TrainingStopped

    end_with_the_parent()
    os.environ[WORKING] = "1"
    with open(folder / ".lock", "w") as lock:
        try_lock(lock, wait=True)  # a worker of a coordinator just killed may still be closing
        try:
            result = perform(folder, _print_progress, _paused(folder.parent.parent))
        except TrainingStopped:
            return STOPPED
        except Exception as error:
            text = lasting_error(error)
            if text is None:
                raise
            traceback.print_exc()
            write_json(folder / "error.json", {"error": text})
            return 1
        write_json(folder / "result.json", result)
    return 0


def perform(
    folder: Path,
    on_progress: Callable[[int, int, float], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Do the job whose file is in the folder, in this process; its result as plain values.

    Args:
        folder: of the job; a training writes its weights, scores of items and pictures there.
        on_progress: called with (steps done, steps in all, loss).
        stop: is to stop at a checkpoint? A trainer of the user's own goes on to its end.

    Raises: any Exception; `lasting_error` tells those that would come again.
    """
    from foveate.files import read_json

    costs, trial = folder / "costs.json", folder / "trial.json"
    if costs.is_file():
        return _costs(read_json(costs))
    if trial.is_file():
        return _trial(read_json(trial))
    return _train(folder, on_progress or (lambda step, steps, loss: None), stop)


def _paused(study: Path) -> Callable[[], bool]:
    """Is the study of this folder paused? Looked up once a second."""
    import time

    from foveate.study.folder import is_paused

    looked, found = -math.inf, False

    def paused() -> bool:
        nonlocal looked, found
        if time.monotonic() - looked > LOOK_S:
            looked, found = time.monotonic(), is_paused(study)
        return found

    return paused


def lasting_error(error: Exception) -> str | None:
    """One line for an error that the same job would raise again; None for one that it may not.

    Errors that come through a file of the user's are of the first sort, and the line of that file is named.
    """
    from foveate.registry import error_in, user_file_in
    from foveate.train import TrainingFailed

    if isinstance(error, TrainingFailed):
        return str(error)
    file = user_file_in(error)
    if file is not None:
        return f"{file.name}: {error_in(error, file)}"
    if isinstance(error, (ValueError, LookupError, TypeError)):
        return (str(error.args[0] if error.args else error).splitlines() or [type(error).__name__])[0]
    return None


def _train(folder: Path, on_progress: Callable[[int, int, float], None], stop: Callable[[], bool]) -> dict[str, Any]:
    from foveate.registry import read_from_file
    from foveate.spec import Run
    from foveate.study.build import build_for, example_batch
    from foveate.study.explained import explained_rows
    from foveate.study.robust import corrupted_rows
    from foveate.study.smaller import train_smaller
    from foveate.train import train_with

    run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    data, task = _opened(run)
    if run.fingerprint and data.fingerprint != run.fingerprint:
        raise ValueError(f"the data changed since the study was planned ({run.data.source}); run the study again")
    if run.trainer is not None:
        trainer, model = read_from_file(run.trainer, "a function"), build_for(run, data, task.outputs)
        result = train_with(trainer, run, model, task, data, folder, on_progress=on_progress)
    else:
        model, result = train_smaller(run, task, data, folder, on_progress, stop)
    if run.robustness is not None:
        result["metrics"] += corrupted_rows(run, model, task, data)
    if run.explain is not None:
        result["metrics"] += explained_rows(run, model, data, folder)
    inputs = example_batch(run, data, 1).inputs
    sample = list(inputs.shape[1:]) if hasattr(inputs, "shape") else None  # None: several tensors
    return result | {"network": {"outputs": task.outputs, "sample": sample}}


def _trial(content: dict[str, Any]) -> dict[str, Any]:
    """The times of one run's steps in several settings, {"rows", "machine"}; or the memory of runs, {"bytes"}."""
    from foveate.machine import machine_name
    from foveate.spec import Run
    from foveate.study.trial import memory_of_runs, times_of_settings

    if "run" in content:
        run = Run.model_validate(content["run"])
        data, task = _opened(run)
        return {"rows": times_of_settings(run, content["settings"], task, data), "machine": machine_name()}
    runs = {label: Run.model_validate(spec) for label, spec in content["runs"].items()}
    data, task = _opened(next(iter(runs.values())))
    return {"bytes": memory_of_runs(runs, task, data)}


def _opened(run: Any) -> tuple[Any, Any]:
    """The run's data and task, after the user's own files have registered what they register."""
    from foveate.data import open_data
    from foveate.registry import run_file
    from foveate.tasks import create_task

    for path in run.imports:
        run_file(path)
    data = open_data(run.data)
    return data, create_task(run.task, data, **run.task_options)


def _print_progress(step: int, steps: int, loss: float) -> None:
    """A JSON line for every 200th part of the steps."""
    if step % max(1, steps // 200) == 0 or step == steps:
        print(json.dumps({"step": step, "steps": steps}), flush=True)  # noqa: T201


def _costs(content: dict[str, Any]) -> dict[str, Any]:
    """Every arm's network measured in turns in this one process: {"costs": {label: …}, "machine", "versions"}."""
    import torch

    from foveate.costs import costs, roofs
    from foveate.machine import machine_name, versions
    from foveate.spec import Run
    from foveate.study.build import build_for, example_batch, example_inputs

    models: dict[str, Any] = {}
    x: Any = None
    for label, spec in content["runs"].items():
        run = Run.model_validate(spec)
        if not models:
            torch.set_num_threads(run.train.threads)
            data, task = _opened(run)
            layout = torch.channels_last if run.train.channels_last else torch.contiguous_format
            batch = example_batch(run, data, content["batch_size"])
            x = task.arguments(batch.to(run.train.device)) if task.detects else example_inputs(batch)
            if isinstance(x, torch.Tensor):
                x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
                x = x.to(run.train.device, memory_format=layout if x.dim() == 4 else torch.contiguous_format)
        models[label] = build_for(run, data, task.outputs).to(run.train.device).to(memory_format=layout)
    measured = costs(models, x, repeats=content["repeats"], budget_s=content["budget_s"], training=True, memory=False)
    rows = {}
    for label, cost in measured.items():
        row: dict[str, Any] = {
            "parameters": cost.parameters,
            "macs": cost.macs // cost.batch_size,
            "bytes_moved": cost.bytes_moved,
            "activation_bytes": cost.activation_bytes,
            "elementwise": cost.counted.total.elementwise,
            "reductions": cost.counted.total.reductions,
            "launches": cost.counted.total.launches,
            "latency_ms": vars(cost.latency_ms),
        }
        for name in ("latency_ratio", "train_step_ms", "train_step_ratio"):
            if (time := getattr(cost, name)) is not None:
                row[name] = vars(time)
        rows[label] = row
    return {"costs": rows, "roofs": roofs(x), "machine": machine_name(), "versions": versions()}


def work(folder: Path) -> NoReturn:
    """Do the folder's job and end this process with its exit status; 4: it crashed, and the log says why."""
    try:
        code = main(folder)
    except BaseException:
        traceback.print_exc()
        code = 4
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the watching thread sits in a read that an orderly exit would wait for


if __name__ == "__main__":
    work(Path(sys.argv[1]))
