"""Do maps depend on what a network learned? Those of the same network with random weights must differ."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.explain.localisation import mean_interval
from foveate.explain.maps import explain_batch
from foveate.explaining import ALIKE


@dataclass(frozen=True)
class Sanity:
    """Rank correlations of maps with those of the same network with random weights.

    Attributes:
        method: of the maps.
        correlations: (N,) of each image; nan where a map is constant.
        mean, low, high: their mean and its 95 % interval over images.
    """

    method: str
    correlations: NDArray[np.float64]
    mean: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Do the maps differ?"""
        return self.high < ALIKE

    @property
    def text(self) -> str:
        """What a page says of it, in a sentence."""
        seen = f"rank correlation {self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"
        if self.passed:
            return f"maps of {self.method} differ from those of the network with random weights ({seen})"
        return (
            f"maps of {self.method} may not show what the network learned: those of the network with random weights "
            f"are alike ({seen}; Adebayo et al., 2018)"
        )


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with fresh random weights: each module's own initialisation, else normal with the tensor's own mean and
    deviation. Running statistics of norms are kept, so that the features keep their scale."""
    made = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in made.modules():
            own = dict(module.named_parameters(recurse=False))
            reset = getattr(module, "reset_parameters", None)
            if not own:
                continue
            statistics = {name: value.clone() for name, value in module.named_buffers(recurse=False)}
            if callable(reset):
                reset()
                for name, value in module.named_buffers(recurse=False):
                    value.copy_(statistics[name])
            else:
                for value in own.values():
                    spread = value.std() if value.numel() > 1 else value.abs().mean()
                    value.copy_(torch.randn_like(value) * spread + value.mean())
    return made


def sanity_check(
    model: nn.Module,
    inputs: Tensor,
    targets: Any = None,
    method: str = "gradcam",
    *,
    layers: Any = None,
    seed: int = 0,
) -> Sanity:
    """Compare the maps of a trained network with those of the same network with random weights.

    Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018,
    arXiv:1810.03292: the model parameter randomisation test, with Spearman's rank correlation.

    Args:
        inputs: (N, C, H, W).
        targets: of both networks; None: the best class of the trained one.
        layers: as `foveate.explain.explain` takes them.
        seed: of the random weights.

    Raises: ValueError: no image has two maps that are not constant.
    """
    found, about = explain_batch(model, inputs, targets, method, layers=layers)
    same = None if about is None else about.targets
    other, _ = explain_batch(randomised(model, seed), inputs, same, method, layers=layers or list(found.layers))
    correlations = rank_correlations(found.maps, other.maps)
    if not np.isfinite(correlations).any():
        raise ValueError(f"{method}: every map is constant; wanted maps that can be compared")
    return Sanity(method, correlations, *mean_interval(correlations))


def rank_correlations(maps: Tensor, others: Tensor) -> NDArray[np.float64]:
    """Spearman's (N,) of each pair of maps (N, H, W); nan where one is constant."""
    from scipy.stats import spearmanr

    found = []
    for one, other in zip(maps.flatten(1).cpu().numpy(), others.flatten(1).cpu().numpy(), strict=True):
        constant = np.ptp(one) == 0 or np.ptp(other) == 0
        found.append(np.nan if constant else float(spearmanr(one, other).statistic))
    return np.array(found)
