"""What will be run, before anything runs: every network built, every site found, every control matched."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from foveate.attention import LEAST_UNITS, attention_facts, list_attention, too_narrow
from foveate.controls import Control
from foveate.costs import macs, parameters
from foveate.data.dataset import TASKS_OF, Batch, Dataset
from foveate.data.open import AUTO, kind_of
from foveate.insertion import insertions
from foveate.networks import is_detector, read_weights, unloaded_tag
from foveate.registry import is_file_reference
from foveate.spec import DRAWS, STRENGTH_FACTOR, DataSpec, Metric, Run, Study, Variant
from foveate.study.build import build_for, example_batch, example_inputs, how_it_started
from foveate.study.controls import Chosen, choose_controls
from foveate.study.start import find_start
from foveate.study.teacher import teacher_fingerprint
from foveate.study.user_code import code_fingerprint
from foveate.summary import Arm, Kind
from foveate.tasks import Task
from foveate.training import FINE_TUNING_LR

VALIDATION = 0.1  # of the training items, where a validation part is needed and the study does not say how large


@dataclass(frozen=True)
class PlannedArm:
    """One row of the report: a variant, or a control of the variants in `matches`.

    Attributes:
        copy_number: 0, or the arm's number among those that differ in their label alone.
        control, form, epochs: of a control, as of `foveate.study.controls.Chosen`.
    """

    label: str
    kind: Kind
    variant: Variant
    width: float = 1.0
    matches: tuple[str, ...] = ()
    copy_number: int = 0
    control: Control | None = None
    form: str = ""
    epochs: int | None = None

    def summary(self) -> Arm:
        """As the analysis takes it."""
        return Arm(
            self.label,
            self.kind,
            self.variant.short(),
            self.width,
            self.matches,
            form=self.form,
            epochs=self.epochs,
            domain=_domain(self.variant) if self.kind == "attention" else "",
        )


def _domain(variant: Variant) -> str:
    """What the inserted attention works on, and that which an option of the network names."""
    names = [one.attention for one in variant.insert]
    own = variant.network_options.get("attention")
    names += [own] if isinstance(own, str) and own in list_attention() else []
    facts = [attention_facts(name) for name in names if not is_file_reference(name)]
    return " + ".join(dict.fromkeys(one.domain for one in facts if one is not None))


@dataclass(frozen=True)
class Plan:
    """The arms in display order, every run seed by seed, and notes for the reader on how they were made."""

    arms: tuple[PlannedArm, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]
    controls: tuple[Chosen, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `make_plan` takes over when the same study goes on, as plain values."""
        return {"controls": [one.to_json() for one in self.controls], "notes": list(self.notes)}


