"""What a study is and what one run of it is, as frozen values. Read from TOML or flags, checked here, hashed here.

A run's key is the hash of its specification, so the same specification never runs twice.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from foveate.controls import Control, Form
from foveate.explaining import Explaining
from foveate.metric import Frozen, Metric
from foveate.published import Published
from foveate.registry import is_file_reference, nearest
from foveate.robustness import Robustness
from foveate.training import Training, for_fine_tuning
from foveate.variant import PRINTABLE, Options, Variant

EMBEDDED = "embedded"
PRETRAINED = "pretrained"  # weights that the network's library publishes
KEY_FORMAT = 2  # of a run's key: a new one where a default changes its value
STRENGTH_FACTOR = 10.0  # rate of the learned blend of an identity start, in rates of its attention
MOST_SEEDS = 10_000
DRAWS = 1_000_000  # the seeds of an arm of a null check are those of the one before it, and this
LEAST_SEEDS = 3  # with fewer there is no verdict
MOST_ITEMS = 10**9


class DataSpec(Frozen):
    """Which data. `source` is "embedded" (scattered digits) or a folder; `kind` says how to read it.

    image_size, train_images and test_images are other names of size, train_items and test_items.
    """

    kind: str = Field("auto", description="a registered kind, path.py:function, or auto: seen from the source")
    source: str = EMBEDDED
    options: Options = Field(default_factory=dict, description="of the kind's own")
    size: tuple[Annotated[int, Field(ge=1, le=65536)], ...] | None = Field(
        None,
        validation_alias=AliasChoices("size", "image_size"),
        max_length=4,
        description="sides of a sample, (H, W) of images; one number: a square; None: the set's own",
    )
    train_items: int | None = Field(
        None, ge=2, le=MOST_ITEMS, validation_alias=AliasChoices("train_items", "train_images"), description="None: all"
    )
    test_items: int | None = Field(
        None,
        ge=2,
        le=MOST_ITEMS,
        validation_alias=AliasChoices("test_items", "test_images"),
        description="the most of a validation part of its own as well; None: all",
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="of a set without a split of its own")
    validation_fraction: float | None = Field(
        None, gt=0, lt=1, description="of the training part; None: a tenth, where early stopping or a list needs one"
    )
    split: int | None = Field(
        None, ge=0, lt=2**63, description="draw of a division of training and test items together; None: the set's own"
    )
    tested_on: Literal["test", "validation"] = Field(
        "test", description="validation: runs are tested on the validation part, and the test part is never read"
    )
    augment: bool = True

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) or value is None:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"wanted a side in pixels or a list of sides such as [height, width]; got {value!r}")
        return (value, value)


class Run(Frozen):
    """One training: a pure function of these values and of the folder it works in.

    Attributes:
        arm: the row of the report that the run belongs to.
        copy_number: 0, or the number of this arm among those that differ in their label alone.
        fingerprint, weights_fingerprint, code_fingerprint, teacher_fingerprint: of the data, the file of weights, the
            user's own files and the trained network that it learns from: changed ones are a new run.
    """

    arm: str = ""
    copy_number: int = 0
    network: str
    network_options: dict[str, Any] = Field(default_factory=dict)
    width: float = Field(1.0, ge=1.0, description="the plain network widened by this factor (equal-cost control)")
    variant: Variant
    control: Control | None = None
    task: str = "classification"
    task_options: dict[str, Any] = Field(default_factory=dict)
    data: DataSpec
    fingerprint: str = ""
    weights: str | None = None
    weights_fingerprint: str = ""
    pretrained: bool = Field(False, description="the weights are a release of the network's library, loaded as there")
    code_fingerprint: str = ""
    teacher_fingerprint: str = ""
    train: Training
    trainer: str | None = None
    trainer_options: dict[str, Any] = Field(default_factory=dict)
    metric: Metric | None = Field(None, description="of a trainer that measures what no task knows")
    robustness: Robustness | None = None
    explain: Explaining | None = None
    imports: tuple[str, ...] = ()
    pictures: bool = Field(True, description="draw test items and the maps of the attention at the end")
    seed: int

    @property
    def key(self) -> str:
        """Hash of what differs from the defaults. Names (arm, label), places of files and pictures change no key: where
        there is a fingerprint of the content, that is hashed in place of the path."""
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"arm", "imports", "pictures"})
        content["variant"].pop("label", None)
        if self.teacher_fingerprint:
            for name in ("teacher", "weights", "options"):
                content["variant"]["distill"].pop(name, None)
        if self.variant.has_blend:
            content["variant"]["strength_factor"] = STRENGTH_FACTOR
        if self.fingerprint:
            content["data"].pop("source", None)
        if self.weights_fingerprint:
            content.pop("weights", None)
        for name in ("network", "task", "trainer"):
            if name in content and is_file_reference(content[name]):
                content[name] = Path(content[name]).name
        if is_file_reference(self.data.kind):
            content["data"]["kind"] = Path(self.data.kind).name
        text = json.dumps({"format": KEY_FORMAT, **content}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Compared(Frozen):
    """A primary comparison, [[compare]] in a study: an arm against "plain", its "control", its control of one of the
    study's `controls`, or another arm.

    metric: None: the one that the verdict is about.
    """

    arm: str = Field(min_length=1, max_length=200)
    against: str = Field("plain", min_length=1, max_length=200)
    metric: str | None = None


class Study(Frozen):
    """A question: does any of these variants help this network on these data, and what does it cost?"""

    name: str = Field("study", max_length=200, pattern=PRINTABLE)
    network: str = "foveate:resnet8"
    network_options: Options = Field(default_factory=dict)
    weights: str | None = Field(
        None,
        description='"pretrained": those that timm or torchvision publish for the network, from their caches; a folder '
        "that has them; or a file of the plain network's weights; None: fresh ones",
    )
    variants: tuple[Variant, ...] = Field(
        (Variant(), Variant.model_validate("se"), Variant.model_validate("cbam")), max_length=1000
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = (0, 1, 2, 3, 4)
    control: Literal["size", "macs", "latency", "none"] = Field(
        "size", description="what controls have the same of: parameters, multiply-adds or measured latency"
    )
    controls: tuple[Form, ...] = Field(
        (), description="their forms, the first judged; (): conv, or shuffled where the attention is below any layer"
    )
    task: str = Field("classification", description="a registered task, or path.py:Class")
    task_options: Options = Field(default_factory=dict)
    metric: Metric | str | None = Field(
        None, description="what the verdict is about: the name of one of the task's, or a trainer's; None: the first"
    )
    matters: float | None = Field(
        None,
        ge=0,
        description="the smallest difference that matters, in points of a percentage or the metric's unit; None: half "
        "a point of a percentage, else 1 % of plain's mean",
    )
    compare: tuple[Compared, ...] = Field(
        (),
        max_length=1000,
        description="the comparisons that the study is judged by; (): each variant with plain and with its control",
    )
    null_check: int | None = Field(
        None,
        ge=2,
        le=100,
        description="this many arms of the plain network, each with seeds of its own, in place of variants: how often "
        "is a difference found where there is none?",
    )
    resplit: bool = Field(
        False, description="each seed draws its own division of training and test items; the verdict is about these too"
    )
    until: Literal["decided"] | None = Field(
        None, description="decided: seeds are added until every claim has its verdict, or max_seeds have been run"
    )
    max_seeds: int | None = Field(None, ge=LEAST_SEEDS, le=MOST_SEEDS, description="the most seeds of until = decided")
    robustness: Robustness | None = Field(None, description="corruptions of the test images; None: none")
    explain: Explaining | None = Field(
        None, description="maps of the test images measured against their objects; None: not"
    )
    published: Published | None = Field(None, description="a paper's figures for the variants; None: none stand beside")
    data: Annotated[DataSpec, BeforeValidator(lambda v: {"source": v} if isinstance(v, str) else v)] = DataSpec()
    train: Training = Training()
    fast: bool = Field(
        False, description="bfloat16, channels-last and torch.compile where a few timed steps here say so, for all arms"
    )
    trainer: str | None = Field(None, description="path.py:function that trains in place of the library's loop")
    trainer_options: Options = Field(default_factory=dict)
    imports: tuple[str, ...] = Field((), max_length=100, description="Python files that register what the study names")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_some_studies(cls, value: Any) -> Any:
        """One that starts from weights has a learning rate for fine-tuning; a null check has no controls."""
        if not isinstance(value, Mapping):
            return value
        usual: dict[str, Any] = {} if value.get("null_check") is None else {"control": "none"}
        if value.get("weights") is not None:
            value = {**value, "train": for_fine_tuning(value.get("train", {}))}
        return usual | dict(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_means_first(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SEEDS:
            raise ValueError(f"wanted a number of seeds, 1 to {MOST_SEEDS:,}, or a list of seeds; got {value!r}")
        return tuple(range(value))

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= MOST_SEEDS or len(set(value)) != len(value):
            raise ValueError(f"wanted 1 to {MOST_SEEDS:,} different seeds, none negative; got {list(value)[:20]}")
        return value

    @field_validator("variants", mode="before")
    @classmethod
    def _many(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError("wanted a list of variants: [[variants]] with two brackets")
        return value

    @field_validator("variants")
    @classmethod
    def _plain_comes_first(cls, value: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if not any(v.is_plain for v in value):
            value = (Variant(), *value)  # every difference is a difference to the plain network
        names = [v.name for v in value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two variants are both called {sorted(twice)[0]!r}; give one of them a label")
        return tuple(sorted(value, key=lambda v: not v.is_plain))

    @model_validator(mode="after")
    def _parts_fit(self) -> "Study":
        if self.control == "none" and self.controls:
            raise ValueError("controls go with control = 'size', 'macs' or 'latency'; got control = 'none'")
        if "longer" in self.controls and "epochs" in self.train.listed:
            raise ValueError("the control 'longer' wanted one number of epochs; got a list of them")
        if len(set(self.controls)) < len(self.controls):
            raise ValueError(f"wanted each form of a control once; got {', '.join(self.controls)}")
        names = [variant.name for variant in self.variants]
        for one in self.compare:
            for name in (one.arm, *({one.against} - {"plain", "control", *self.controls})):
                if name not in names:
                    raise ValueError(f"compare: no variant is called {name!r}; {nearest(name, names)}")
        for name in self.published.rows if self.published else ():
            if name not in names:
                raise ValueError(f"published: no variant is called {name!r}; {nearest(name, names)}")
        return self

    @model_validator(mode="after")
    def _smaller_networks_are_trained_here(self) -> "Study":
        for variant in self.variants:
            if self.trainer is not None and variant.is_smaller:
                raise ValueError(f"{variant.name}: prune and distill go with the library's training; got a trainer")
        return self

    @model_validator(mode="after")
    def _one_division_or_many(self) -> "Study":
        if self.resplit and self.data.split is not None:
            raise ValueError(f"resplit draws a division for each seed; got data.split = {self.data.split} as well")
        return self

    @model_validator(mode="after")
    def _seeds_fit_the_budget(self) -> "Study":
        if (self.until is None) != (self.max_seeds is None):
            raise ValueError('until = "decided" and max_seeds go together: when to stop, and the most seeds to spend')
        if self.max_seeds is not None and len(self.seeds) > self.max_seeds:
            raise ValueError(f"max_seeds: wanted at least the {len(self.seeds)} seeds of seeds; got {self.max_seeds}")
        return self

    @model_validator(mode="after")
    def _a_null_check_is_of_the_plain_network(self) -> "Study":
        if self.null_check is None:
            return self
        if len(self.variants) > 1:
            raise ValueError(
                f'null_check: wanted the plain network alone, variants = ["none"]; got {len(self.variants)}'
            )
        for name, usual in (("control", "none"), ("compare", ()), ("until", None), ("published", None)):
            if getattr(self, name) != usual:
                raise ValueError(f"null_check goes without {name}; got {getattr(self, name)!r}")
        if max(self.seeds) >= DRAWS:
            raise ValueError(f"null_check: wanted seeds below {DRAWS:,}; got {max(self.seeds)}")
        return self

    def with_seeds(self, count: int) -> "Study":
        """The study with as many seeds: the smallest that it does not have yet are added."""
        more = (seed for seed in range(MOST_SEEDS + count) if seed not in self.seeds)
        added = tuple(itertools.islice(more, max(0, count - len(self.seeds))))
        return self.model_copy(update={"seeds": (*self.seeds, *added)})

    def networks(self) -> tuple[str, ...]:
        """Names of the networks of the variants, each once, the plain one first."""
        return tuple(dict.fromkeys(variant.network or self.network for variant in self.variants))

    def files(self) -> tuple[str, ...]:
        """The user's own Python files that the study names, each once."""
        named = [*self.networks(), self.task, self.data.kind, self.trainer or ""]
        files = [*self.imports, *(name.rpartition(":")[0] for name in named if is_file_reference(name))]
        return tuple(dict.fromkeys(files))

    def resolved(self, folder: Path) -> "Study":
        """The study with every relative path made absolute against this folder."""

        def absolute(path: str) -> str:
            return str((folder / Path(path).expanduser()).resolve())

        def reference(name: str) -> str:
            file, _, function = name.rpartition(":")
            return f"{absolute(file)}:{function}" if is_file_reference(name) else name

        def variant(one: Variant) -> Variant:
            taught = one.distill and one.distill.resolved(absolute, reference)
            return one.model_copy(update={"network": reference(one.network), "distill": taught})

        source = self.data.source
        data = {"kind": reference(self.data.kind), "source": source if source == EMBEDDED else absolute(source)}
        return self.model_copy(
            update={
                "network": reference(self.network),
                "variants": tuple(variant(one) for one in self.variants),
                "task": reference(self.task),
                "trainer": self.trainer and reference(self.trainer),
                "imports": tuple(absolute(path) for path in self.imports),
                "weights": self.weights if self.weights in (None, PRETRAINED) else absolute(self.weights),
                "data": self.data.model_copy(update=data),
            }
        )
