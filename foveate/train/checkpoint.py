"""A run's checkpoint: one safetensors file, replaced whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from foveate.files import write_whole
from foveate.train.average import WeightAverage
from foveate.train.ranks import Ranks

CHECKPOINT = "checkpoint.safetensors"
ALONE = Ranks()


class TrainingFailed(RuntimeError):
    """A run that would fail the same way again: the loss is not finite, or the machine refuses (disk, memory)."""


class TrainingStopped(Exception):
    """A training ended early as it was asked to; its checkpoint is written."""


def save_checkpoint(
    path: Path,
    key: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    average: WeightAverage | None = None,
    generators: Sequence[Mapping[str, Tensor]] = (),
) -> None:
    """Weights, optimiser state, generators, the average of the weights and the JSON facts of a run, in one file.

    generators: the states of each rank's, as `Ranks.generators` gives them.

    Raises: TrainingFailed: it cannot be written; the one before is whole.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slot.items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.tensors.items()}
    for rank, own in enumerate(generators):
        tensors |= {f"{name}.{rank}" if rank else name: state for name, state in own.items()}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_tensors(path, tensors, {"key": key, "facts": json.dumps(facts), "ranks": str(len(generators))})


def load_checkpoint(
    path: Path,
    key: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Put a checkpoint's state back into the model, the optimiser, the average and this rank's generators; returns its
    facts.

    Raises: TrainingFailed: it is cut short, another run's, or of another number of ranks.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise TrainingFailed(f"{path}: not a checkpoint ({error}); delete it to begin this run again") from None
    if about.get("key") != key:
        raise TrainingFailed(f"{path} belongs to another run ({about.get('key')}, wanted {key})")
    if (count := int(about.get("ranks", 1))) != ranks.count:
        raise TrainingFailed(f"{path} is of a training in {count} ranks; got {ranks.count}")
    model.load_state_dict(_under("model.", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, slot = name.split(".", 1)
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        average.load(_under("average.", tensors))
    own = f".{ranks.number}" if ranks.number else ""
    torch.set_rng_state(tensors[f"generator{own}"])
    if f"cuda_generator{own}" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[f"cuda_generator{own}"])
    facts: dict[str, Any] = json.loads(about["facts"])
    return facts


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all; what stood there before stays until the new one is on the disk.

    Raises: TrainingFailed: if it cannot be written.
    """
    try:
        write_whole(path, safetensors.torch.save(tensors, about))
    except OSError as error:
        raise TrainingFailed(f"{path}: {error.strerror}; the file before is whole") from None
