"""What a control is, as frozen values: a network that costs what a variant costs, or a placebo of its attention."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Form = Literal["conv", "wider", "block", "longer", "frozen", "shuffled"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Layer:
    """Widths of one `foveate.attention.PositionwiseLayer`, which has what they mean; all 0: no layer."""

    hidden: Count = 0
    scaled: Count = 0
    shifted: Count = 0
    grid: Count = 0


@dataclass(frozen=True, config=_STRICT)
class Control:
    """What a control's network has in place of the attention of its run's variant.

    Attributes:
        form: "conv": a 1×1 layer at each site; "frozen": the attention, its weights random for ever; "shuffled": the
            attention with channels and positions in random order; "wider" and "block": no attention, and wider layers
            or one block more. "longer" is the plain network, and has none of this.
        layers: with "conv": one a site, in the order of the network's modules.
        widths: with "wider": number of a layer in the order of construction, channels more that it takes and gives.
        block: with "block": name of the chain of blocks that has one more.
    """

    form: Form
    layers: tuple[Layer, ...] = ()
    widths: tuple[tuple[Count, Count, Count], ...] = ()
    block: str = ""
