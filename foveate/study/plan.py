"""What will be run, settled before anything runs: every network built, every site found, every control widened."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from foveate.costs import costs, macs, parameters
from foveate.data import ImageData
from foveate.networks import build_variant, input_channels, weights_fingerprint, widen_until
from foveate.spec import PLAIN, Run, Study, Variant

SHARED = 1.03  # a control may cost so many times what its variant costs, before the variant gets one of its own


@dataclass(frozen=True)
class Arm:
    """One row of the report: a variant, or a widened plain network that costs what the variants in `matches` cost."""

    label: str
    kind: str  # "plain", "attention" or "control"
    variant: Variant
    width: float = 1.0
    matches: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """As plain values, for the analysis and the report."""
        about = self.variant.model_dump(exclude={"label"})
        return {"label": self.label, "kind": self.kind, "width": self.width, "matches": list(self.matches), **about}


@dataclass(frozen=True)
class Plan:
    """The arms in display order, every run seed by seed, and what the reader should know of how they were settled."""

    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]

    def label_of(self, run: Run) -> str:
        """The arm that a run belongs to."""
        same = (a for a in self.arms if a.width == run.width and _bare(a.variant) == _bare(run.variant))
        return next(same).label


def _bare(variant: Variant) -> Variant:
    return variant.model_copy(update={"label": ""})


def make_plan(study: Study, data: ImageData, settled: dict[str, Any] | None = None) -> Plan:
    """Build every network without memory, find every site, and widen the plain network to what each variant costs.

    settled: `settled_facts` of an earlier plan for the same study; its controls are taken over, as a measured latency
        would not come out the same twice.

    Raises: ValueError: with the variant's name, whatever its network or its sites cannot be.
    """
    runs = {variant.name: _run(study, data, variant) for variant in study.variants}
    sizes = {name: _checked(name, run, data) for name, run in runs.items()}
    arms = [Arm(v.name, "plain" if v.attention == PLAIN else "attention", v) for v in study.variants]
    widths: dict[float, list[str]] = {}
    notes: list[str] = []
    if settled is not None:
        widths, notes = {float(w): names for w, names in settled["widths"].items()}, settled["notes"]
    elif study.weights is not None:
        notes = [f"every network starts from the weights in {study.weights} ({weights_fingerprint(study.weights)})"]
        if study.control != "none":
            notes.append("no equal-cost control: these weights do not fit a widened network")
    elif study.control != "none":
        widths, notes = _control_widths(study, data, runs, sizes)
    by = "size" if study.control == "size" else "latency"
    for width, names in sorted(widths.items()):
        arms.append(Arm(f"plain ×{width:.3g} ({by} of {', '.join(names)})", "control", Variant(), width, tuple(names)))
    planned = [_run(study, data, arm.variant, arm.width, seed) for seed in study.seeds for arm in arms]
    return Plan(tuple(arms), tuple(planned), tuple(notes))


def _run(study: Study, data: ImageData, variant: Variant, width: float = 1.0, seed: int | None = None) -> Run:
    return Run(
        network=study.network,
        network_options=study.network_options,
        width=width,
        variant=variant,
        data=study.data,
        fingerprint=data.fingerprint,
        weights=study.weights,
        weights_fingerprint=None if study.weights is None else weights_fingerprint(study.weights),
        train=study.train,
        seed=study.seeds[0] if seed is None else seed,
    )


def _example(run: Run, data: ImageData, device: str = "meta", batch: int = 2) -> torch.Tensor:
    return torch.zeros(batch, input_channels(run.network, data.channels), *data.image_size, device=device)


def _build(run: Run, data: ImageData, device: str = "meta") -> nn.Module:
    return build_variant(run, num_classes=len(data.classes), example=_example(run, data, device)).eval()


def _checked(name: str, run: Run, data: ImageData) -> tuple[int, int]:
    """Parameters and multiply-adds (of a batch of two) of a variant; its name stands before any error."""
    try:
        return _size(run, data)
    except Exception as error:  # a network of one's own may raise anything
        text = str(error.args[0] if error.args else type(error).__name__).splitlines()[0]
        raise ValueError(f"variant {name!r}: {text}") from error


def _size(run: Run, data: ImageData) -> tuple[int, int]:
    model = _build(run, data)
    logits = model(_example(run, data))
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, len(data.classes)):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"{run.network} must give logits (N, {len(data.classes)}); got {got}")
    return parameters(model), macs(model, _example(run, data))


def _control_widths(
    study: Study, data: ImageData, runs: dict[str, Run], sizes: dict[str, tuple[int, int]]
) -> tuple[dict[float, list[str]], list[str]]:
    """How much wider the plain network must be to cost what each variant costs; variants of one width share it."""
    widths: dict[float, list[str]] = {}
    notes = []
    for name, run in runs.items():
        if run.variant.attention == PLAIN:
            continue
        enough = _as_large(study, data, sizes[name]) if study.control == "size" else _as_slow(study, data, run)
        try:
            width = widen_until(enough)
        except Exception as error:  # a constructor or a forward pass refuses these widths in its own way
            reason = (str(error) or type(error).__name__).splitlines()[0]
            notes.append(f"no equal-cost control: {study.network} cannot be widened layer by layer ({reason})")
            return {}, notes
        if width is None:
            notes.append(f"no equal-cost control for {name}: even four times the width costs less")
        else:
            widths.setdefault(width, []).append(name)
    return (_shared(study, data, widths, sizes) if study.control == "size" else widths), notes


def _shared(
    study: Study, data: ImageData, widths: dict[float, list[str]], sizes: dict[str, tuple[int, int]]
) -> dict[float, list[str]]:
    """A wider control also serves the variants that it outweighs by no more than SHARED."""
    kept: dict[float, list[str]] = {}
    for width in sorted(widths, reverse=True):
        for name in widths[width]:
            for wider in sorted(kept):
                got = _size(_run(study, data, Variant(), wider), data)
                if all(g <= SHARED * wanted for g, wanted in zip(got, sizes[name], strict=True)):
                    kept[wider].append(name)
                    break
            else:
                kept.setdefault(width, []).append(name)
    return {width: [name for name in sizes if name in names] for width, names in kept.items()}


def _as_large(study: Study, data: ImageData, size: tuple[int, int]) -> Callable[[float], bool]:
    """Has the plain network, so widened, at least these parameters and these multiply-adds?"""

    @functools.cache
    def enough(width: float) -> bool:
        got = _size(_run(study, data, Variant(), width), data)
        return got[0] >= size[0] and got[1] >= size[1]

    return enough


def _as_slow(study: Study, data: ImageData, run: Run) -> Callable[[float], bool]:
    """Is the plain network, so widened, at least as slow as the variant, both measured in turns on this machine?"""
    variant = _build(run, data, "cpu").to(study.train.device)
    x = _example(run, data, study.train.device, batch=min(32, study.train.batch_size))

    def enough(width: float) -> bool:
        plain = _build(_run(study, data, Variant(), width), data, "cpu").to(study.train.device)
        measured = costs({"variant": variant, "plain": plain}, x, repeats=40, budget_s=3.0, memory=False)["plain"]
        assert measured.latency_ratio is not None
        return measured.latency_ratio.median >= 1.0

    return enough


def settled_facts(plan: Plan) -> dict[str, Any]:
    """What `make_plan` takes over when the same study goes on."""
    widths = {str(arm.width): list(arm.matches) for arm in plan.arms if arm.kind == "control"}
    return {"widths": widths, "notes": list(plan.notes)}
