"""What a study compares, as frozen values: a network with attention inserted, another network, or a smaller one."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from foveate.compression import Distillation, Pruning
from foveate.metric import Frozen
from foveate.training import MOST

PLAIN = "none"
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
At = str | list[str] | list[dict[str, Any]]


def _plain_values(options: dict[str, Any]) -> dict[str, Any]:
    """The options themselves. Raises: ValueError: if one is no plain, finite value, such as a date."""
    for key, value in options.items():
        if not _is_plain(value):
            raise ValueError(
                f"option {key!r}: wanted text, a finite number, true, false or a list of them; got {value!r:.200}"
            )
    return options


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list):
        return all(_is_plain(entry) for entry in value)
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


Options = Annotated[
    dict[str, Any], BeforeValidator(lambda value: _plain_values(value) if isinstance(value, dict) else value)
]


def printable(name: str) -> str:
    """The name with control characters escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


class Insertion(Frozen):
    """One `foveate.insert`: a mechanism, its options, where it goes, how it starts, whether it replaces a module."""

    attention: str
    options: Options = Field(default_factory=dict)
    at: At = "block"
    init: Literal["paper", "identity"] = "paper"
    replace: bool = False

    @property
    def name(self) -> str:
        """The attention's name and whatever differs from the defaults; what cannot be printed is escaped."""
        parts = [f"{key}={value}" for key, value in sorted(self.options.items())]
        parts += [] if self.at == "block" else [f"at={self.at}"]
        parts += ["replacing"] if self.replace else []
        parts += [] if self.init == "paper" else [self.init]
        return printable(self.attention + (f" ({', '.join(parts)})" if parts else ""))


SHORT_FORM = tuple(Insertion.model_fields)


class Variant(Frozen):
    """One thing to compare: the plain network, the network with attention inserted and how that is trained, or another
    network, such as one with other options.

    The short form attention=, options=, at=, init=, replace= stands for one insertion.

    Attributes:
        insert: what is inserted, in order; () is the plain network.
        network: in place of the study's; "": the study's.
        network_options: of `network`; of the study's network they are added to its own.
        freeze: the network's own weights stay as they are and only the attention (and a fresh classifier) is trained.
        thaw: with freeze: the epoch, counted from 1, from which everything is trained; None: never.
        attention_lr: learning rate of the inserted attention; None: that of the network.
        prune: how it is pruned after its training, and trained again.
        distill: whom it learns from.
        label: in tables; else made from what is inserted.
    """

    insert: tuple[Insertion, ...] = Field((), max_length=100)
    network: str = ""
    network_options: Options = Field(default_factory=dict)
    freeze: bool = False
    thaw: int | None = Field(None, ge=1, le=MOST)
    attention_lr: float | None = Field(None, gt=0)
    prune: Pruning | None = None
    distill: Distillation | None = None
    label: str = Field("", max_length=200, pattern=PRINTABLE, validation_alias=AliasChoices("label", "name"))

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"attention": value}
        if not isinstance(value, Mapping):
            return value
        short = {key: value[key] for key in SHORT_FORM if key in value}
        if not short:
            return value
        rest = {key: entry for key, entry in value.items() if key not in SHORT_FORM}
        if "insert" in rest:
            raise ValueError(f"wanted insert = [...] or {next(iter(short))} = …, got both")
        if short.get("attention", PLAIN) == PLAIN:
            if any(entry not in ({}, "block", "paper", False) for key, entry in short.items() if key != "attention"):
                raise ValueError(f"attention {PLAIN!r} is the plain network; it takes no options, at, init or replace")
            return {**rest, "insert": ()}
        return {**rest, "insert": (short,)}

    @model_validator(mode="after")
    def _what_goes_together(self) -> "Variant":
        if self.freeze and self.is_smaller:
            raise ValueError("a network that is pruned or learns from a teacher is trained whole; got freeze = true")
        if not self.insert and (self.freeze or self.attention_lr is not None):
            raise ValueError("the plain network has no attention: freeze and attention_lr go with attention")
        if self.thaw is not None and not self.freeze:
            raise ValueError("thaw goes with freeze = true")
        return self

    @property
    def is_plain(self) -> bool:
        """Is it the study's network as it stands?"""
        return not (self.insert or self.is_other_network or self.is_smaller)

    @property
    def is_other_network(self) -> bool:
        """Is it another network, or one with other options, than the study's?"""
        return bool(self.network or self.network_options)

    @property
    def is_smaller(self) -> bool:
        """Is it pruned, or does it learn from a teacher?"""
        return self.prune is not None or self.distill is not None

    @property
    def has_blend(self) -> bool:
        """Does an insertion start as the identity?"""
        return any(part.init == "identity" for part in self.insert)

    @property
    def name(self) -> str:
        """The label, or one made of what is inserted and how it is trained."""
        if self.label or self.is_plain:
            return self.label or PLAIN
        options = ", ".join(f"{key}={value}" for key, value in sorted(self.network_options.items()))
        network = f"{self.network} ({options})" if self.network and options else self.network or options
        name = printable(" + ".join(filter(None, [network, *(part.name for part in self.insert)])))
        parts = [one.name for one in (self.prune, self.distill) if one is not None]
        parts += [] if not self.freeze else ["frozen" if self.thaw is None else f"frozen before epoch {self.thaw}"]
        parts += [] if self.attention_lr is None else [f"attention_lr={self.attention_lr:g}"]
        return f"{name} [{', '.join(parts)}]" if name and parts else name or ", ".join(parts)

    def short(self) -> dict[str, Any]:
        """The variant as plain values, in the short form where one insertion allows it; defaults are left out."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        parts = content.pop("insert", [])
        if not parts:
            return {"attention": PLAIN, **content}
        return {**(parts[0] if len(parts) == 1 else {"insert": parts}), **content}
