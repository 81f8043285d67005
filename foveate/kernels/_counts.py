"""Arithmetic of the passes, for foveate.counting."""

from typing import Any

from torch import Tensor

from foveate.counting import Work, register_operator


@register_operator("foveate::gate_map")
def gate_map(result: Tensor, x: Tensor, *terms: Tensor | bool | None) -> Work:
    """One operation a value for each gate, addend and map, and one for the ReLU."""
    steps = sum(bool(term) if isinstance(term, bool) else term is not None for term in terms)
    return Work("elementwise", elementwise=x.numel() * steps)


@register_operator("foveate::global_pool")
def global_pool(result: Any, x: Tensor, kinds: list[str]) -> Work:
    """The variance reduces twice: for the mean, and for the squared differences."""
    beside = {"magnitude": 1, "variance": 2}
    elementwise = sum(beside.get(kind, 0) for kind in kinds)
    reductions = sum(2 if kind == "variance" else 1 for kind in kinds)
    return Work("reduction", elementwise=elementwise * x.numel(), reductions=reductions * x.numel())


@register_operator("foveate::channel_pool")
def channel_pool(result: Any, x: Tensor, channel: Tensor | None) -> Work:
    """A maximum and a sum, and the multiplication by the factors."""
    return Work("reduction", elementwise=0 if channel is None else x.numel(), reductions=2 * x.numel())


@register_operator("foveate::strip_pools")
def strip_pools(result: Any, x: Tensor) -> Work:
    return Work("reduction", reductions=2 * x.numel())


@register_operator("foveate::strip_scale")
def strip_scale(result: Tensor, x: Tensor, rows: Tensor, columns: Tensor, *added: Tensor | None) -> Work:
    return Work("elementwise", elementwise=x.numel() * (2 + sum(term is not None for term in added)))


@register_operator("foveate::attention_pool")
def attention_pool(result: Any, x: Tensor, w: Tensor, b: Tensor) -> Work:
    """Two products with the map, and the softmax of the logits between them."""
    logits = x.numel() // x.shape[1]
    return Work("product", macs=2 * x.numel(), elementwise=2 * logits, reductions=2 * logits)


@register_operator("foveate::conv_to_one")
def conv_to_one(result: Tensor, x: Tensor, w: Tensor) -> Work:
    return Work("product", macs=result.numel() * w.numel())


@register_operator("foveate::shrink")
def shrink(result: Tensor, x: Tensor, threshold: Tensor) -> Work:
    """Magnitude, difference, maximum with 0, sign and product, as written."""
    return Work("elementwise", elementwise=5 * x.numel())


@register_operator("foveate::sa_gate")
def sa_gate(result: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Work:
    """Means of all channels; for half of them variance, normalisation, scale, shift and gate; the product."""
    return Work("elementwise", elementwise=x.numel() * 4, reductions=x.numel() * 3 // 2)


@register_operator("foveate::sge_gate")
def sge_gate(result: Any, x: Tensor, scale: Tensor, shift: Tensor, unbiased: bool) -> Work:
    """Means of all channels; similarity, its mean, deviation and gate for each group; the product."""
    groups = x.numel() // x.shape[1] * scale.numel()
    return Work("elementwise", elementwise=2 * x.numel() + 5 * groups, reductions=2 * x.numel() + 2 * groups)


@register_operator("foveate::mix_branches")
def mix_branches(result: Tensor, maps: list[Tensor], weights: Tensor) -> Work:
    """A product for each map, and their sum."""
    return Work("elementwise", elementwise=result.numel() * (2 * len(maps) - 1))


@register_operator("foveate::branch_means")
def branch_means(result: Tensor, maps: list[Tensor]) -> Work:
    return Work("reduction", reductions=sum(x.numel() for x in maps))
