"""What is explained: the score of a class, of a value, of a class of positions, or of a box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.tasks.task import main_output


class NoBoxError(ValueError):
    """A detector finds no box in an image, so that there is no score to explain."""


@dataclass(frozen=True)
class Explained:
    """The scores that are differentiated, and of what they are.

    Attributes:
        score: (N,).
        targets: (N,) number of the class or value of each sample; of a detector as it numbers them, from 1.
        outputs: (N, K) logits or values of the whole sample; None for a detector.
        boxes: (N, 4) of the explained box, for the best one of a detector; else None.
    """

    score: Tensor
    targets: Tensor
    outputs: Tensor | None = None
    boxes: Tensor | None = None

    def probabilities(self) -> Tensor | None:
        """(N, K), softmax of the logits, of a single one the sigmoid; None for a detector."""
        if self.outputs is None:
            return None
        logits = self.outputs.detach().float()
        return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()


def explained(given: Any, target: int | Sequence[int] | Tensor | None = None) -> Explained:
    """The scores in what a network gives.

    Args:
        given: logits or values (N, K): the score is the target's. Logits (N, K, *S) of positions: the mean of the
            target's over the positions that have it as the best class, over all where none has. A detector's list: the
            score of the best box, or the sum over the boxes of the target's class.
        target: of all samples, or one for each; None: the best class, the class of most positions, the best box.

    Raises: ValueError: if there is no such class, or no box.
    """
    if isinstance(given, Sequence) and given and isinstance(given[0], Mapping) and "scores" in given[0]:
        return _of_boxes(given, target)
    outputs = main_output(given)
    if outputs.dim() < 2:
        raise ValueError(f"wanted a network that gives (N, K) or (N, K, *S); got {tuple(outputs.shape)}")
    if outputs.dim() == 2:
        chosen = _chosen(outputs.argmax(1), target, outputs.shape[1])
        return Explained(outputs.gather(1, chosen[:, None])[:, 0], chosen, outputs)
    best = outputs.detach().argmax(1).flatten(1)
    most = torch.stack([torch.bincount(one, minlength=outputs.shape[1]).argmax() for one in best])
    chosen = _chosen(most, target, outputs.shape[1])
    of_target = outputs.flatten(2)[torch.arange(len(outputs)), chosen]
    where = (best == chosen[:, None]).float()
    where = torch.where(where.sum(1, keepdim=True) > 0, where, torch.ones_like(where))
    return Explained((of_target * where).sum(1) / where.sum(1), chosen, outputs.flatten(2).mean(2))


def _chosen(usual: Tensor, target: int | Sequence[int] | Tensor | None, count: int) -> Tensor:
    if target is None:
        return usual
    chosen = torch.as_tensor(target, device=usual.device, dtype=torch.long).expand(usual.shape)
    if bool(((chosen < 0) | (chosen >= count)).any()):
        wrong = next(one for one in chosen.tolist() if not 0 <= one < count)
        raise ValueError(f"target: wanted one of the network's {count} outputs, 0 to {count - 1}; got {wrong}")
    return chosen


def _of_boxes(given: Sequence[Mapping[str, Tensor]], target: int | Sequence[int] | Tensor | None) -> Explained:
    wanted = [None] * len(given) if target is None else torch.as_tensor(target).expand(len(given)).tolist()
    scores, labels, boxes = [], [], []
    for one, label in zip(given, wanted, strict=True):
        if not len(one["scores"]):
            raise NoBoxError("the detector finds no box in this image; there is no score to explain")
        if label is None:
            best = int(one["scores"].argmax())
            score, label = one["scores"][best], int(one["labels"][best])
        else:
            found = one["labels"] == label
            if not bool(found.any()):
                there = sorted(set(one["labels"].tolist()))
                raise ValueError(f"target: the detector finds no box of class {label} in this image; it finds {there}")
            score = one["scores"][found].sum()
            best = int(torch.where(found, one["scores"], -1).argmax())
        scores.append(score)
        labels.append(label)
        boxes.append(one["boxes"][best].detach())
    return Explained(torch.stack(scores), torch.tensor(labels), None, torch.stack(boxes))
