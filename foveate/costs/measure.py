"""What networks cost: counted, and measured side by side in one run."""

import contextlib
import copy
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from foveate.attention import has_hard_gates
from foveate.costs.energy import energy_mj
from foveate.costs.latency import (
    Latency,
    distinguishable,
    forward_step,
    interval_of_a_ratio,
    interval_of_a_repeat,
    time_interleaved,
    training_step,
)
from foveate.costs.memory import halving, start_measuring_peaks
from foveate.costs.setting import Setting, exported_step
from foveate.counting import (
    Batch,
    Count,
    Skips,
    batch_size,
    count,
    first_samples,
    first_tensor,
    macs_on_zeros,
    passes,
    skips,
)
from foveate.insertion import inserted, sites

Steps = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Cost:
    """What one pass over a batch costs.

    counted: all rows of the count, of which parameters, macs (multiply-adds of the batch), elementwise, reductions,
    bytes_moved, launches, unknown and activation_bytes (kept for the backward pass) are the sums. batch_size: what was
    run, less than given where that did not fit into memory. latency_ms: median of a forward pass, and the
    interval in which a repeat of the measurement falls. latency_ratio: to the baseline, round by round in the same run,
    with the interval of `interval_of_a_ratio` (1, 1, 1 for the baseline itself): the two differ where it leaves out 1.
    train_step_ms, train_step_ratio: of a forward and backward pass in training mode.
    peak_mib, train_peak_mib: memory that a pass takes above weights and batch. energy_mj: millijoules of a forward
    pass. inserted_ms: of each inserted module, by its place. skip_bytes: the most that lateral connections keep at one
    time in inference; skip_ratio: the time of a pass in times of one without them, as `foveate.counting.skips` and
    `passes` define both. zero_macs: multiply-adds of convolutions over channels and positions that are 0 throughout, as
    hard gates make them, where a network of the run has some (`foveate.counting.macs_on_zeros`); they are computed all
    the same, and are part of macs. What was not measured or cannot be is None; `notes`
    say why.
    """

    counted: Count = field(repr=False)
    batch_size: int
    latency_ms: Latency
    latency_ratio: Latency | None = None
    train_step_ms: Latency | None = None
    train_step_ratio: Latency | None = None
    peak_mib: float | None = None
    train_peak_mib: float | None = None
    energy_mj: float | None = None
    inserted_ms: Mapping[str, Latency] = field(default_factory=dict)
    skip_bytes: int | None = None
    skip_ratio: Latency | None = None
    zero_macs: int | None = None
    notes: tuple[str, ...] = ()
    times_ms: tuple[float, ...] = field(default=(), repr=False)

    @property
    def parameters(self) -> int:
        return self.counted.total.parameters

    @property
    def macs(self) -> int:
        return self.counted.total.macs

    @property
    def bytes_moved(self) -> int:
        return self.counted.total.bytes_moved

    @property
    def activation_bytes(self) -> int:
        return self.counted.total.activation_bytes

    @property
    def unknown(self) -> dict[str, int]:
        return self.counted.unknown

    def row(self) -> dict[str, Any]:
        """All figures as plain values."""
        total = asdict(self.counted.total) | {"bytes_moved": self.bytes_moved, "unknown": self.unknown}
        measured = {
            name: None if (value := getattr(self, name)) is None else asdict(value)
            for name in ("latency_ms", "latency_ratio", "train_step_ms", "train_step_ratio", "skip_ratio")
        }
        rest = {
            name: getattr(self, name)
            for name in ("batch_size", "peak_mib", "train_peak_mib", "energy_mj", "skip_bytes", "zero_macs")
        }
        if self.latency_ratio is not None:
            slower = "slower" if self.latency_ratio.median > 1 else "faster"
            rest["told"] = slower if distinguishable(self.latency_ratio) else "not distinguishable"
        inserted = {name: asdict(time) for name, time in self.inserted_ms.items()}
        return {**total, **measured, **rest, "inserted_ms": inserted, "notes": list(self.notes)}


def compared(ours: Cost, other: Cost) -> Latency:
    """How many times the other's latency ours is, round by round; both must come from one run."""
    if len(ours.times_ms) != len(other.times_ms):
        raise ValueError("compared() needs two costs of one run: foveate.costs.costs({...}, x)")
    return interval_of_a_ratio(list(ours.times_ms), list(other.times_ms))


@dataclass(frozen=True)
class Ranking:
    """order: names from the fastest median to the slowest. alike: the pairs among them that are not distinguishable.

    "Not distinguishable" is no equality: a may be like b, and b like c, where a and c differ.
    """

    order: tuple[str, ...]
    alike: tuple[tuple[str, str], ...]


def ranked(found: Mapping[str, Cost]) -> Ranking:
    """The networks of one run by latency; each pair is judged by its own ratio, as `latency_ratio` is."""
    first = next(iter(found), "")
    order = tuple(sorted(found, key=lambda name: found[name].latency_ms.median))
    alike = []
    for a, b in itertools.combinations(order, 2):
        ours, other = (a, b) if b == first else (b, a)
        if not distinguishable(compared(found[ours], found[other])):
            alike.append((a, b))
    return Ranking(order, tuple(alike))


