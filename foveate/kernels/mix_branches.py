"""Maps of one shape, as selective kernels have them: the mean of their sum, and their sum by factors of the channels.

    pool_branches: mean over positions of Σ_m x_m          mix_branches: y = Σ_m w_m · x_m

Neither writes a map but y. As with a shared map (see `shared`), the readers hand their part of the gradient to a
ledger, and one node at the root of all the maps writes dx_m = dy · w_m + (what the mean adds), in one read of dy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foveate.kernels import _branch_passes as passes
from foveate.kernels._dispatch import choose
from foveate.kernels._layout import computed, dense, like, small
from foveate.kernels.shared import Ledger, backward_form

SMALL = 512 << 10  # bytes of a map on a CPU below which the passes save less than they take to start


# ---- reference ------------------------------------------------------------------------------------------------------
def pool_reference(maps: Sequence[Tensor]) -> Tensor:
    total = maps[0]
    for x in maps[1:]:
        total = total + x
    return total.mean(tuple(range(2, total.dim())))


def mix_reference(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    ones = (1,) * (maps[0].dim() - 2)
    factors = [weight.reshape(*weight.shape, *ones) for weight in weights.unbind(1)]
    y = maps[0] * factors[0]
    for x, factor in zip(maps[1:], factors[1:], strict=True):
        y = y + x * factor
    return y


# ---- gradient -------------------------------------------------------------------------------------------------------
class Branches:
    """Maps of one shape as the primitives of this file take them. Made by `share_branches`; lives for one forward pass.

    maps: dense and laid alike unless impl is "reference".
    token: a number without meaning whose gradient tells the root that a reader is done; None without gradients.
    """

    def __init__(self, maps: Sequence[Tensor], impl: str) -> None:
        self.impl, self.maps = impl, list(maps)
        self.token: Tensor | None = None
        if impl == "reference":
            return
        first = dense(self.maps[0])
        self.maps = [first, *(like(x, first) for x in self.maps[1:])]
        self.ledger = Ledger(impl)
        if torch.is_grad_enabled() and any(x.requires_grad for x in self.maps):
            self.token = _Root.apply(self.ledger, *self.maps)


class _Root(Function):
    @staticmethod
    def forward(ctx: Any, ledger: Ledger, *maps: Tensor) -> Tensor:
        ctx.ledger = ledger
        ctx.save_for_backward(*maps)
        return maps[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        maps, terms = ctx.saved_tensors, ctx.ledger.taken()
        even = sum(terms.even[1:], terms.even[0]) if terms.even else None
        if len(terms.scaled) == 1 and backward_form(ctx.ledger.impl, *terms.tensors()) != "reference":
            dy, weights, _ = terms.scaled[0]
            return None, *passes.gradients(ctx.ledger.impl, dy, weights, small(even, dy))
        dx: list[Any] = [0] * len(maps)
        ones = (1,) * (maps[0].dim() - 2)
        for dy, weights, _ in terms.scaled:
            dx = [d + dy * w.reshape(*w.shape, *ones) for d, w in zip(dx, weights, strict=True)]
        if even is not None:
            dx = [d + even.reshape(*even.shape, *ones) for d in dx]
        return None, *(d.expand_as(x).to(x.dtype) for d, x in zip(dx, maps, strict=True))


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, branches: Branches) -> Tensor:
        ctx.ledger, ctx.positions = branches.ledger, branches.maps[0][0, 0].numel()
        return passes.pool(branches.impl, branches.maps).to(branches.maps[0].dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (d,) = given
        ctx.ledger.terms().even.append(d.to(computed(d.dtype)) / ctx.positions)
        return d.new_zeros(()), None


class _Mix(Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor | None, branches: Branches, weights: Tensor, *maps: Tensor) -> Tensor:
        ctx.impl, ctx.ledger = branches.impl, branches.ledger
        ctx.save_for_backward(weights, *maps)
        return passes.mix(branches.impl, list(maps), weights)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        (dy,) = given
        weights, *maps = ctx.saved_tensors
        of_token, _, of_weights, *_ = ctx.needs_input_grad
        d_weights = None
        if backward_form(ctx.impl, dy) == "reference":
            d_weights = torch.stack([(x * dy).sum(tuple(range(2, x.dim()))) for x in maps])
        else:
            dy = like(dy, maps[0])
            if of_weights:
                d_weights = passes.products(ctx.impl, maps, dy)
        if of_token:
            ctx.ledger.terms().scaled.append((dy, weights, None))
        done = dy.new_zeros(()) if of_token else None
        return done, None, d_weights if of_weights else None, *(None,) * len(maps)


# ---- dispatch -------------------------------------------------------------------------------------------------------
def share_branches(
    maps: Sequence[Tensor] | Branches, *, primitive: str = "share_branches", impl: str | None = None
) -> Branches:
    """The maps for `pool_branches` and `mix_branches`, which then write their gradients once.

    Args:
        maps: at least one, all (N, C, *S) of one shape, dtype and device, floating.
        primitive: named in error messages.
        impl: "reference", "cpu" or "triton". None: the quickest that can run on all of them; on a CPU the reference for
            maps of less than 512 KiB.

    Raises: ValueError: no maps, maps that differ, another impl. RuntimeError: one asked for by name that cannot run,
        and why.
    """
    if isinstance(maps, Branches):
        return maps if impl in (None, maps.impl) else share_branches(maps.maps, primitive=primitive, impl=impl)
    first = maps[0] if maps else None
    if first is None or any((x.shape, x.dtype, x.device) != (first.shape, first.dtype, first.device) for x in maps[1:]):
        got = ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in maps) or "none"
        raise ValueError(f"{primitive}: wanted maps of one shape, dtype and device; got {got}")
    if impl is None and not torch.compiler.is_compiling() and first.is_cpu and first.nbytes < SMALL:
        return Branches(maps, "reference")
    forms = {choose(primitive, impl, x) for x in maps}
    return Branches(maps, forms.pop() if len(forms) == 1 else "reference")


def pool_branches(maps: Sequence[Tensor] | Branches, *, impl: str | None = None) -> Tensor:
    """The mean of the sum of the maps over its positions, (N, C), in their dtype.

    Args:
        maps, impl: see `share_branches`.
    """
    branches = share_branches(maps, primitive="pool_branches", impl=impl)
    if branches.impl == "reference":
        return pool_reference(branches.maps)
    if branches.token is not None:
        return _Pool.apply(branches.token, branches)
    return passes.pool(branches.impl, branches.maps).to(branches.maps[0].dtype)


def mix_branches(maps: Sequence[Tensor] | Branches, weights: Tensor, *, impl: str | None = None) -> Tensor:
    """The sum of the maps, each with a factor for each of its channels.

    Args:
        maps, impl: M maps; see `share_branches`.
        weights: (N, M, C).

    Returns: (N, C, *S), of the dtype that torch's promotion gives.
    Raises: ValueError: weights of another shape; what `share_branches` raises.
    """
    branches = share_branches(maps, primitive="mix_branches", impl=impl)
    x = branches.maps[0]
    wanted = (x.shape[0], len(branches.maps), x.shape[1])
    if weights.shape != wanted:
        raise ValueError(f"mix_branches: weights must be {wanted}; got {tuple(weights.shape)}")
    if branches.impl == "reference" or torch.promote_types(x.dtype, weights.dtype) != x.dtype:
        return mix_reference(branches.maps, weights)
    weights = small(weights.transpose(0, 1), x)
    if torch.is_grad_enabled() and (branches.token is not None or weights.requires_grad):
        return _Mix.apply(branches.token, branches, weights, *branches.maps)
    return passes.mix(branches.impl, branches.maps, weights)
