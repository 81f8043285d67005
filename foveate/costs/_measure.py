"""Counting and measuring networks side by side, in one run."""

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foveate.costs._cost import Cost
from foveate.costs._energy import energy_mj
from foveate.costs._latency import (
    Latency,
    forward_step,
    interval_of_a_repeat,
    interval_of_the_median,
    time_interleaved,
    training_step,
)
from foveate.costs._memory import halving
from foveate.costs._onnx import exported_step
from foveate.costs._peak import start_measuring_peaks
from foveate.costs._setting import Setting
from foveate.costs._stages import stages_of
from foveate.counting import Count, count
from foveate.insertion import inserted

Steps = dict[str, Callable[[], object]]


def cost(
    model: nn.Module,
    x: Tensor,
    baseline: nn.Module | None = None,
    *,
    setting: Setting | None = None,
    repeats: int = 200,
    budget_s: float = 5.0,
    training: bool = False,
    memory: bool = True,
) -> Cost:
    """What the model costs on the batch x, in evaluation mode; with a baseline, measured against it in the same run.

    Args:
        model: any network; left as it was found (modes, gradients).
        x: a batch.
        baseline: another network for the same batch; gives `latency_ratio`.
        setting: device, numbers, layout, compiler; None measures as model and batch are.
        repeats: rounds at most. budget_s: seconds of measuring at most (5 rounds at least).
        training: measure a training step as well, for as long again, on a copy.
        memory: measure the peak as well; some seconds on a CPU, where it takes a process of its own.

    Raises: ValueError: the network refuses the batch. RuntimeError: not even one sample fits into memory.
    """
    models = {"model": model} if baseline is None else {"baseline": baseline, "model": model}
    found = costs(models, x, setting=setting, repeats=repeats, budget_s=budget_s, training=training, memory=memory)
    return found["model"]


def costs(
    models: Mapping[str, nn.Module],
    x: Tensor,
    *,
    setting: Setting | None = None,
    repeats: int = 200,
    budget_s: float = 5.0,
    training: bool = False,
    memory: bool = True,
    stages: bool = False,
    modules: bool = False,
    energy: bool = False,
) -> dict[str, Cost]:
    """The cost of every model on the batch x, measured in turns; the first is the baseline of the ratios.

    Further than `cost`: stages gives the rows of the counts their stage; modules times every inserted module by itself,
    for as long again; energy takes a second a model, where there is a meter.
    """
    setting = setting or Setting()
    if setting.target != "torch" and (training or modules):
        raise ValueError(f"target {setting.target} runs no training step and no module by itself")
    memory = memory and setting.target == "torch"
    device = setting.device or next((t.device.type for m in models.values() for t in m.parameters()), x.device.type)

    def run(batch: int) -> dict[str, Cost]:
        placed = {name: setting.place(model) for name, model in models.items()}
        given = setting.batch(x[:batch])
        with contextlib.ExitStack() as stack:
            for model in placed.values():
                stack.enter_context(_evaluating(model))
            stack.enter_context(setting.numbers(given.device))
            if memory:
                peaks = start_measuring_peaks(placed, given, setting, training=training)
            try:
                counted = {name: count(model, given) for name, model in placed.items()}
                if stages:
                    counted = {name: one.staged(stages_of(placed[name], given)) for name, one in counted.items()}
            finally:
                peak = peaks() if memory else {}
            forward, checked = _forward_steps(placed, given, setting, stack)
            times = time_interleaved(forward, repeats=repeats, budget_s=budget_s)
            inside = _inserted_times(placed, given, repeats, budget_s) if modules else {}
            joules = {name: energy_mj(step, given.device) for name, step in forward.items()} if energy else {}
        trained: dict[str, list[float]] = {}
        if training:
            copies = {name: copy.deepcopy(model) for name, model in placed.items()}
            with setting.numbers(given.device):
                steps: Steps = {
                    name: training_step(model, _run(model, setting), given) for name, model in copies.items()
                }
                trained = time_interleaved(steps, repeats=repeats, budget_s=budget_s)
        first = next(iter(models))
        return {
            name: Cost(
                counted=counted[name],
                batch_size=batch,
                latency_ms=interval_of_a_repeat(times[name]),
                latency_ratio=_ratio(times, name, first),
                train_step_ms=interval_of_a_repeat(trained[name]) if training else None,
                train_step_ratio=_ratio(trained, name, first) if training else None,
                peak_mib=_number(peak.get(name, ()), 0),
                train_peak_mib=_number(peak.get(name, ()), 1),
                energy_mj=_number((joules.get(name),), 0),
                inserted_ms={place: interval_of_a_repeat(ms) for place, ms in inside.get(name, {}).items()},
                notes=(*checked.get(name, ()), *_notes(counted[name]), *_reasons(peak.get(name, ()), joules.get(name))),
                times_ms=tuple(times[name]),
            )
            for name in models
        }

    found, _, said = halving(len(x), run, on=str(device))
    return {name: replace(one, notes=(*said, *one.notes)) for name, one in found.items()}


