"""One process, one run: python -m foveate.study.worker FOLDER. Dies with the coordinator that started it.

FOLDER holds run.json (the specification). The worker prints progress as JSON lines and leaves result.json, or
error.json where the run would fail the same way again. Only the coordinator writes the study's database.
"""

import fcntl
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _die_with_the_coordinator() -> None:
    """The coordinator holds the other end of standard input; when it is gone, however it went, so is this process."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path) -> int:
    """Work on the folder's run.json or costs.json; 0: result.json is there, 1: error.json is there."""
    _die_with_the_coordinator()
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a worker of a coordinator just killed may still be closing
        try:
            result = _costs(folder) if (folder / "costs.json").is_file() else _train(folder)
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
    from foveate.data import open_data
    from foveate.spec import Run
    from foveate.train import train

    run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    data = open_data(run.data)
    if run.fingerprint and data.fingerprint != run.fingerprint:
        raise ValueError(f"the data changed since the study was planned ({run.data.source}); run the study again")
    every = max(1, _steps(run, len(data.train)) // 200)

    def tell(step: int, steps: int, loss: float) -> None:
        if step % every == 0 or step == steps:
            print(json.dumps({"step": step, "steps": steps, "loss": loss}), flush=True)  # noqa: T201

    return train(run, data, folder, on_progress=tell)


def _steps(run: Any, images: int) -> int:
    from foveate.train import batches_an_epoch

    return int(run.train.epochs * batches_an_epoch(images, run.train.batch_size))


def _costs(folder: Path) -> dict[str, Any]:
    """Every arm's network measured in turns in this one process: {"costs": {label: …}, "about": …}."""
    import torch

    from foveate.costs import costs
    from foveate.networks import build_variant
    from foveate.spec import Run
    from foveate.train import machine, versions

    asked = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    torch.set_num_threads(asked["threads"])
    models, x = {}, torch.zeros(0)
    for label, spec in asked["runs"].items():
        run = Run.model_validate(spec)
        x = torch.randn(asked["shape"], generator=torch.Generator().manual_seed(0))
        model = build_variant(run, num_classes=asked["classes"], example=x[:2])
        layout = torch.channels_last if run.train.channels_last else torch.contiguous_format
        models[label] = model.to(run.train.device).to(memory_format=layout)
        x = x.to(run.train.device, memory_format=layout)
    measured = costs(models, x, repeats=asked["repeats"], budget_s=asked["budget_s"], training=True, memory=False)
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
    return {"costs": rows, "machine": machine(), "versions": versions()}


if __name__ == "__main__":
    try:
        code = main(Path(sys.argv[1]))
    except BaseException:  # told in the log already
        code = 4
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the watching thread sits in a read that an orderly exit would wait for
