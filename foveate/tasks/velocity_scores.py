"""Scores of velocity models in m/s: of the whole, in and out of salt, at its boundary, by kind of salt and by depth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from foveate.spec import Metric
from foveate.tasks.task import Scores
from foveate.tasks.velocity_losses import ssim
from foveate.waves import SALT_M_S

MAE, RMSE, SSIM, IOU, FALSE = "MAE", "RMSE", "SSIM", "salt IoU", "false salt"
INSIDE, OUTSIDE, BOUNDARY = "MAE in salt", "MAE out of salt", "MAE at salt boundary"
RELATIVE_IN, RELATIVE_OUT = "relative error in salt", "relative error out of salt"
REACH = 2  # cells to either side of the salt's boundary
QUARTERS = ("0-25 %", "25-50 %", "50-75 %", "75-100 %")


def velocity_metrics(kinds: Sequence[str], *, salt: bool) -> tuple[Metric, ...]:
    """What `velocity_scores` measures.

    Args:
        kinds: of salt that the test models have.
        salt: have some of them salt?
    """

    def error(name: str, of: str = "") -> Metric:
        return Metric(name, "m/s", "lower", of=of)

    found = [error(MAE), error(RMSE), Metric(SSIM, "", "higher", "plain")]
    if salt:
        found += [Metric(IOU, "", "higher", "plain"), error(INSIDE), error(OUTSIDE), error(BOUNDARY)]
        found += [Metric(RELATIVE_IN, "fraction", "lower"), Metric(RELATIVE_OUT, "fraction", "lower")]
        found += [Metric(FALSE, "fraction", "lower")] if "none" in kinds else []
    found += [error(_of_kind(kind), kind) for kind in kinds]
    found += [Metric(_iou_of(kind), "", "higher", "plain", of=kind) for kind in kinds if salt and kind != "none"]
    return (*found, *(error(_at_depth(name), f"depth {name}") for name in QUARTERS))


def velocity_scores(
    found: Tensor, wanted: Tensor, metrics: Sequence[Metric], kinds: NDArray[np.int64] | None, names: Sequence[str]
) -> Scores:
    """The metrics, of the set and of each model.

    Errors in parts (salt, a kind, a depth) are means over the cells of the part in all models; the salt IoU is a mean
    over models with salt, false salt the share of cells taken for salt in models without any. What no model has is NaN.

    Args:
        found, wanted: (N, H, W), m/s.
        metrics: of `velocity_metrics`.
        kinds: (N,) numbers of `names`; None: not known.
    """
    errors = (found - wanted).abs().double()
    mask, taken = wanted >= SALT_M_S, found >= SALT_M_S
    parts = _parts(errors, wanted, mask, kinds, names)
    items: dict[str, NDArray[Any]] = {MAE: errors.mean((1, 2)).numpy()}
    items[SSIM] = ssim(found[:, None].float(), wanted[:, None].float()).double().numpy()
    both, either = (mask & taken).sum((1, 2)).double(), (mask | taken).sum((1, 2)).double()
    there = mask.any(2).any(1)
    overlap = torch.where(there, both / either.clamp_min(1), torch.nan)
    items[IOU] = overlap.numpy()
    items[FALSE] = torch.where(there, torch.nan, taken.double().mean((1, 2))).numpy()
    for number, kind in enumerate(names if kinds is not None else ()):
        items[_iou_of(kind)] = np.where(kinds == number, items[IOU], np.nan)
    values: dict[str, float] = {}
    kept: dict[str, NDArray[Any]] = {}
    for metric in metrics:
        name = metric.name
        if name == RMSE:
            squares = errors.square().sum((1, 2))
            values[name] = float((squares.sum() / errors.numel()).sqrt())
            count = torch.full((len(errors),), errors[0].numel())
            kept |= {f"{name}.squares": squares.numpy(), f"{name}.count": count.numpy()}
        elif name in parts:
            total, count = parts[name]
            values[name] = float(total.sum() / count.sum())  # NaN where no model has such cells
            kept |= {f"{name}.total": total.numpy(), f"{name}.count": count.numpy()}
        else:
            known = items[name][np.isfinite(items[name])]
            values[name] = float(known.mean()) if len(known) else math.nan
            kept[name] = items[name].astype(np.float32)
    return Scores(values, kept)


def _parts(
    errors: Tensor, wanted: Tensor, mask: Tensor, kinds: NDArray[np.int64] | None, names: Sequence[str]
) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Of each metric that is a mean over some cells: sums of errors and numbers of cells, (N,) each."""

    def within(chosen: Tensor, values: Tensor = errors) -> tuple[Tensor, Tensor]:
        return (values * chosen).sum((1, 2)), chosen.expand_as(values).sum((1, 2)).double()

    relative = errors / wanted
    found = {INSIDE: within(mask), OUTSIDE: within(~mask), BOUNDARY: within(near_boundary(mask))}
    found |= {RELATIVE_IN: within(mask, relative), RELATIVE_OUT: within(~mask, relative)}
    if kinds is not None:
        for number, kind in enumerate(names):
            found[_of_kind(kind)] = within(torch.from_numpy(kinds == number)[:, None, None])
    rows = errors.shape[1]
    for number, name in enumerate(QUARTERS):
        band = torch.zeros(rows, 1, dtype=torch.bool)
        band[number * rows // 4 : (number + 1) * rows // 4] = True
        found[_at_depth(name)] = within(band[None])
    return found


def near_boundary(mask: Tensor) -> Tensor:
    """(N, H, W) bool: within two cells of a change between salt and ground."""
    inside, side = mask[:, None].float(), 2 * REACH + 1
    wide = F.max_pool2d(inside, side, 1, REACH) > 0
    deep = -F.max_pool2d(-inside, side, 1, REACH) > 0
    return (wide & ~deep)[:, 0]


def _of_kind(kind: str) -> str:
    return "MAE without salt" if kind == "none" else f"MAE of {kind}"


def _iou_of(kind: str) -> str:
    return f"salt IoU of {kind}"


def _at_depth(name: str) -> str:
    return f"MAE at depth {name}"