def _forward_steps(
    models: Mapping[str, nn.Module], x: Tensor, setting: Setting, stack: contextlib.ExitStack
) -> tuple[Steps, dict[str, list[str]]]:
    """A forward pass of each network on its target, and what was found while preparing it."""
    if setting.target == "torch":
        return {name: forward_step(_run(model, setting), x) for name, model in models.items()}, {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foveate-onnx-")))
    exported = {name: exported_step(name, model, x, folder) for name, model in models.items()}
    return {name: step for name, (step, _) in exported.items()}, {name: [said] for name, (_, said) in exported.items()}


def _run(model: nn.Module, setting: Setting) -> Callable[..., Any]:
    return torch.compile(model) if setting.compile else model


def _ratio(times: Mapping[str, list[float]], name: str, first: str) -> Latency | None:
    if len(times) < 2:
        return None
    return interval_of_the_median([a / b for a, b in zip(times[name], times[first], strict=True)])


def _number(found: Sequence[float | str | None], at: int) -> float | None:
    value = found[at] if at < len(found) else None
    return value if isinstance(value, float) else None


def _reasons(peak: Sequence[float | str], joules: float | str | None) -> list[str]:
    kinds = ("peak memory", "peak memory of a training step")
    reasons = [f"{kind}: {value}" for kind, value in zip(kinds, peak, strict=False) if isinstance(value, str)]
    return [*reasons, joules] if isinstance(joules, str) else reasons


def _notes(counted: Count) -> list[str]:
    said = []
    if counted.unknown:
        names = ", ".join(f"{name} ({times}×)" for name, times in counted.unknown.items())
        said.append(f"operators whose arithmetic is not counted, because nothing is known of them: {names}")
    if counted.data_dependent:
        names = ", ".join(counted.data_dependent)
        said.append(f"the counts hold for this batch only, its values decide what runs: {names}")
    if not counted.trained:
        said.append("activation bytes are of evaluation mode: this batch is too small for batch norm to train on")
    return said


def _inserted_times(
    models: Mapping[str, nn.Module], x: Tensor, repeats: int, budget_s: float
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds within each inserted module in a forward pass, all models in turns: name → place → rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    steps: Steps = {}
    with contextlib.ExitStack() as stack:
        for name, model in models.items():
            places = dict(inserted(model))
            if places:
                found[name] = {place: [] for place in places}
                steps[name] = stack.enter_context(_clocked(model, x, places, found[name]))
        if steps:
            rounds = len(next(iter(time_interleaved(steps, repeats=repeats, budget_s=budget_s).values())))
    return {name: {place: ms[-rounds:] for place, ms in times.items()} for name, times in found.items()}


@contextlib.contextmanager
def _clocked(
    model: nn.Module, x: Tensor, places: Mapping[str, nn.Module], found: dict[str, list[float]]
) -> Iterator[Callable[[], object]]:
    """A forward pass that adds to `found` what each of the modules took."""
    spent = dict.fromkeys(places, 0.0)
    began: dict[str, float] = {}

    def now() -> float:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter()

    def start(place: str) -> None:
        began[place] = now()

    def stop(place: str) -> None:
        spent[place] += now() - began[place]

    def step() -> None:
        spent.update(dict.fromkeys(spent, 0.0))
        run()
        for place, seconds in spent.items():
            found[place].append(1e3 * seconds)

    run = forward_step(model, x)
    handles: list[RemovableHandle] = []
    for place, module in places.items():
        handles.append(module.register_forward_pre_hook(lambda *_, place=place: start(place)))
        handles.append(module.register_forward_hook(lambda *_, place=place: stop(place)))
    try:
        yield step
    finally:
        for handle in handles:
            handle.remove()


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