def cost(
    model: nn.Module,
    x: Batch,
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
        x: a batch as a tensor, a tuple of arguments, a list of images, or a dict of keyword arguments. A detector
            that is trained on targets takes (images, targets).
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
    x: Batch,
    *,
    setting: Setting | None = None,
    repeats: int = 200,
    budget_s: float = 5.0,
    training: bool = False,
    memory: bool = True,
    stages: bool = False,
    modules: bool = False,
    energy: bool = False,
    lateral: bool = False,
) -> dict[str, Cost]:
    """The cost of every model on the batch x, measured in turns; the first is the baseline of the ratios.

    Further than `cost`: stages gives the rows of the counts their stage; modules times every inserted module by itself,
    for as long again; energy takes a second a model, where there is a meter; lateral counts and times what lateral
    connections keep, for as long again in networks that have some.
    """
    setting = setting or Setting()
    if any(isinstance(model, torch.jit.ScriptModule) for model in models.values()):
        raise ValueError("a TorchScript module cannot be counted; give the network that it was made from")
    if setting.target != "torch" and (training or modules):
        raise ValueError(f"target {setting.target} runs no training step and no module by itself")
    memory = memory and setting.target == "torch"
    device = setting.device or next(
        (t.device.type for m in models.values() for t in m.parameters()), first_tensor(x).device.type
    )

    def run(batch: int) -> dict[str, Cost]:
        placed = {name: setting.place(model) for name, model in models.items()}
        given = setting.batch(first_samples(x, batch))
        where = first_tensor(given).device
        with contextlib.ExitStack() as stack:
            for model in placed.values():
                stack.enter_context(_evaluating(model))
            stack.enter_context(setting.numbers(where))
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
            across = {name: skips(model, given) for name, model in placed.items()} if lateral else {}
            apart = _skip_ratios(placed, given, across, repeats, budget_s)
            hard = any(has_hard_gates(model) for model in placed.values()) and where.type != "meta"
            joules = {name: energy_mj(step, where) for name, step in forward.items()} if energy else {}
        trained: dict[str, list[float]] = {}
        if training:
            copies = {name: copy.deepcopy(model) for name, model in placed.items()}
            with setting.numbers(where):
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
                skip_bytes=across[name].bytes if name in across else None,
                skip_ratio=apart.get(name),
                zero_macs=macs_on_zeros(placed[name], given) if hard else None,
                notes=(*checked.get(name, ()), *_notes(counted[name]), *_reasons(peak.get(name, ()), joules.get(name))),
                times_ms=tuple(times[name]),
            )
            for name in models
        }

    found, _, notes = halving(batch_size(x), run, on=str(device))
    return {name: replace(one, notes=(*notes, *one.notes)) for name, one in found.items()}


def _forward_steps(
    models: Mapping[str, nn.Module], x: Batch, setting: Setting, stack: contextlib.ExitStack
) -> tuple[Steps, dict[str, list[str]]]:
    """A forward pass of each network on its target, and what was found while preparing it."""
    if setting.target == "torch":
        return {name: forward_step(_run(model, setting), x) for name, model in models.items()}, {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foveate-onnx-")))
    exported = {name: exported_step(name, model, x, folder) for name, model in models.items()}
    return {name: step for name, (step, _) in exported.items()}, {
        name: [notes] for name, (_, notes) in exported.items()
    }


def _run(model: nn.Module, setting: Setting) -> Callable[..., Any]:
    return torch.compile(model) if setting.compile else model


def _ratio(times: Mapping[str, list[float]], name: str, first: str) -> Latency | None:
    if len(times) < 2:
        return None
    return Latency(1.0, 1.0, 1.0) if name == first else interval_of_a_ratio(times[name], times[first])


def _skip_ratios(
    models: Mapping[str, nn.Module], x: Batch, found: Mapping[str, Skips], repeats: int, budget_s: float
) -> dict[str, Latency]:
    """The time of a pass in times of one without lateral connections, of the networks that have some."""
    steps: Steps = {}
    for name, one in found.items():
        pair = passes(models[name], x, one) if one.maps else None
        if pair is not None:
            steps[f"with {name}"], steps[f"without {name}"] = pair
    if not steps:
        return {}
    times = time_interleaved(steps, repeats=repeats, budget_s=budget_s)
    return {
        name: interval_of_a_ratio(times[f"with {name}"], times[f"without {name}"])
        for name in found
        if f"with {name}" in steps
    }


def _number(found: Sequence[float | str | None], at: int) -> float | None:
    value = found[at] if at < len(found) else None
    return value if isinstance(value, float) else None


def _reasons(peak: Sequence[float | str], joules: float | str | None) -> list[str]:
    kinds = ("peak memory", "peak memory of a training step")
    reasons = [f"{kind}: {value}" for kind, value in zip(kinds, peak, strict=False) if isinstance(value, str)]
    return [*reasons, joules] if isinstance(joules, str) else reasons


def _notes(counted: Count) -> list[str]:
    notes = []
    if counted.unknown:
        names = ", ".join(f"{name} ({times}×)" for name, times in counted.unknown.items())
        notes.append(f"operators whose arithmetic is not counted, because nothing is known of them: {names}")
    if counted.data_dependent:
        names = ", ".join(counted.data_dependent)
        notes.append(f"the counts hold for this batch only, its values decide what runs: {names}")
    if counted.untrained:
        notes.append(f"activation bytes are of evaluation mode: {counted.untrained}")
    return notes


def _inserted_times(
    models: Mapping[str, nn.Module], x: Batch, repeats: int, budget_s: float
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
    model: nn.Module, x: Batch, places: Mapping[str, nn.Module], found: dict[str, list[float]]
) -> Iterator[Callable[[], object]]:
    """A forward pass that adds to `found` what each of the modules took."""
    device = first_tensor(x).device
    spent = dict.fromkeys(places, 0.0)
    began: dict[str, float] = {}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
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


def stages_of(model: nn.Module, x: Batch) -> list[str]:
    """The modules that end its stages, in order, as `count(..., stages=)` takes them; empty where none were seen."""
    try:
        return [site.name for site in sites(model, x, "stage")]
    except LookupError:
        return []
