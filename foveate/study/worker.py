"""One process, one job: python -m foveate.study.worker FOLDER. Ends with the coordinator that started it.

FOLDER has run.json (a training) or costs.json. The worker prints progress as JSON lines and leaves result.json, or
error.json where the job would fail the same way again. Only the coordinator writes the study's database.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def _end_with_the_coordinator() -> None:
    """The coordinator has the other end of standard input; when it is gone, however it went, so is this process."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path) -> int:
    """Work on the folder's run.json or costs.json; 0: result.json is there, 1: error.json is there."""
    from foveate.files import read_json, write_json
    from foveate.study.folder import try_lock
    from foveate.study.run import WORKING

    _end_with_the_coordinator()
    os.environ[WORKING] = "1"
    with open(folder / ".lock", "w") as lock:
        try_lock(lock, wait=True)  # a worker of a coordinator just killed may still be closing
        try:
            costs = folder / "costs.json"
            result = _costs(read_json(costs)) if costs.is_file() else _train(folder)
        except Exception as error:
            import traceback

            from foveate.train import TrainingFailed

            traceback.print_exc()
            if isinstance(error, (TrainingFailed, ValueError, LookupError, TypeError)):
                text = str(error.args[0] if error.args else error).splitlines()[0]
                write_json(folder / "error.json", {"error": text})
                return 1
            raise
        write_json(folder / "result.json", result)
    return 0


def _train(folder: Path) -> dict[str, Any]:
    from foveate.registry import read_from_file
    from foveate.spec import Run
    from foveate.study.build import build_for
    from foveate.train import train, train_with

    run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    data, task = _opened(run)
    if run.fingerprint and data.fingerprint != run.fingerprint:
        raise ValueError(f"the data changed since the study was planned ({run.data.source}); run the study again")
    model = build_for(run, data, task.outputs)
    tell = _Progress()
    if run.trainer is not None:
        trainer = read_from_file(run.trainer, "a function")
        result = train_with(trainer, run, model, task, data, folder, on_progress=tell)
    else:
        result = train(run, model, task, data, folder, on_progress=tell)
    return result | {"network": {"outputs": task.outputs, "inputs": list(data.inputs)}}


def _opened(run: Any) -> tuple[Any, Any]:
    """The run's data and task, after the user's own files have registered what they register."""
    from foveate.data import open_data
    from foveate.registry import run_file
    from foveate.tasks import create_task

    for path in run.imports:
        run_file(path)
    data = open_data(run.data)
    return data, create_task(run.task, data, **run.task_options)


class _Progress:
    """Prints every 200th part of the steps."""

    def __call__(self, step: int, steps: int, loss: float) -> None:
        every = max(1, steps // 200)
        if step % every == 0 or step == steps:
            print(json.dumps({"step": step, "steps": steps}), flush=True)  # noqa: T201


def _costs(content: dict[str, Any]) -> dict[str, Any]:
    """Every arm's network measured in turns in this one process: {"costs": {label: …}, "machine", "versions"}."""
    import torch

    from foveate.costs import costs
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
            x = example_inputs(example_batch(run, data, content["batch_size"]))
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
    return {"costs": rows, "machine": machine_name(), "versions": versions()}


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]))
    except BaseException:  # in the log already
        code = 4
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the watching thread sits in a read that an orderly exit would wait for
