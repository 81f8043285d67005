"""The network of a run: plain weights of its seed or file, the attention inserted, changed if it is a control."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.compress import prune
from foveate.data.dataset import Batch, Dataset
from foveate.insertion import insert
from foveate.networks import (
    Origin,
    ReleasedFile,
    build_larger,
    head_of,
    input_channels,
    load_weights,
    read_release,
    read_weights,
    release_of,
    weights_fingerprint,
)
from foveate.official import encoder_place, start_encoder
from foveate.spec import Run
from foveate.study.controls.build import as_control

_STARTED = "_foveate_started"
SEED_STEP = 1_000_003  # between the seeds of several insertions of one run


def build_variant(run: Run, *, num_classes: int, in_channels: int, example: Any) -> nn.Module:
    """The network of a run, on the device of the example.

    The same seed gives every variant the same plain weights: the attention's are drawn apart. torch's global generator
    is left as it was.

    Args:
        num_classes: what the task needs of the head.
        in_channels: of a sample.
        example: inputs of a batch on the device to build on, as `foveate.insert` takes them; "meta" builds without
            memory or arithmetic.

    Raises: as `build_network`, `load_weights` and `foveate.insert`.
    """
    variant = run.variant
    with torch.random.fork_rng(devices=[]), _device(example):
        torch.manual_seed(run.seed)
        larger = (run.control.widths, run.control.block) if run.control else ((), "")
        model = build_larger(Origin(run.network, num_classes, in_channels, run.network_options, run.width, *larger))
        if run.weights is not None:
            _start_from(run, run.weights, model, num_classes, in_channels)
        for number, part in enumerate(variant.insert):
            place: Any = part.at
            insert(
                model,
                part.attention,
                at=place,
                example=example,
                init=part.init,
                replace=part.replace,
                freeze="base" if variant.freeze and number == len(variant.insert) - 1 else None,
                seed=run.seed + SEED_STEP * number,
                **part.options,
            )
        if run.control is not None:
            torch.manual_seed(run.seed + SEED_STEP * len(variant.insert))
            as_control(model, run, example)
    return model


def _start_from(run: Run, weights: str, model: nn.Module, num_classes: int, in_channels: int) -> None:
    if run.width != 1 or (run.control and (run.control.widths or run.control.block)):
        larger = "with one more block" if run.control and run.control.block else "widened"
        raise ValueError(f"weights {weights} are those of the plain network; they do not fit one {larger}")
    if run.weights_fingerprint not in ("", weights_fingerprint(weights)):
        raise ValueError(f"weights {weights} changed since the study was planned; run the study again")
    made = {"in_channels": in_channels, **run.network_options}
    released = ReleasedFile(release_of(run.network), Path(weights)) if run.pretrained else None
    given = read_weights(weights) if released is None else read_release(released, **made)
    head = partial(head_of, run.network, num_classes=num_classes, **made)
    try:
        load_weights(model, given, head=head)
    except ValueError as error:
        if released is not None or encoder_place(model) is None:
            raise
        try:
            vars(model)[_STARTED] = str(start_encoder(model, given))
        except ValueError as other:
            raise ValueError(f"{error}; {other}") from None


def how_it_started(model: nn.Module) -> str:
    """What a network took of a file with its encoder's weights; "" if it took all or there was none."""
    return str(vars(model).get(_STARTED, ""))


def _device(example: Any) -> torch.device:
    if isinstance(example, Tensor):
        return example.device
    values = example.values() if isinstance(example, dict) else example
    return next((_device(value) for value in values), torch.device("cpu"))


def example_batch(run: Run, data: Dataset, count: int = 2) -> Batch:
    """A batch of the first training items, as the run's network takes it; a small set is repeated.

    Where evaluation gives items of several sizes, it is one of training, which have one.
    """
    items = len(data.train) or count  # a set without items gives a batch of any length
    augment = None if data.train.shapes is None else (0, 0)
    batch = data.train.batch([number % items for number in range(count)], augment)
    if isinstance(batch.inputs, Tensor):
        channels = input_channels(run.network, batch.inputs.shape[1])
        return Batch(batch.inputs.expand(-1, channels, *batch.inputs.shape[2:]), batch.targets, batch.items)
    return batch


def example_inputs(batch: Batch, device: str = "cpu") -> Any:
    """The batch's inputs as zeros on a device, as `foveate.insert` takes an example."""
    zeros = _zeros(batch.inputs, device)
    return zeros if isinstance(zeros, (Tensor, dict)) else (zeros,)


def _zeros(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros(value.shape, dtype=value.dtype, device=device)
    if isinstance(value, dict):
        return {key: _zeros(entry, device) for key, entry in value.items()}
    return [_zeros(entry, device) for entry in value] if isinstance(value, (list, tuple)) else value


def build_for(run: Run, data: Dataset, outputs: int, device: str = "cpu") -> nn.Module:
    """The network that a run ends with, with fresh weights: `build_variant_for`, pruned if the run says so.

    How many channels go depends on no weights, so this one costs what the trained one costs.
    """
    pruning = run.variant.prune
    if pruning is None:
        return build_variant_for(run, data, outputs, device)
    example = example_inputs(example_batch(run, data))
    small = prune(build_variant_for(run, data, outputs), example, pruning.amount, importance=pruning.importance)
    return small.to(device)


def build_variant_for(run: Run, data: Dataset, outputs: int, device: str = "cpu") -> nn.Module:
    """The network that a run begins with: `build_variant` with an example made from the data."""
    batch = example_batch(run, data)
    example = example_inputs(batch, device)
    channels = example.shape[1] if isinstance(example, Tensor) else data.inputs[0]
    return build_variant(run, num_classes=outputs, in_channels=channels, example=example)
