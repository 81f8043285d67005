"""``init="identity"``: attention blended in by a learned strength that starts at zero."""

from __future__ import annotations

import torch
from torch import nn


class Blend(nn.Module):
    r"""Starts any attention as the identity: :math:`x + s\,(A(x) - x)` with a learnable scalar :math:`s = 0`.

    Gradients reach ``s`` in the first step and the attention's weights from the second on. A mechanism that is the
    identity at its own initialisation sets the class attribute ``starts_as_identity = True`` and is not wrapped.

    Args:
        attention: module ``(N, C, *S) -> (N, C, *S)``.
        device: of ``strength``.
        dtype: of ``strength``.

    Shape:
        (N, C, \*S) -> (N, C, \*S), in the dtype of the input, also under autocast.
    """

    def __init__(
        self, attention: nn.Module, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.attention = attention
        self.strength = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.lerp(x, self.attention(x).to(x.dtype), self.strength.to(x.dtype))


class Crossfade(Blend):
    r"""A :class:`Blend` from what a replaced module ``f`` gives: :math:`f(x) + s\,(A(x) - f(x))` with :math:`s = 0`."""

    def forward(self, x: torch.Tensor, replaced: torch.Tensor | None = None) -> torch.Tensor:
        assert replaced is not None
        return torch.lerp(replaced, self.attention(x).to(replaced.dtype), self.strength.to(replaced.dtype))
