"""What will be run, before anything runs: every network built, every site found, every control widened."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foveate.attention import attention_facts
from foveate.costs import costs, macs, parameters
from foveate.data.dataset import Batch, Dataset
from foveate.networks import read_weights, unloaded_tag, widen_until
from foveate.spec import FINE_TUNING_LR, Metric, Run, Study, Variant
from foveate.study.build import build_for, example_batch, example_inputs
from foveate.study.checks import code_fingerprint
from foveate.study.start import find_start
from foveate.summary import Arm, Kind
from foveate.tasks import Task

SHARED = 1.03  # a control may cost this many times what its variant costs, before the variant gets one of its own


@dataclass(frozen=True)
class PlannedArm:
    """One row of the report: a variant, or a widened plain network that costs what the variants in `matches` cost.

    copy_number: 0, or the arm's number among those that differ in their label alone.
    """

    label: str
    kind: Kind
    variant: Variant
    width: float = 1.0
    matches: tuple[str, ...] = ()
    copy_number: int = 0

    def summary(self) -> Arm:
        """As the analysis takes it."""
        return Arm(self.label, self.kind, self.variant.short(), self.width, self.matches)


@dataclass(frozen=True)
class Plan:
    """The arms in display order, every run seed by seed, and notes for the reader on how they were made."""

    arms: tuple[PlannedArm, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `make_plan` takes over when the same study goes on, as plain values."""
        widths = {str(arm.width): list(arm.matches) for arm in self.arms if arm.kind == "control"}
        return {"widths": widths, "notes": list(self.notes)}


class Planner:
    """Makes the runs of a study and builds their networks without memory."""

    def __init__(self, study: Study, data: Dataset, task: Task) -> None:
        self.study, self.data, self.task = study, data, task
        self.start = find_start(study)
        self.code = code_fingerprint(study)

    def run(self, variant: Variant, width: float = 1.0, seed: int | None = None, **arm: Any) -> Run:
        """One run of the study."""
        study = self.study
        return Run(
            network=study.network,
            network_options=study.network_options,
            width=width,
            variant=variant,
            task=study.task,
            task_options=study.task_options,
            data=study.data,
            fingerprint=self.data.fingerprint,
            weights=self.start.path,
            weights_fingerprint=self.start.fingerprint,
            pretrained=self.start.pretrained,
            code_fingerprint=self.code,
            train=study.train,
            trainer=study.trainer,
            trainer_options=study.trainer_options,
            metric=study.metric if isinstance(study.metric, Metric) else None,
            imports=study.imports,
            seed=study.seeds[0] if seed is None else seed,
            **arm,
        )

    def start_notes(self) -> list[str]:
        """What every network starts from."""
        study = self.study
        if study.weights is None:
            tag = unloaded_tag(study.network)
            return [] if tag is None else [
                f"the weights {tag} that the network's name has are not loaded, every network starts from random ones; "
                '--pretrained, or weights = "pretrained" in a study, loads them'
            ]  # fmt: skip
        plain = self.build(self.run(Variant())).state_dict()
        where = "" if self.start.pretrained else read_weights(study.weights).of_network(plain).taken
        notes = [f"every network starts from {self.start.text}{f', the tensors {where}' if where else ''}"]
        if study.trainer is None and study.train.lr == FINE_TUNING_LR[study.train.optimizer]:
            notes.append(f"lr {study.train.lr:g}, the default for fine-tuning")
        return notes

    def check(self, name: str, run: Run) -> tuple[int, int]:
        """Parameters and multiply-adds (of a batch of two) of a variant whose outputs fit the task.

        A trainer that reads its own data measures what it likes: its network's outputs are not checked.

        Raises: ValueError: with the variant's name, if its network or its sites cannot be, or its outputs do not fit.
        """
        try:
            model = self.build(run).eval()
            if run.trainer is None or len(self.data.train):
                self.task.check(model, self.batch(run))
                self.task.loss(model.train(), self.batch(run))  # auxiliary outputs and modules' losses come in training
                model.eval()
            return parameters(model), macs(model, self.example(run))
        except Exception as error:  # a network of a person's own may raise anything
            text = (str(error.args[0] if error.args else "").splitlines() or [type(error).__name__])[0]
            where = f"network {run.network}" if run.variant.is_plain else f"variant {name!r}"
            raise ValueError(f"{where}: {text}") from error

    def size(self, run: Run) -> tuple[int, int]:
        """Parameters and multiply-adds of a batch of two."""
        model = self.build(run).eval()
        return parameters(model), macs(model, self.example(run))

    def build(self, run: Run, device: str = "meta") -> Any:
        """The run's network on a device."""
        return build_for(run, self.data, self.task.outputs, device)

    def batch(self, run: Run) -> Batch:
        """Two training items on the meta device."""
        return example_batch(run, self.data).to("meta")

    def example(self, run: Run, device: str = "meta", count: int = 2) -> Any:
        """Inputs of zeros."""
        return example_inputs(example_batch(run, self.data, count), device)


