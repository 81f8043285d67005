"""The training of a run that is pruned or learns from a teacher, from training, pruning and distillation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from foveate.compress import distilled, prune
from foveate.data.dataset import Dataset
from foveate.spec import Run
from foveate.study.build import build_variant_for, example_batch, example_inputs
from foveate.study.teacher import load_teacher, teacher_fingerprint
from foveate.tasks import Task
from foveate.train import train

BEFORE = "before_pruning"  # folder of the first training, in that of the run
OnProgress = Callable[[int, int, float], None]


def train_smaller(
    run: Run,
    task: Task,
    data: Dataset,
    folder: Path,
    on_progress: OnProgress,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train the run's network as `foveate.train.train` does; if it is to be pruned, prune it then and train it again.

    The first training is a run of its own. It is taken from the study where that has it, and goes on where it was
    stopped, as the second does.

    Returns: the trained network, and what `train` gives.
    Raises: as `train`, `prune` and `distilled`; ValueError: if the teacher changed since the study was planned.
    """
    pruning = run.variant.prune
    if pruning is None:
        model = build_variant_for(run, data, task.outputs)
        taught = with_teacher(run, task, data, model)
        return model, train(run, model, taught, data, folder, on_progress=on_progress, stop=stop)
    first, second = before_pruning(run), after_pruning(run)
    epochs = first.train.epochs + second.train.epochs
    model = build_variant_for(first, data, task.outputs)
    weights = folder.parent / first.key / "model.safetensors"
    if not (weights.is_file() and (weights.parent / "result.json").is_file()):
        weights = folder / BEFORE / "model.safetensors"
        if not weights.is_file():
            weights.parent.mkdir(exist_ok=True)

            def progress(step: int, steps: int, loss: float) -> None:
                on_progress(step, steps * epochs // first.train.epochs, loss)

            taught = with_teacher(first, task, data, model)
            train(first, model, taught, data, weights.parent, on_progress=progress, stop=stop)
    model.load_state_dict(safetensors.torch.load_file(weights))
    example = example_inputs(example_batch(run, data))
    small = prune(model.cpu(), example, pruning.amount, importance=pruning.importance)

    def after(step: int, steps: int, loss: float) -> None:
        done = steps * first.train.epochs // second.train.epochs
        on_progress(done + step, steps + done, loss)

    taught = with_teacher(second, task, data, small)
    return small, train(second, small, taught, data, folder, on_progress=after, stop=stop)


def before_pruning(run: Run) -> Run:
    """The run that trains the network before it is pruned."""
    return run.model_copy(update={"variant": run.variant.model_copy(update={"prune": None})})


def after_pruning(run: Run) -> Run:
    """The run with the epochs and the learning rate of the training after the pruning."""
    pruning = run.variant.prune
    assert pruning is not None
    changes = {"epochs": pruning.epochs or run.train.epochs, "lr": pruning.lr or run.train.lr}
    return run.model_copy(update={"train": run.train.model_copy(update=changes)})


def with_teacher(run: Run, task: Task, data: Dataset, model: nn.Module) -> Task:
    """The task, with the teacher's part in its loss if the run has one."""
    spec = run.variant.distill
    if spec is None:
        return task
    if run.teacher_fingerprint not in ("", teacher_fingerprint(spec)):
        raise ValueError(f"the teacher {spec.teacher} changed since the study was planned; run the study again")
    device = run.train.device
    teacher = load_teacher(spec, task.outputs).to(device)
    return distilled(task, spec, model.to(device), teacher, example_batch(run, data).to(device).inputs)
