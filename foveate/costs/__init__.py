"""What a network costs: counted, and measured."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.costs._guidelines import Guidelines, Place, Total, guidelines
from foveate.costs._latency import Latency, forward_step, interval_of_the_median, time_interleaved, training_step
from foveate.costs._machine import Machine, device_there, machine, with_threads
from foveate.costs._microbenchmarks import Experiment, experiment, experiments
from foveate.costs._stages import stages_of
from foveate.counting import Count, Row, Sums, count

__all__ = [
    "Cost",
    "Count",
    "Experiment",
    "Guidelines",
    "Latency",
    "Machine",
    "Place",
    "Row",
    "Sums",
    "Total",
    "cost",
    "costs",
    "count",
    "device_there",
    "experiment",
    "experiments",
    "guidelines",
    "machine",
    "macs",
    "parameters",
    "stages_of",
    "with_threads",
]


@dataclass(frozen=True)
class Cost:
    """What one forward pass over a batch costs.

    parameters; macs (multiply-adds of the batch); bytes_moved (read and written by its operators); activation_bytes
    (kept for the backward pass); latency_ms (median, low, high of one pass); latency_ratio to the baseline, measured
    round by round in the same run (1, 1, 1 for the baseline itself); train_step_ms of one forward and backward pass in
    training mode, where asked for.
    """

    parameters: int
    macs: int
    bytes_moved: int
    activation_bytes: int
    latency_ms: Latency
    latency_ratio: Latency | None = None
    train_step_ms: Latency | None = None


def cost(
    model: nn.Module, x: Tensor, baseline: nn.Module | None = None, *, repeats: int = 50, budget_s: float = 10.0
) -> Cost:
    """What the model costs on the batch x, in evaluation mode; with a baseline, measured against it in the same run.

    Args:
        model: any network; left as it was found (modes, gradients).
        x: a batch on the device to measure.
        baseline: another network for the same batch; gives `latency_ratio`.
        repeats: rounds at most. budget_s: seconds of measuring at most (5 rounds at least).
    """
    models = {"model": model} if baseline is None else {"baseline": baseline, "model": model}
    return costs(models, x, repeats=repeats, budget_s=budget_s)["model"]


def costs(
    models: Mapping[str, nn.Module], x: Tensor, *, repeats: int = 50, budget_s: float = 10.0, training: bool = False
) -> dict[str, Cost]:
    """The cost of every model on the batch x, interleaved; the first is the baseline of the ratios.

    training: measure a training step as well, for as long again; changes batch-norm statistics and clears gradients.
    """
    with contextlib.ExitStack() as stack:
        for model in models.values():
            stack.enter_context(_evaluating(model))
        counted = {name: _counts(model, x) for name, model in models.items()}
        steps = {name: forward_step(model, x) for name, model in models.items()}
        samples = time_interleaved(steps, repeats=repeats, budget_s=budget_s)
    trained: dict[str, list[float]] = {}
    if training:
        steps = {name: training_step(model, x) for name, model in models.items()}
        trained = time_interleaved(steps, repeats=repeats, budget_s=budget_s)
    first = samples[next(iter(models))]
    return {
        name: Cost(
            *counted[name],
            latency_ms=interval_of_the_median(samples[name]),
            latency_ratio=interval_of_the_median([a / b for a, b in zip(samples[name], first, strict=True)])
            if len(models) > 1
            else None,
            train_step_ms=interval_of_the_median(trained[name]) if training else None,
        )
        for name in models
    }


def parameters(model: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, x: Tensor | tuple[Tensor, ...]) -> int:
    """Multiply-adds of one forward pass: convolutions, linear layers, matrix products and attention; half the FLOPs."""
    return count(model, x, kept=False).macs


def _counts(model: nn.Module, x: Tensor) -> tuple[int, int, int, int]:
    found = count(model, x).total
    return found.parameters, found.macs, found.bytes_moved, found.activation_bytes


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
