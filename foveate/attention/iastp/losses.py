"""The two losses of interaction-aware pyramid attention, and their relation to PCA. arXiv:1808.01106."""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


def pca_objective(s: Float[Tensor, "*b d n"], x: Float[Tensor, "*b n c"]) -> Float[Tensor, "*b"]:
    """−tr(S X Xᵀ Sᵀ) = −‖S X‖²: least, over orthonormal rows of S, on the d leading principal axes of the positions.

    The C channel maps (columns of X) are the samples; with their mean taken off this is PCA itself.
    """
    return -(s @ x).square().sum((-2, -1))


def interactive_loss(
    a: Float[Tensor, "*b d n"], x: Float[Tensor, "*b n c"], weight: float = 1.0
) -> Float[Tensor, "*b"]:
    """The paper's Eq. 6, −tr(A X Xᵀ Aᵀ) + weight · ‖offdiag(A Aᵀ)‖², a value a sample; the paper's weight is 1."""
    gram = a @ a.mT
    between = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
    return pca_objective(a, x) + weight * between.square().sum((-2, -1))


def attention_loss(fused: Float[Tensor, "*b d n"], own: Sequence[Float[Tensor, "*b d n"]]) -> Float[Tensor, "*b"]:
    """√Σ(1 − δ²) with δ_j = |fused − own_j|, both softmax outputs before the L2 norm: small where scales differ."""
    return squared_attention_loss(fused, own).sqrt()


def squared_attention_loss(fused: Tensor, own: Iterable[Tensor]) -> Tensor:
    """The square of the attention loss, which adds up over rows."""
    return reduce(torch.add, ((1 - (fused - one).square()).sum((-2, -1)) for one in own))


class RelaxedPCA(NamedTuple):
    """The minimum of `interactive_loss` over rows of unit norm and any sign, and properties of every minimiser."""

    minimum: Tensor  # ()
    gram_eigenvalues: Tensor  # (d,) of A Aᵀ, descending; zeros where rows collapse onto fewer directions
    projector: Tensor  # (n, n) onto the span of the rows of A


def relaxed_pca(x: Float[Tensor, "n c"], rows: int, weight: float = 1.0) -> RelaxedPCA:
    """Solve min −tr(A X Xᵀ Aᵀ) + weight · ‖offdiag(A Aᵀ)‖² over `rows` unit rows, exactly, by water-filling.

    With l the eigenvalues of X Xᵀ, A Aᵀ has eigenvalues ((l_k − ν)/(2 weight))₊ on the leading axes, ν such that they
    add up to `rows`. The rows are orthonormal only as weight → ∞ or for equal eigenvalues; where l_d is below the mean
    of the d leading ones by 2·weight, they collapse onto fewer axes. A softmax gives positive entries only, so the
    layer itself cannot reach the axes after the first: this is the optimum of the paper's claim, not of the layer.
    """
    values, vectors = torch.linalg.eigh(x @ x.mT)
    values, vectors = values.flip(0), vectors.flip(1)
    for active in range(rows, 0, -1):
        level = values[:active].mean() - 2 * weight * rows / active
        if values[active - 1] > level:
            break
    gram = torch.zeros_like(values[:rows])
    gram[:active] = (values[:active] - level) / (2 * weight)
    minimum = -(values[:rows] * gram).sum() + weight * (gram.square().sum() - rows)
    leading = vectors[:, :active]
    return RelaxedPCA(minimum, gram, leading @ leading.mT)


class Losses(NamedTuple):
    """The two terms added to the classification loss, a value for each sample."""

    interactive: Float[Tensor, "n"]
    attention: Float[Tensor, "n"]