class Planner:
    """Makes the runs of a study and builds their networks without memory, or on the CPU where one cannot run so."""

    def __init__(self, study: Study, data: Dataset, task: Task) -> None:
        self.study, self.data, self.task = study, data, task
        self.starts = {name: find_start(study, name) for name in study.networks()}
        self.code = code_fingerprint(study)
        self.narrow: list[str] = []  # notes on variants whose attention degenerates at a width of this network
        self.started = ""
        self.device = task.planned_on
        # parts that runs have in common, made once: a study may have 100,000 runs
        self._data = functools.cache(lambda seed: opened_data(study, seed))
        self._train = functools.cache(lambda values: study.train.single(dict(values)))
        self._given: dict[frozenset[str], set[str]] = {}
        self._variants: dict[int, tuple[Variant, Variant]] = {}  # a variant, kept so that its id stays, without network

    def run(
        self,
        variant: Variant,
        width: float = 1.0,
        seed: int | None = None,
        values: Mapping[str, Any] | None = None,
        **arm: Any,
    ) -> Run:
        """One run of the study; values: of those that it lists, None: the first of each."""
        study, network = self.study, variant.network or self.study.network
        seed = study.seeds[0] if seed is None else seed
        start = self.starts[network]
        made = Run(
            network=network,
            network_options=({} if variant.network else study.network_options) | variant.network_options,
            width=width,
            variant=self._without_network(variant),
            task=study.task,
            task_options=study.task_options,
            data=self._data(seed if study.resplit else study.seeds[0]),
            fingerprint=self.data.fingerprint,
            weights=start.path,
            weights_fingerprint=start.fingerprint,
            pretrained=start.pretrained,
            code_fingerprint=self.code,
            teacher_fingerprint=teacher_fingerprint(variant.distill) if variant.distill else "",
            train=self._train(tuple((values or {}).items())),
            trainer=study.trainer,
            trainer_options=study.trainer_options,
            metric=study.metric if isinstance(study.metric, Metric) else None,
            imports=study.imports,
            robustness=study.robustness,
            explain=study.explain,
            seed=seed,
            **arm,
        )
        # pydantic's set of the fields that were given takes more memory than all the rest of a run
        given = self._given.setdefault(frozenset(made.model_fields_set), made.model_fields_set)
        object.__setattr__(made, "__pydantic_fields_set__", given)
        return made

    def _without_network(self, variant: Variant) -> Variant:
        if id(variant) not in self._variants:
            bare = variant.model_copy(update={"network": "", "network_options": {}})
            self._variants[id(variant)] = variant, bare
        return self._variants[id(variant)][1]

    def start_notes(self) -> list[str]:
        """What every network starts from."""
        study, start = self.study, self.starts[self.study.network]
        if study.weights is None:
            tag = unloaded_tag(study.network)
            return [] if tag is None else [
                f"the weights {tag} that the network's name has are not loaded, every network starts from random ones; "
                '--pretrained, or weights = "pretrained" in a study, loads them'
            ]  # fmt: skip
        others = [f"{name} from {one.text}" for name, one in self.starts.items() if one.text != start.text]
        notes = ["; ".join([f"every {'other ' if others else ''}network starts from {start.text}", *others])]
        if self.started:
            notes[0] += f": {self.started}"
        elif not start.pretrained:
            plain = self.build(self.run(Variant())).state_dict()
            where = read_weights(study.weights).of_network(plain).taken
            notes[0] += f", the tensors {where}" if where else ""
        is_default = "lr" not in study.train.listed and study.train.lr == FINE_TUNING_LR[study.train.optimizer]
        if study.trainer is None and is_default:
            notes.append(f"lr {study.train.lr:g}, the default for fine-tuning")
        return notes

    def check(self, name: str, run: Run) -> tuple[int, int]:
        """Parameters and multiply-adds (of a batch of two) of a variant whose outputs fit the task.

        A trainer that reads its own data measures what it likes: its network's outputs are not checked.

        Raises: ValueError: with the variant's name, if its network or its sites cannot be, or its outputs do not fit.
        """
        try:
            model = self.build(run).eval()
            self._check_kind(model)
            self.narrow += _narrow_notes(name, insertions(model))
            self.started = self.started or how_it_started(model)
            if run.trainer is None or len(self.data.train):
                self.task.check(model, self.batch(run))
                self.task.loss(model.train(), self.batch(run))  # auxiliary outputs and modules' losses come in training
                model.eval()
            return parameters(model), macs(model, self.example(run))
        except Exception as error:  # a network of a person's own may raise anything
            text = (str(error.args[0] if error.args else "").splitlines() or [type(error).__name__])[0]
            if isinstance(error, RuntimeError) and self.device == "meta" and "meta" in text.lower():
                self.device = "cpu"
                return self.check(name, run)
            where = f"network {run.network}" if run.variant.is_plain else f"variant {name!r}"
            raise ValueError(f"{where}: {text}") from error

    def _check_kind(self, model: nn.Module) -> None:
        """Raises: ValueError: a detector for another task. What a detection needs is checked by itself."""
        if is_detector(model) and not self.task.detects:
            raise ValueError(
                f'is a detector, which takes images and boxes; it goes with task = "detection", not {self.study.task!r}'
            )

    def size(self, run: Run) -> tuple[int, int]:
        """Parameters and multiply-adds of a batch of two."""
        model = self.build(run).eval()
        return parameters(model), macs(model, self.example(run))

    def build(self, run: Run, device: str | None = None) -> Any:
        """The run's network on a device; None: the planner's."""
        return build_for(run, self.data, self.task.outputs, device or self.device)

    def batch(self, run: Run) -> Batch:
        """Two training items on the planner's device."""
        return example_batch(run, self.data).to(self.device)

    def example(self, run: Run, device: str | None = None, count: int = 2) -> Any:
        """Inputs of zeros on a device; None: the planner's."""
        return example_inputs(example_batch(run, self.data, count), device or self.device)

    def training_example(self, run: Run, device: str, count: int) -> Any:
        """What the network is called with in a training step: zeros, or images with their targets."""
        if not self.task.detects:
            return self.example(run, device, count)
        return self.task.arguments(example_batch(run, self.data, count).to(device))


def opened_data(study: Study, seed: int) -> DataSpec:
    """The data as the study's runs of a seed open them: of the kind that the task is for, divided anew where each seed
    is to, and with a validation part where early stopping or a list of values needs it.

    A trainer that reads its own data has its own way to stop early.
    """
    changes: dict[str, Any] = {"split": seed} if study.resplit else {}
    stops = any(one.get("early_stop", study.train.early_stop) for one in study.train.each())
    if study.train.listed or (stops and study.data.kind != "none"):
        changes["validation_fraction"] = study.data.validation_fraction or VALIDATION
    if study.data.kind == AUTO and (kind := kind_of(study.data.source, study.task)) in TASKS_OF:
        changes["kind"] = kind
    return study.data.model_copy(update=changes)


