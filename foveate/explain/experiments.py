"""The papers' own experiments on a trained network: does its attention do what they say it does?

    branch_by_scale(model, images)       SK: does the branch with the larger kernel count more for a larger object?
    threshold_by_noise(model, images)    DRSN: do thresholds rise with the noise?
    strips_on_objects(model, inputs, objects)  coordinate attention: do its strips cross on the object?

All take trained networks, are run in evaluation mode, and change nothing. "cbam against se against plain" is a study
with a table [explain]: studies/explain_digits.toml.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.attention import capture
from foveate.explain.localisation import mean_interval
from foveate.explain.watch import evaluating

SCALES = (1.0, 1.5, 2.0)
NOISE_DB = (20.0, 10.0, 5.0, 0.0)
LEVEL = 0.05  # of Holm's correction over modules
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class BranchByScale:
    """One SK module, over images.

    Attributes:
        site: name of the module. depth: its place among the modules, 0 to 1.
        weights: (scales, branches), means over images and channels.
        rise: of the last branch's weight from the smallest to the largest scale, mean over images and its interval.
        rising: share of channels whose mean weight of that branch rises.
        p: Wilcoxon's signed-rank test of no rise over images, corrected by Holm over the modules.
    """

    site: str
    depth: float
    weights: NDArray[np.float64]
    rise: Interval
    rising: float
    p: float

    @property
    def shows_it(self) -> bool:
        """Does the larger kernel count more for larger objects here?"""
        return self.p < LEVEL and self.rise[0] > 0


def enlarged(images: Tensor, scale: float) -> Tensor:
    """The middle of each image (N, C, H, W), enlarged to the whole. Raises: ValueError: a scale below 1."""
    if scale < 1:
        raise ValueError(f"scale: wanted 1 or more; got {scale}")
    high, wide = (round(side / scale) for side in images.shape[2:])
    top, left = (images.shape[2] - high) // 2, (images.shape[3] - wide) // 2
    part = images[:, :, top : top + high, left : left + wide]
    return F.interpolate(part, images.shape[2:], mode="bilinear", align_corners=False)


def branch_by_scale(
    model: nn.Module, batches: Iterable[Tensor], scales: Sequence[float] = SCALES
) -> list[BranchByScale]:
    """How much the branch with the largest kernel counts as the object in the middle of the image grows.

    Source: Li, Wang, Hu, Yang, "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586, section 4.4: in all but the
    last stage the 5×5 branch counts more for a larger object. There the mean over channels is drawn; here it is tested.

    Args:
        model: with SK modules.
        batches: of images (N, C, H, W), prepared as the network takes them.
        scales: from the smallest, 1 or more.

    Raises: ValueError: the network has no branch weights, or fewer than two images or scales are given.
    """
    if len(scales) < 2:
        raise ValueError(f"scales: wanted two or more; got {list(scales)}")
    found = _captured(model, batches, "branch", [partial(enlarged, scale=scale) for scale in scales])
    if not found:
        raise ValueError("wanted a network with selective kernels (sk); it records no branch weights")
    rows = {site: np.stack([np.concatenate(parts) for parts in levels]) for site, levels in found.items()}
    tests = {site: _no_rise(values[-1, :, -1].mean(1) - values[0, :, -1].mean(1)) for site, values in rows.items()}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    result = []
    for place, (site, values) in enumerate(rows.items()):
        last = values[:, :, -1]  # (scales, N, C)
        rise = mean_interval(last[-1].mean(1) - last[0].mean(1))
        rising = float((last[-1].mean(0) > last[0].mean(0)).mean())
        depth = place / max(len(rows) - 1, 1)
        result.append(BranchByScale(site, depth, values.mean((1, 3)), rise, rising, corrected[site]))
    return result


@dataclass(frozen=True)
class ThresholdByNoise:
    """One shrinkage module, over images.

    Attributes:
        site: name of the module.
        thresholds: (1 + levels,), means over images and channels, of clean images first.
        trend: Spearman's correlation of an image's threshold with the noise, mean over images and its interval.
    """

    site: str
    thresholds: NDArray[np.float64]
    trend: Interval


def threshold_by_noise(
    model: nn.Module,
    batches: Iterable[Tensor],
    levels_db: Sequence[float] = NOISE_DB,
    seed: int = 0,
    *,
    rescaled: bool = False,
) -> list[ThresholdByNoise]:
    """The thresholds as white noise is added, from clean inputs to the lowest ratio of signal to noise.

    Source: Zhao, Zhong, Fu, Tang, Pecht, "Deep Residual Shrinkage Networks for Fault Diagnosis", IEEE Transactions on
    Industrial Informatics 16, 2020: thresholds are to be learned for each sample by its noise.

    Args:
        model: with DRSN modules (drsn_cs, drsn_cw).
        batches: of inputs (N, C, *S).
        levels_db: ratios of the sample's variance to the noise's, in decibels, falling.
        seed: of the noise.
        rescaled: bring each noisy sample back to its deviation without noise, as data of signals that are scaled window
            by window have it; thresholds then rise with the share of the noise, not with how loud the sample is.

    Raises: ValueError: the network has no thresholds, or fewer than two levels are given.
    """
    from scipy.stats import spearmanr

    if len(levels_db) < 2 or list(levels_db) != sorted(levels_db, reverse=True):
        raise ValueError(f"levels_db: wanted two or more, falling; got {list(levels_db)}")
    drawn = torch.Generator().manual_seed(seed)
    changes: list[Callable[[Tensor], Tensor]] = [lambda x: x]
    changes += [partial(_noisy, level_db=level, drawn=drawn, rescaled=rescaled) for level in levels_db]
    found = _captured(model, batches, "threshold", changes)
    if not found:
        raise ValueError("wanted a network with shrinkage (drsn_cs, drsn_cw); it records no thresholds")
    result = []
    for site, levels in found.items():
        values = np.stack([np.concatenate(parts) for parts in levels])  # (levels, N, C)
        of_image = values.mean(2)
        trends = [
            0.0 if np.ptp(one) == 0 else float(spearmanr(np.arange(len(one)), one).statistic) for one in of_image.T
        ]
        result.append(ThresholdByNoise(site, values.mean((1, 2)), mean_interval(np.array(trends))))
    return result


@dataclass(frozen=True)
class StripsOnObjects:
    """One coordinate-attention module, over images with objects.

    Attributes:
        site: name of the module.
        rows, columns: share of images whose largest row (column) gate, mean over channels, lies on a row (column) of
            the object, with its interval.
        both: share of images in which both do.
        by_chance: of rows, of columns and of both, what a random row and column reach.
    """

    site: str
    rows: Interval
    columns: Interval
    both: Interval
    by_chance: tuple[float, float, float]


def strips_on_objects(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[StripsOnObjects]:
    """Where coordinate attention's two strips are largest, against where the object is.

    Source: Hou, Zhou, Feng, "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, arXiv:2103.02907:
    each strip says whether the object is in its rows or columns.

    Args:
        model: with ca modules.
        batches: of inputs (N, C, H, W) and objects, bool (N, H, W).

    Raises: ValueError: the network has no such strips, or no image has an object.
    """
    objects: list[Tensor] = []

    def inputs() -> Iterator[Tensor]:
        for x, there in batches:
            objects.append(there.cpu())
            yield x

    strips = _captured(model, inputs(), "height", [lambda x: x], also="width")
    if not strips:
        raise ValueError("wanted a network with coordinate attention (ca); it records no strips")
    there = torch.cat(objects)
    kept = there.flatten(1).any(1).numpy()
    if not kept.any():
        raise ValueError("wanted images with objects; no image has one")
    result = []
    for site, (pairs,) in strips.items():
        heights = np.concatenate([one for one, _ in pairs]).mean(1)
        widths = np.concatenate([other for _, other in pairs]).mean(1)
        on = F.adaptive_max_pool2d(there[:, None].float(), (heights.shape[1], widths.shape[1]))[:, 0] > 0
        on_rows, on_columns = on.any(2).numpy(), on.any(1).numpy()
        hit = [
            np.take_along_axis(lies, gate.argmax(1)[:, None], 1)[:, 0][kept].astype(float)
            for lies, gate in ((on_rows, heights), (on_columns, widths))
        ]
        chance = [float(lies[kept].mean()) for lies in (on_rows, on_columns)]
        together = float((on_rows[kept].mean(1) * on_columns[kept].mean(1)).mean())
        result.append(
            StripsOnObjects(
                site,
                mean_interval(hit[0]),
                mean_interval(hit[1]),
                mean_interval(hit[0] * hit[1]),
                (chance[0], chance[1], together),
            )
        )
    return result


def _captured(
    model: nn.Module,
    batches: Iterable[Tensor],
    kind: str,
    changes: Sequence[Callable[[Tensor], Tensor]],
    also: str | None = None,
) -> dict[str, list[list[Any]]]:
    """{site: for each change of the inputs, the arrays (N, …) of each batch}, or pairs with those of another kind."""
    found: dict[str, list[list[Any]]] = {}
    with evaluating(model), torch.inference_mode():
        for x in batches:
            for number, change in enumerate(changes):
                with capture(model) as seen:
                    model(change(x))
                for site, maps in seen.maps.items():
                    if kind in maps and (also is None or also in maps):
                        value: Any = maps[kind].double().cpu().numpy()
                        if also is not None:
                            value = value, maps[also].double().cpu().numpy()
                        found.setdefault(site, [[] for _ in changes])[number].append(value)
    return found


def _noisy(x: Tensor, level_db: float, drawn: torch.Generator, rescaled: bool) -> Tensor:
    axes = tuple(range(1, x.dim()))
    own = x.std(axes, correction=0, keepdim=True)
    noisy = x + own * 10 ** (-level_db / 20) * torch.randn(x.shape, generator=drawn).to(x)
    return noisy * (own / noisy.std(axes, correction=0, keepdim=True)) if rescaled else noisy


def _no_rise(differences: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if len(differences) < 2:
        raise ValueError(f"wanted two images or more; got {len(differences)}")
    return 1.0 if not differences.any() else float(wilcoxon(differences, alternative="greater").pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for the number of tests (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    found = [0.0] * len(p)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        found[place] = highest
    return found
