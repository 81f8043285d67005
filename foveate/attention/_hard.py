"""Hard gates: a gate of exactly 0 turns a channel or position off, and what reads it need not be computed.

Straight-through: Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation", 2013, arXiv:1308.3432. Gumbel: Jang, Gu, Poole, "Categorical Reparameterization with
Gumbel-Softmax", ICLR 2017, arXiv:1611.01144; Maddison, Mnih, Teh, "The Concrete Distribution", ICLR 2017,
arXiv:1611.00712.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from foveate.attention._maps import one_of

HARD = ("topk", "straight_through", "gumbel")
_EPSILON = 1e-6


def has_hard_gates(model: nn.Module) -> bool:
    """Does any attention in it turn channels or positions off?"""
    return any(isinstance(module, Switch) and module.hard is not None for module in model.modules())


class Switch(nn.Module):
    """Logits → gates: soft ones, or hard ones of which some are 0.

    Args:
        name: of the mechanism, for messages.
        hard: None: the soft gate of every logit. "topk": the soft gates of the largest logits, 0 for all others.
            "straight_through": 1 where the logit is positive, else 0. "gumbel": the same, in training after logistic
            noise on the logits, so that gates near the border are tried both ways.
        keep: of "topk": how many stay on, a whole number, or a share between 0 and 1 (at least one stays). None: 0.5.
        temperature: of "gumbel": the logits with their noise are divided by it where gradients pass. None: 1.
        among: how many gates there are, if that is known: an upper bound of `keep`.
        shares: must `keep` be a share, since it is of channels and of positions at once?

    Gradients: those of "topk" are true (the gates that are off have none). Those of "straight_through" and "gumbel"
        are estimates: backwards the gate counts as the soft one of the logit, or of (logit + noise) / temperature.
    Shape: (N, *) → (N, *); the largest are chosen within each sample.
    Raises: ValueError: an unknown form, an option of another form, a temperature that is not positive, `keep` of
        nothing or of more than there are.
    """

    def __init__(
        self,
        name: str,
        hard: str | None,
        keep: float | None,
        temperature: float | None,
        *,
        among: int | None = None,
        shares: bool = False,
    ) -> None:
        super().__init__()
        one_of(name, "hard", hard, (None, *HARD))
        for option, value, of in (("keep", keep, "topk"), ("temperature", temperature, "gumbel")):
            if value is not None and hard != of:
                raise ValueError(f"{name}: {option} belongs to hard={of!r}; got hard={hard!r}")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise ValueError(f"{name}: {option} must be a positive number; got {value!r}")
        whole = isinstance(keep, int)
        if keep is not None and ((whole and shares) or (not whole and keep > 1)):
            wanted = "a share of at most 1.0" if shares else "a whole number or a share of at most 1.0"
            raise ValueError(f"{name}: keep must be {wanted}; got {keep!r}")
        if whole and among is not None and keep is not None and keep > among:
            raise ValueError(f"{name}: keep must be at most the {among} channels; got {keep}")
        self.hard, self.keep = hard, 0.5 if keep is None else keep
        self.temperature = 1.0 if temperature is None else float(temperature)

    @property
    def estimates(self) -> bool:
        """Are the gradients to the logits estimates?"""
        return self.hard in ("straight_through", "gumbel")

    def gate(self, logits: Tensor, soft: Callable[[Tensor], Tensor] = torch.sigmoid) -> Tensor:
        """The gates; soft: from a logit to its soft gate."""
        if self.hard is None:
            return soft(logits)
        if self.hard == "topk":
            flat = logits.flatten(1)
            among = flat.shape[1]
            number = min(self.keep, among) if isinstance(self.keep, int) else max(1, round(self.keep * among))
            chosen = flat.detach().topk(int(number), 1).indices
            on = torch.zeros_like(flat).scatter(1, chosen, 1.0).reshape(logits.shape)
            return soft(logits) * on
        if self.hard == "gumbel":
            if self.training:
                uniform = torch.rand_like(logits, dtype=torch.float32).clamp(_EPSILON, 1 - _EPSILON)
                logits = logits + (uniform.log() - torch.log1p(-uniform)).to(logits.dtype)
            logits = logits / self.temperature
        gate = soft(logits)
        return (logits > 0).to(gate.dtype) + (gate - gate.detach())

    def extra_repr(self) -> str:
        return f"hard={self.hard!r}" + (f", keep={self.keep}" if self.hard == "topk" else "")
