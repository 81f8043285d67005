"""What the inserted attention did by the end of training: of one run as it is kept, of an arm as it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NEGLIGIBLE = 2**-9
"""A relative change below this is lost in the rounding of bfloat16, in which networks are trained and used as well as
without: attention that changes its features by less is off; a gate that varies by less between items is constant."""


@dataclass(frozen=True)
class GateState:
    """A map that a mechanism computes (`foveate.capture` names them), over the items of one batch.

    Attributes:
        mean: of all values.
        deviation: standard deviation over items, root mean square over channels and positions.
        saturated: share of values below 0.01 or above 0.99; None for what is no gate between 0 and 1, such as a
            softmax over positions.
        constant: is the deviation below `NEGLIGIBLE` of the values' root mean square?
    """

    mean: float | None
    deviation: float | None
    saturated: float | None
    constant: bool


@dataclass(frozen=True)
class SiteState:
    """One inserted module at the end of training.

    Attributes:
        site: its name. attention: class of the mechanism.
        strength: the learned blend of an identity start; None where there is none.
        change: ‖y − x‖ / ‖x‖ of the features through it, mean over items; None where its input has another shape, or
            where it replaces a layer.
        moved: ‖p − p₀‖ / ‖p₀‖ of its parameters since the start, the strength apart; None where they started at 0.
        without_gradient: parameters that had only zeros as gradients in the batches that were watched.
        blind: are weights (matrices, kernels) of a gate among them, so that it depends less, or not, on its input?
        gates: by name.
    """

    site: str
    attention: str
    strength: float | None = None
    change: float | None = None
    moved: float | None = None
    without_gradient: tuple[str, ...] = ()
    blind: bool = False
    gates: Mapping[str, GateState] = field(default_factory=dict)

    @property
    def is_off(self) -> bool:
        """Does it change the features by less than `NEGLIGIBLE`?"""
        size = self.strength if self.change is None else self.change
        return size is not None and abs(size) < NEGLIGIBLE

    @property
    def is_constant(self) -> bool:
        """Is a gate of it the same for every item?"""
        return any(gate.constant for gate in self.gates.values())


@dataclass(frozen=True)
class AttentionState:
    """The attention of one run: `batches` of training were watched for gradients, gates are over `items`."""

    label: str
    seed: int
    batches: int
    items: int
    sites: tuple[SiteState, ...]

    @classmethod
    def of(cls, label: str, seed: int, content: Mapping[str, Any]) -> "AttentionState":
        """From the plain values of a run's attention.json."""
        sites = [
            SiteState(
                **{
                    **site,
                    "without_gradient": tuple(site["without_gradient"]),
                    "gates": {name: GateState(**gate) for name, gate in site["gates"].items()},
                }
            )
            for site in content["sites"]
        ]
        return cls(label, seed, content["batches"], content["items"], tuple(sites))


@dataclass(frozen=True)
class Span:
    """Mean, smallest and largest over the inserted modules of all runs."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class AttentionFound:
    """The attention of an arm at the end of training, over all its runs.

    Attributes:
        runs, sites: of each run.
        strength: absolute, of an identity start; None where there is none.
        change: of the features, relative.
        gates: inserted modules of all runs together.
        without_gradient: how many of them have weights that got no gradient in the first `batches` of training.
        constant: how many of them have a gate that is the same for every item.
        saturated: mean share of saturated values; None where there are no gates between 0 and 1.
        off: do all change the features by less than `NEGLIGIBLE`?
        strength_text: "0.0041 (0.0003 to 0.014)"; "" without an identity start.
        text: what is to be said of its gates beside the verdict; "" where there is nothing.
    """

    runs: int
    sites: int
    strength: Span | None
    change: Span | None
    gates: int
    without_gradient: int
    batches: int
    constant: int
    saturated: float | None
    off: bool
    strength_text: str
    text: str
