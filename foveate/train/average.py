"""A running average of the weights, which is evaluated and saved in place of the last ones.

Source: B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the warm-up of the decay
is that of TensorFlow's ExponentialMovingAverage.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """average ← d · average + (1 − d) · weights after each step, d = min(decay, (1 + step) / (10 + step)).

    Buffers with fractions, such as running means, are averaged too; counters are those of the last step.

    Args:
        model: whose weights it starts from.
        decay: d after many steps, such as 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after a step, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, share)
            else:
                self.tensors[name].copy_(value)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from those of a checkpoint."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextlib.contextmanager
    def used(self, model: nn.Module) -> Iterator[None]:
        """The model has the average while this is open."""
        last = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.put_into(model)
        try:
            yield
        finally:
            _copy(last, model)

    def put_into(self, model: nn.Module) -> None:
        """Give the model the average for good."""
        _copy(self.tensors, model)


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        value.copy_(tensors[name])
