"""What a study is and what one run of it is, as frozen values. Read from TOML or flags, checked here, hashed here.

A run's key is the hash of its specification, so the same specification is never run twice.
"""

import hashlib
import json
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

PLAIN = "none"


class Frozen(BaseModel):
    """A value: nothing may be changed, nothing unknown may be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _plain_values(options: dict[str, Any]) -> dict[str, Any]:
    """The options themselves. Raises: ValueError: one is no plain, finite value, such as a date."""
    for key, value in options.items():
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(
                f"option {key!r}: wanted text, a finite number, true, false or a list of them; got {value!r}"
            )
    return options


class Variant(Frozen):
    """One thing to compare: an attention mechanism with its options, where it goes, and how it starts."""

    attention: str = PLAIN
    options: dict[str, Any] = Field(default_factory=dict)
    at: str | list[str] | list[dict[str, Any]] = "block"
    init: Literal["paper", "identity"] = "paper"
    label: str = ""

    @field_validator("options")
    @classmethod
    def _can_be_kept(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _plain_values(value)

    @model_validator(mode="after")
    def _plain_takes_nothing(self) -> "Variant":
        if self.attention == PLAIN and (self.options or self.at != "block" or self.init != "paper"):
            raise ValueError(f"attention {PLAIN!r} is the plain network; it takes no options, at or init")
        return self

    @property
    def name(self) -> str:
        """The label, or one made of the attention's name and whatever differs from the defaults."""
        if self.label or self.attention == PLAIN:
            return self.label or PLAIN
        parts = [f"{key}={value}" for key, value in sorted(self.options.items())]
        parts += [] if self.at == "block" else [f"at={self.at}"]
        parts += [] if self.init == "paper" else [self.init]
        return self.attention + (f" ({', '.join(parts)})" if parts else "")


class Data(Frozen):
    """Which images. `source` is "embedded" (scattered digits) or a folder."""

    source: str = "embedded"
    image_size: int | None = Field(None, ge=8, le=4096, description="side in pixels; None: the set's own")
    train_images: int | None = Field(None, ge=2, description="use only so many; None: all")
    test_images: int | None = Field(None, ge=2)
    test_fraction: float = Field(0.2, gt=0, lt=1, description="held out where the folder has no split of its own")
    augment: bool = True


class Training(Frozen):
    """How one network is trained. The defaults suit a small network from scratch."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    early_stop: int = Field(0, ge=0, description="epochs without a better held-out loss before stopping; 0: off")
    amp: bool = False
    channels_last: bool = False
    device: str = "cpu"
    threads: int = Field(1, ge=1, description="CPU threads of one run; part of what makes it repeatable")


class Starting(Frozen):
    """What starts from a file of weights or, as most things do, from fresh ones; then nothing is said of it."""

    weights: str | None = Field(None, description="file of the plain network's weights; None: fresh ones")

    @model_serializer(mode="wrap")
    def _without_absent_weights(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        absent = [key for key in ("weights", "weights_fingerprint") if content.get(key, "") is None]
        return {key: value for key, value in content.items() if key not in absent}


class Run(Starting):
    """One training: a pure function of these values and of the folder it works in."""

    network: str
    network_options: dict[str, Any] = Field(default_factory=dict)
    width: float = Field(1.0, ge=1.0, description="the plain network widened by this factor (equal-cost control)")
    variant: Variant
    data: Data
    fingerprint: str = Field("", description="of the data's files, so that changed data are a new run")
    weights_fingerprint: str | None = Field(None, description="of the weights' file, for the same reason")
    train: Training
    seed: int

    @property
    def key(self) -> str:
        """Hash of the canonical specification; the label, which changes nothing in the run, is left out."""
        content = self.model_dump(mode="json")
        del content["variant"]["label"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Study(Starting):
    """A question: does any of these variants help this network on these data, and what does it cost?"""

    name: str = "study"
    network: str = "foveate:resnet8"
    network_options: dict[str, Any] = Field(default_factory=dict)
    variants: tuple[Variant, ...] = (Variant(), Variant(attention="se"), Variant(attention="cbam"))
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    control: Literal["size", "latency", "none"] = Field(
        "size",
        description="widen the plain network until it has a variant's parameters and multiply-adds (size), or its "
        "measured latency (latency)",
    )
    data: Data = Data()
    train: Training = Training()

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_means_first(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"wanted a number of seeds, 1 or more, or a list of seeds; got {value!r}")
        return tuple(range(value))

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or min(value) < 0:
            raise ValueError(f"wanted one or more different seeds, none negative; got {list(value)}")
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
        if all(v.attention != PLAIN for v in value):
            value = (Variant(), *value)  # every difference is a difference to the plain network
        names = [v.name for v in value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two variants are both called {sorted(twice)[0]!r}; give one of them a label")
        return tuple(sorted(value, key=lambda v: v.attention != PLAIN))

    def runs(self, fingerprint: str, widths: dict[float, str] | None = None) -> list[Run]:
        """Every run, seed by seed, so that a study cut short has whole seeds; controls are plain networks widened."""
        arms = [(variant, 1.0) for variant in self.variants]
        arms += [(Variant(label=label), width) for width, label in (widths or {}).items()]
        return [
            Run(
                network=self.network,
                network_options=self.network_options,
                width=width,
                variant=variant,
                data=self.data,
                fingerprint=fingerprint,
                train=self.train,
                seed=seed,
            )
            for seed in self.seeds
            for variant, width in arms
        ]


def read_study(path: str | Path) -> Study:
    """The study in a TOML file.

    Raises: ValueError: one line with the file, the line in it, the key, what was wanted, what came and what is nearest.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    return check_study(content, where=str(path), text=text)


def check_study(content: dict[str, Any], *, where: str = "study", text: str = "") -> Study:
    """The study that these plain values describe; errors as in `read_study`."""
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise ValueError(_one_line(error, where, text)) from None


def _one_line(error: ValidationError, where: str, text: str) -> str:
    first = error.errors()[0]
    path = [part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]
    keys = [part for part in path if isinstance(part, str)]
    line = line_of(text, path)
    place = f"{where}:{line}" if line else where
    named = ".".join(str(part) for part in path) or "study"
    if first["type"] == "extra_forbidden":
        known = list(_model_at(keys[:-1]).model_fields)
        near = get_close_matches(keys[-1], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"{place}: unknown key {named!r}; {hint}"
    wanted = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in {"value_error", "missing"} else f"; got {first['input']!r}"
    return f"{place}: {named}: {wanted}{got}"


_UNION_TAGS = {"str", "int", "float"}
_PARTS: dict[str, type[Frozen]] = {"variants": Variant, "data": Data, "train": Training}


def _model_at(keys: list[str]) -> type[Frozen]:
    return _PARTS[keys[0]] if keys and keys[0] in _PARTS else Study


def line_of(text: str, path: list[Any]) -> int | None:
    """The line of TOML text that sets the key at this path, else the nearest table or key that holds it."""
    wanted = [str(part) for part in path]
    table: list[str] = []
    counts: dict[str, int] = {}  # of each array of tables, such as [[variants]]
    best, found = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            table = here = _key_parts(header[2])
            if header[1] == "[[":
                counts[table[0]] = counts.get(table[0], -1) + 1
        elif key := re.match(r"\s*([\w.\"' -]+?)\s*=", line):
            here = [*table, *_key_parts(key[1])]
        else:
            continue
        if here[0] in counts:
            here = [here[0], str(counts[here[0]]), *here[1:]]
        if here == wanted[: len(here)] and len(here) > best:
            best, found = len(here), number
    return found


def _key_parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^\s.\"']+", dotted)] or [dotted]
