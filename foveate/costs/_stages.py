"""The stages of a network, for counts by stage."""

from torch import Tensor, nn

from foveate.insertion import sites


def stages_of(model: nn.Module, x: Tensor) -> list[str]:
    """The modules that end its stages, in order, as `count(..., stages=)` takes them; empty where none were seen."""
    try:
        return [site.name for site in sites(model, x, "stage")]
    except LookupError:
        return []
