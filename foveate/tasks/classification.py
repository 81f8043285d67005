"""Image classification: cross-entropy, top-1 accuracy."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Classification:
    """Which class is in the image.

    label_smoothing: of the training loss; the test loss has none.
    """

    label_smoothing: float = 0.0

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, classes) against labels (N,)."""
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[dict[str, float], Tensor]:
        """Metrics over the batches, and whether each image was right, (images,) of bool, in their order.

        Metrics: "accuracy" (fraction), "loss" (nats an image).
        """
        right, losses = [], []
        for x, labels in batches:
            logits = model(x).float()
            right.append(logits.argmax(1) == labels)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
        correct = torch.cat(right)
        metrics = {"accuracy": correct.double().mean().item(), "loss": torch.cat(losses).double().mean().item()}
        return metrics, correct.cpu()