def make_plan(study: Study, data: Dataset, task: Task, earlier: dict[str, Any] | None = None) -> Plan:
    """Build every network without memory, find every site, and widen the plain network to what each variant costs.

    earlier: `Plan.to_json` of an earlier plan for the same study; its controls are taken over, as a measured latency
        would not come out the same twice.

    Raises: ValueError: with the variant's name, if its network, its sites or its outputs do not fit.
    """
    planner = Planner(study, data, task)
    runs = {variant.name: planner.run(variant) for variant in study.variants}
    sizes = {name: planner.check(name, run) for name, run in runs.items()}
    arms = [_arm(number, variant, study) for number, variant in enumerate(study.variants)]
    widths: dict[float, list[str]] = {}
    notes: list[str] = []
    if earlier is not None:
        widths, notes = {float(w): names for w, names in earlier["widths"].items()}, earlier["notes"]
    else:
        notes = _replacement_notes(study) + _freezing_notes(study) + planner.start_notes()
        if study.weights is not None:
            if study.control != "none":
                notes.append("no equal-cost control: these weights do not fit a widened network")
        elif study.control != "none":
            widths, more = _control_widths(planner, runs, sizes)
            notes += more
    by = "size" if study.control == "size" else "latency"
    for width, names in sorted(widths.items()):
        label = f"plain ×{width:.3g} ({by} of {', '.join(names)})"
        arms.append(PlannedArm(label, "control", Variant(), width, tuple(names)))
    planned = [
        planner.run(arm.variant, arm.width, seed, arm=arm.label, copy_number=arm.copy_number)
        for seed in study.seeds
        for arm in arms
    ]
    return Plan(tuple(arms), tuple(planned), tuple(notes))


def _arm(number: int, variant: Variant, study: Study) -> PlannedArm:
    """The first variant is the plain network (a study puts it there); a second one like an earlier is a copy of it."""
    copies = sum(_unlabelled(other) == _unlabelled(variant) for other in study.variants[:number])
    return PlannedArm(variant.name, "attention" if number else "plain", variant, copy_number=copies)


def _unlabelled(variant: Variant) -> Variant:
    return variant.model_copy(update={"label": ""})


def _replacement_notes(study: Study) -> list[str]:
    """For each mechanism that stands instead of a layer in its paper and is put behind one here."""
    notes: list[str] = []
    for variant in study.variants:
        for part in variant.insert:
            facts = attention_facts(part.attention)
            if facts is not None and facts.replaces and not part.replace:
                notes.append(
                    f"{variant.name}: {part.attention} is put at {part.at!r}, behind the layers there; in its paper it "
                    f"replaces the {facts.replaces} (replace = true, with at = the layers it replaces)"
                )
    return list(dict.fromkeys(notes))


def _freezing_notes(study: Study) -> list[str]:
    """For each variant that trains around random weights."""
    frozen = [variant for variant in study.variants if variant.freeze and study.weights is None]
    until = [f"until epoch {variant.thaw}" if variant.thaw else "to the end" for variant in frozen]
    return [
        f"{variant.name}: freeze = true without weights keeps the network and its classifier at random weights {end}"
        for variant, end in zip(frozen, until, strict=True)
    ]


def _control_widths(
    planner: Planner, runs: dict[str, Run], sizes: dict[str, tuple[int, int]]
) -> tuple[dict[float, list[str]], list[str]]:
    """How much wider the plain network must be to cost what each variant costs; variants of one width share it."""
    widths: dict[float, list[str]] = {}
    notes = []
    by_size = planner.study.control == "size"
    for name, run in runs.items():
        if run.variant.is_plain:
            continue
        enough = _as_large(planner, sizes[name]) if by_size else _as_slow(planner, run)
        try:
            width = widen_until(enough)
        except Exception as error:  # a constructor or a forward pass refuses these widths in its own way
            reason = (str(error) or type(error).__name__).splitlines()[0]
            notes.append(f"no equal-cost control: {run.network} cannot be widened layer by layer ({reason})")
            return {}, notes
        if width is None:
            notes.append(f"no equal-cost control for {name}: even four times the width costs less")
        else:
            widths.setdefault(width, []).append(name)
    return (_shared(planner, widths, sizes) if by_size else widths), notes


def _shared(
    planner: Planner, widths: dict[float, list[str]], sizes: dict[str, tuple[int, int]]
) -> dict[float, list[str]]:
    """A wider control also serves the variants that it outweighs by no more than SHARED."""
    kept: dict[float, list[str]] = {}
    for width in sorted(widths, reverse=True):
        for name in widths[width]:
            for wider in sorted(kept):
                got = planner.size(planner.run(Variant(), wider))
                if all(g <= SHARED * wanted for g, wanted in zip(got, sizes[name], strict=True)):
                    kept[wider].append(name)
                    break
            else:
                kept.setdefault(width, []).append(name)
    return {width: [name for name in sizes if name in names] for width, names in kept.items()}


def _as_large(planner: Planner, size: tuple[int, int]) -> Callable[[float], bool]:
    """Has the plain network, widened, at least these parameters and these multiply-adds?"""

    @functools.cache
    def enough(width: float) -> bool:
        got = planner.size(planner.run(Variant(), width))
        return got[0] >= size[0] and got[1] >= size[1]

    return enough


def _as_slow(planner: Planner, run: Run) -> Callable[[float], bool]:
    """Is the plain network, widened, at least as slow as the variant, both measured in turns on this machine?"""
    device = planner.study.train.device
    variant = planner.build(run, "cpu").eval().to(device)
    x = planner.example(run, device, min(32, planner.study.train.batch_size))

    def enough(width: float) -> bool:
        plain = planner.build(planner.run(Variant(), width), "cpu").eval().to(device)
        measured = costs({"variant": variant, "plain": plain}, x, repeats=40, budget_s=3.0, memory=False)["plain"]
        assert measured.latency_ratio is not None
        return measured.latency_ratio.median >= 1.0

    return enough
