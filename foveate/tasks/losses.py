"""Losses of maps of classes: cross-entropy, Dice, Lovász and focal, alone or summed with weights.

Dice, Lovász and focal are those of segmentation_models_pytorch (optional: `pip install "foveate[segmentation]"`):
Dice (Milletari et al., "V-Net", 2016, arXiv:1606.04797) of the softmax over the whole batch, mean over all classes, of
which those that do not occur in the batch count 0; Lovász-softmax (Berman et al., 2018, arXiv:1705.08790) over the
whole batch, mean over the classes that occur; focal (Lin et al., 2017, arXiv:1708.02002) of each class against the
others by sigmoids with gamma = 2, mean over positions and classes.
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.data.dataset import IGNORED, Split
from foveate.registry import nearest

LIBRARY = "segmentation_models_pytorch"
KEPT = {"dice": "DiceLoss", "lovasz": "LovaszLoss", "focal": "FocalLoss"}  # name here: class of the library
LOSSES = ("ce", *KEPT)
COUNTED = 512  # training masks that balanced weights are counted in
BALANCED = "balanced"

Term = Callable[[Tensor, Tensor], Tensor]


class MaskLoss:
    """A weighted sum of losses of logits against a mask, over the positions whose class is known.

    Where none is known, the value and its gradients are 0.

    Args:
        loss: a name of `LOSSES`, or {name: weight}.
        class_weights: of each class, positive, for cross-entropy, Dice and focal; None: all the same.

    Shape: logits (N, K, *S), mask (N, *S) → {name: ()}, each without its weight.
    Raises: ValueError: an unknown name, no positive weights, weights of classes for Lovász alone, which has none, or
        the library is not installed.
    """

    def __init__(self, loss: str | Mapping[str, float] = "ce", class_weights: Tensor | None = None) -> None:
        self.weights = read_loss(loss)
        if class_weights is not None and set(self.weights) == {"lovasz"}:
            raise ValueError("class_weights: the loss 'lovasz' has none; ce, dice and focal have")
        self.terms = {name: _term(name, class_weights) for name in self.weights}

    def __call__(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        if mask.is_meta:  # shapes alone are checked
            return dict.fromkeys(self.terms, F.cross_entropy(logits, mask, ignore_index=IGNORED))
        if not (mask != IGNORED).any():
            return dict.fromkeys(self.terms, 0 * logits.sum())
        return {name: term(logits, mask) for name, term in self.terms.items()}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the parts."""
        first, *others = (part if (w := self.weights[name]) == 1 else w * part for name, part in parts.items())
        return sum(others, first)


def read_loss(loss: Any, known: Sequence[str] = LOSSES) -> dict[str, float]:
    """{name: weight} of a name or of names with weights. Raises: ValueError: if it is neither."""
    weights = {loss: 1.0} if isinstance(loss, str) else loss
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(
            f"loss: wanted one of {', '.join(known)}, or weights such as {{{known[0]} = 1, {known[1]} = 1}}; "
            f"got {loss!r}"
        )
    for name, weight in weights.items():
        if name not in known:
            raise ValueError(f"loss: wanted one of {', '.join(known)}; got {name!r}; {nearest(str(name), known)}")
        if not _positive(weight):
            raise ValueError(f"loss: wanted a positive weight of {name!r}; got {weight!r}")
    return dict(weights)


def read_class_weights(given: Any, names: Sequence[str]) -> tuple[float, ...] | str | None:
    """The weights in the order of the classes, "balanced" or None.

    given: numbers in the order of the classes, or {class: weight}, where classes that are left out have 1.

    Raises: ValueError: another number of weights, an unknown class, a weight that is not positive.
    """
    if given is None or given == BALANCED:
        return given
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ValueError(f"class_weights: no class is called {name!r}; {nearest(str(name), names)}")
        given = [given.get(name, 1.0) for name in names]
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(names):
        raise ValueError(
            f"class_weights: wanted {BALANCED!r}, {{class: weight}} or {len(names)} numbers; got {given!r}"
        )
    if odd := [one for one in given if not _positive(one)]:
        raise ValueError(f"class_weights: wanted positive numbers; got {odd[0]!r}")
    return tuple(map(float, given))


def balanced_weights(split: Split, classes: int) -> Tensor:
    """Σ_j n_j / (K · n_k) for the K classes with n_k > 0 positions in the masks of the split.

    Where the split does not know them, they are counted in at most 512 masks spread over it. A class without any has
    the largest weight of the others.

    Raises: ValueError: if no mask has a known position.
    """
    if split.pixels is not None:
        positions = torch.from_numpy(split.pixels.sum(0)).double()
    else:
        count = len(split)
        items = sorted({number * count // min(count, COUNTED) for number in range(min(count, COUNTED))})
        positions = torch.zeros(classes, dtype=torch.float64)
        for item in items:  # one at a time: masks may differ in size
            mask = split.batch([item], None).targets["mask"]
            positions += torch.bincount(mask[mask != IGNORED], minlength=classes)
    there = positions > 0
    if not there.any():
        raise ValueError("class_weights: wanted training masks with known positions; all are ignored")
    weights = positions.sum() / (there.sum() * positions.clamp_min(1))
    return torch.where(there, weights, weights[there].max()).float()


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _term(name: str, class_weights: Tensor | None) -> Term:
    if name == "ce":
        return lambda logits, mask: F.cross_entropy(
            logits, mask, None if class_weights is None else class_weights.to(logits.device), ignore_index=IGNORED
        )
    try:
        library = importlib.import_module(f"{LIBRARY}.losses")
    except ModuleNotFoundError as error:
        if error.name != LIBRARY:
            raise
        raise ValueError(f'loss {name!r} needs {LIBRARY}: pip install "foveate[segmentation]"') from None
    options = {} if name == "lovasz" or class_weights is None else {"class_weights": class_weights.tolist()}
    term: Term = getattr(library, KEPT[name])("multiclass", ignore_index=IGNORED, **options)
    return term
