"""What the passes compute, for the counter of operators."""

from typing import Any

from torch import Tensor

from foveate.counting import Work, register_operator


@register_operator("foveate::gate_map")
def gate_map(result: Tensor, x: Tensor, *terms: Tensor | None) -> Work:
    return Work("elementwise", elementwise=x.numel() * sum(term is not None for term in terms))


@register_operator("foveate::plane_pools")
def plane_pools(result: Any, x: Tensor, kinds: list[str]) -> Work:
    """The variance takes the mean first, then subtracts and squares."""
    beside = {"magnitude": 1, "variance": 2}
    elementwise = sum(beside.get(kind, 0) for kind in kinds)
    reductions = sum(2 if kind == "variance" else 1 for kind in kinds)
    return Work("reduction", elementwise=elementwise * x.numel(), reductions=reductions * x.numel())
