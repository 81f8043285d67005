"""One thing to compare: what is inserted into a network, how that is trained, and how it is made smaller."""

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
        name = self.attention + (f" ({', '.join(parts)})" if parts else "")
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


SHORT_FORM = tuple(Insertion.model_fields)


class Variant(Frozen):
    """One thing to compare: the plain network, or the network with attention inserted, and how that is trained; or
    another network, one pruned after its training, one that learns from a teacher.

    The short form attention=, options=, at=, init=, replace= stands for one insertion.

    Attributes:
        insert: what is inserted, in order; () is the plain network.
        freeze: the network's own weights stay as they are and only the attention (and a fresh classifier) is trained.
        thaw: with freeze: the epoch, counted from 1, from which everything is trained; None: never.
        attention_lr: learning rate of the inserted attention; None: that of the network.
        network: as `build_network` takes it; None: the study's.
        network_options: of its constructor.
        prune: how it is pruned after its training, and trained again.
        distill: whom it learns from.
        label: in tables; else made from what is inserted.
    """

    insert: tuple[Insertion, ...] = Field((), max_length=100)
    freeze: bool = False
    thaw: int | None = Field(None, ge=1, le=MOST)
    attention_lr: float | None = Field(None, gt=0)
    network: str | None = None
    network_options: Options = Field(default_factory=dict)
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
        if self.network_options and self.network is None:
            raise ValueError("network_options of a variant go with its network")
        if self.freeze and (self.prune or self.distill):
            raise ValueError("a network that is pruned or learns from a teacher is trained whole; got freeze = true")
        if not self.insert and (self.freeze or self.attention_lr is not None):
            raise ValueError("the plain network has no attention: freeze and attention_lr go with attention")
        if self.thaw is not None and not self.freeze:
            raise ValueError("thaw goes with freeze = true")
        return self

    @property
    def is_plain(self) -> bool:
        """Is it the study's network with nothing inserted and nothing taken out?"""
        return not (self.insert or self.is_other)

    @property
    def is_other(self) -> bool:
        """Is it another network than the study's, or made smaller? Such a variant has no control."""
        return self.network is not None or self.prune is not None or self.distill is not None

    @property
    def has_blend(self) -> bool:
        """Does an insertion start as the identity?"""
        return any(part.init == "identity" for part in self.insert)

    @property
    def name(self) -> str:
        """The label, or one made of what is inserted and how it is trained."""
        if self.label or self.is_plain:
            return self.label or PLAIN
        name = " + ".join([*([self.network] if self.network else []), *(part.name for part in self.insert)])
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
