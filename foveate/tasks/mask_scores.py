"""Scores of masks: intersection over union, Dice, accuracy of positions, boundary F1, one class alone.

Of an image and of the whole set, from the counts n_tb of positions of class t that are taken for class b:

    I_k = n_kk,  U_k = Σ_b n_kb + Σ_t n_tk − I_k,  IoU_k = I_k / U_k,  Dice_k = 2 I_k / (I_k + U_k)

Over a set the counts of its images are summed first, whatever their sizes.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.data.dataset import IGNORED, Batch
from foveate.registry import nearest
from foveate.spec import Metric
from foveate.tasks.boundaries import boundary_f1
from foveate.tasks.task import Meter, Scores, class_figures

BOUNDARY = "boundary F1"
EMPTY = ("skip", "one")
Logits = Callable[[nn.Module, Any, torch.Size], Tensor]  # (model, inputs, size of the mask) → (N, K, *S)


def mask_metrics(
    names: Sequence[str], of: str | None = None, empty: str = "one", boundary: float | None = None
) -> tuple[Metric, ...]:
    """What a `MaskMeter` with these options measures; with `of` the Dice of that class comes first.

    Raises: ValueError: no such class; an unknown `empty`; a tolerance that is no share.
    """
    if empty not in EMPTY:
        raise ValueError(f"empty: wanted one of {', '.join(EMPTY)}; got {empty!r}")
    if of is None and empty != "one":
        raise ValueError('empty goes with of = "CLASS"; got none')
    if of is not None and of not in names:
        raise ValueError(f"of: no class is called {of!r}; {nearest(of, names)}")
    if boundary is not None and not (isinstance(boundary, (int, float)) and 0 < boundary < 1):
        raise ValueError(f"boundary: wanted a share of the diagonal above 0 and below 1; got {boundary!r}")
    alone = () if of is None else tuple(Metric(name) for name in names_alone(of))
    edges = () if boundary is None else (Metric(BOUNDARY),)
    return (
        *alone,
        Metric("mIoU"),
        Metric("mean Dice"),
        Metric("pixel accuracy"),
        *edges,
        Metric("loss", "nats", "lower"),
    )


def names_alone(of: str) -> tuple[str, str]:
    """What the metrics of one class are called; characters that names of metrics cannot have are underscores."""
    name = re.sub(r"[^\w .@/%+()\[\]:-]", "_", of)[:50]
    return f"Dice of {name}", f"IoU of {name}"


class MaskMeter(Meter):
    """Counts of true by predicted class of each image, and what follows from them.

    mIoU and mean Dice are means over the classes that occur in the mask or in the answer, of the set and of an item;
    pixel accuracy is the share of known positions that are right; loss is cross-entropy, the mean over images.

    Args:
        names: of the classes.
        logits: gives a map of logits, or of log-probabilities, at the mask's size.
        of: a class whose Dice and IoU are measured in each image; their values are means over images.
        empty: what an image counts there whose mask does not have the class: "skip": nothing, whatever was found in it;
            "one": 1 where nothing was found either, else 0.
        boundary: tolerance of the boundary F1 in shares of the diagonal; None: it is not measured.
    """

    def __init__(
        self,
        names: Sequence[str],
        logits: Logits,
        *,
        of: str | None = None,
        empty: Literal["skip", "one"] = "one",
        boundary: float | None = None,
    ) -> None:
        self.names, self.classes, self.logits = names, len(names), logits
        self.of, self.empty, self.boundary = of, empty, boundary
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        self.counts: list[Tensor] = []  # (N, 3, K) of each batch: right, of each true and of each answered class
        self.losses: list[Tensor] = []
        self.edges: list[float] = []

    def update(self, model: nn.Module, batch: Batch) -> None:
        mask = batch.targets["mask"]
        logits = self.logits(model, batch.inputs, mask.shape[1:]).float()
        losses = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none").flatten(1)
        best = logits.argmax(1)
        self.losses.append((losses.sum(1) / (mask != IGNORED).flatten(1).sum(1).clamp_min(1)).cpu())
        pairs = counts_of(best, mask, self.classes).cpu()
        self.counts.append(torch.stack([pairs.diagonal(dim1=1, dim2=2), pairs.sum(2), pairs.sum(1)], 1))
        self.confusion += pairs.sum(0)
        if self.boundary is not None:
            both = zip(best.cpu().numpy(), mask.cpu().numpy(), strict=True)
            self.edges += [boundary_f1(found, target, self.boundary) for found, target in both]

    def scores(self) -> Scores:
        both, true, found = torch.cat(self.counts).unbind(1)
        sizes = true + found
        either = sizes - both
        right, known = both.sum(1), true.sum(1)
        items: dict[str, Tensor] = {}
        values: dict[str, float] = {}
        if self.of is not None:
            k = self.names.index(self.of)
            inside = both[:, k].double()
            alone = (2 * inside / sizes[:, k], inside / either[:, k])  # 0 / 0 where the class is in neither
            for name, one in zip(names_alone(self.of), alone, strict=True):
                skipped = torch.full_like(one, torch.nan)
                items[name] = torch.where(true[:, k] > 0, one, skipped if self.empty == "skip" else one.nan_to_num(1.0))
                values[name] = items[name].nanmean().item()
                if np.isnan(values[name]):
                    raise ValueError(f"{name}: wanted an image whose mask has the class; none has (empty = 'skip')")
        items |= {"mIoU": mean_iou(both, either), "mean Dice": mean_dice(both, sizes)}
        items |= {"pixel accuracy": right.double() / known.clamp_min(1)}
        values["mIoU"] = mean_iou(both.sum(0), either.sum(0)).item()
        values["mean Dice"] = mean_dice(both.sum(0), sizes.sum(0)).item()
        values["pixel accuracy"] = int(right.sum()) / max(int(known.sum()), 1)
        if self.boundary is not None:
            items[BOUNDARY] = torch.tensor(self.edges, dtype=torch.float64)
            values[BOUNDARY] = items[BOUNDARY].nanmean().item()
        items["loss"] = torch.cat(self.losses)
        values["loss"] = items["loss"].double().mean().item()
        sums = {
            "mIoU.intersection": both,
            "mIoU.union": either,
            "mean Dice.intersection": both,
            "mean Dice.sizes": sizes,
            "pixel accuracy.right": right,
            "pixel accuracy.known": known,
        }
        confusion = self.confusion.numpy()
        by_class = class_figures(self.names, confusion)
        for k, name in enumerate(self.names):
            by_class[name]["IoU"] = int(both[:, k].sum()) / max(int(either[:, k].sum()), 1)
            by_class[name]["Dice"] = 2 * int(both[:, k].sum()) / max(int(sizes[:, k].sum()), 1)
        arrays = {name: value.numpy().astype(np.float32) for name, value in items.items()}
        return Scores(values, arrays | {name: value.numpy() for name, value in sums.items()}, by_class, confusion)


def counts_of(best: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Known positions of each true class (rows) by answered class: (N, *S), (N, *S) → int64 (N, K, K)."""
    pairs = classes**2 + 1  # the last: positions that are ignored
    numbers = torch.where(mask == IGNORED, pairs - 1, mask * classes + best).flatten(1)
    numbers = numbers + pairs * torch.arange(len(numbers), device=numbers.device)[:, None]
    found = torch.bincount(numbers.flatten(), minlength=pairs * len(numbers)).view(-1, pairs)
    return found[:, :-1].unflatten(1, (classes, classes))


def mean_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Mean over the classes (last axis) with a union of the intersection over the union; (…, K) counts → (…)."""
    there = union > 0
    ratio = intersection.double() / union.clamp_min(1)
    return (ratio * there).sum(-1) / there.sum(-1).clamp_min(1)


def mean_dice(intersection: Tensor, sizes: Tensor) -> Tensor:
    """The same of twice the intersection over the sum of both sizes."""
    return mean_iou(2 * intersection, sizes)