def make_plan(study: Study, data: Dataset, task: Task, earlier: dict[str, Any] | None = None) -> Plan:
    """Build every network without memory, find every site, and choose the controls of each variant.

    earlier: `Plan.to_json` of an earlier plan for the same study; its controls are taken over, as a measured latency
        would not come out the same twice.

    Raises: ValueError: with the variant's name, if its network, its sites or its outputs do not fit.
    """
    planner = Planner(study, data, task)
    runs = {variant.name: planner.run(variant) for variant in study.variants}
    sizes = {name: planner.check(name, run) for name, run in runs.items()}
    arms = [_arm(number, variant, study) for number, variant in enumerate(study.variants)]
    if study.null_check:
        arms += [PlannedArm(f"copy {number}", "attention", Variant()) for number in range(1, study.null_check)]
    controls: list[Chosen] = []
    notes: list[str] = []
    if earlier is not None:
        controls, notes = [Chosen.from_json(one) for one in earlier["controls"]], earlier["notes"]
    else:
        notes = (
            planner.start_notes()
            + _replacement_notes(study)
            + _freezing_notes(study)
            + _teacher_notes(study)
            + _strength_notes(study)
        )
        if study.control != "none":
            controls, more = choose_controls(planner, runs, sizes)
            notes += more
        notes += planner.narrow
    arms += [_control_arm(one) for one in controls]
    planned = [
        _with_epochs(
            planner.run(
                arm.variant,
                arm.width,
                seed + (number * DRAWS if study.null_check else 0),
                values,
                control=arm.control,
                arm=arm.label,
                copy_number=arm.copy_number,
                pictures=seed == study.seeds[0],
            ),
            arm.epochs,
        )
        for seed in study.seeds
        for number, arm in enumerate(arms)
        for values in study.train.each()
    ]
    return Plan(tuple(arms), tuple(planned), tuple(notes), tuple(controls))


def _control_arm(one: Chosen) -> PlannedArm:
    return PlannedArm(
        one.label, "control", one.variant, one.width, one.matches, control=one.control, form=one.form, epochs=one.epochs
    )


def _with_epochs(run: Run, epochs: int | None) -> Run:
    return run if epochs is None else run.model_copy(update={"train": run.train.model_copy(update={"epochs": epochs})})


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


def _strength_notes(study: Study) -> list[str]:
    """The learning rates of identity starts, where the library's loop trains."""
    if study.trainer is not None:
        return []
    names: dict[str, list[str]] = {}
    for variant in study.variants:
        if variant.has_blend:
            rate = f"the learning rate {STRENGTH_FACTOR * (variant.attention_lr or study.train.lr):g}"
            if variant.attention_lr is None and "lr" in study.train.listed:
                rate = f"{STRENGTH_FACTOR:g} times the network's learning rate"
            names.setdefault(rate, []).append(variant.name)
    return [
        f"the strength of an identity start, 0 at first, has {rate}: {', '.join(those)}"
        for rate, those in names.items()
    ]


def _teacher_notes(study: Study) -> list[str]:
    """Whom variants learn from."""
    taught = [(variant.name, variant.distill) for variant in study.variants if variant.distill is not None]
    return [
        f"{name}: its teacher is {one.teacher}" + (f" with the weights {one.weights}" if one.weights else "")
        for name, one in taught
    ]


def _narrow_notes(name: str, inserted: list[dict[str, Any]]) -> list[str]:
    """For a variant with gates of a single hidden unit."""
    narrow = [
        one["site"]["channels"]
        for one in inserted
        if too_narrow(one["attention"], one["site"]["channels"], one["options"])
    ]
    if not narrow:
        return []
    widths = " and ".join(map(str, sorted(set(narrow))))
    return [
        f"{name}: one hidden unit at {len(narrow)} of {len(inserted)} sites, of {widths} channels; a gate whose only "
        f"unit is off for every item gets no gradient (reduction = {min(narrow) // LEAST_UNITS} gives it "
        f"{LEAST_UNITS})"
    ]


def _freezing_notes(study: Study) -> list[str]:
    """For each variant that trains around random weights."""
    frozen = [variant for variant in study.variants if variant.freeze and study.weights is None]
    until = [f"until epoch {variant.thaw}" if variant.thaw else "to the end" for variant in frozen]
    return [
        f"{variant.name}: freeze = true without weights keeps the network and its classifier at random weights {end}"
        for variant, end in zip(frozen, until, strict=True)
    ]
