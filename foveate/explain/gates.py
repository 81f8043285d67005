"""Numbers for a network's own gates over many images: entropy, sparsity, profiles of channels by class and depth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.attention import capture
from foveate.explain.localisation import mean_interval
from foveate.explain.watch import evaluating

WEIGHTS = ("channel", "spatial", "branch", "height", "width", "temporal")  # kinds that are weights of 0 and more


@dataclass(frozen=True)
class GateNumbers:
    """One kind of weights of one module over images: means with their 95 % intervals over images.

    Attributes:
        entropy: of the weights as shares of their sum, relative to its greatest: 1 where all are alike.
        sparsity: (√n − Σx / √Σx²) / (√n − 1), 0 where all are alike, 1 where one alone is not 0.
        mean: of the weights.
    """

    site: str
    kind: str
    entropy: tuple[float, float, float]
    sparsity: tuple[float, float, float]
    mean: tuple[float, float, float]


def gate_numbers(model: nn.Module, batches: Iterable[Any]) -> list[GateNumbers]:
    """Of every module with weights that are not negative, in the order of the network.

    Sources: sparsity: Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 5, 2004.

    Args:
        batches: of inputs, as the network takes them.
    """
    found: dict[tuple[str, str], list[Tensor]] = {}
    for key, weights in _weights(model, batches):
        found.setdefault(key, []).append(_of_each(weights))
    numbers = []
    for (site, kind), parts in found.items():
        values = torch.cat(parts).numpy()
        columns = [mean_interval(values[:, place]) for place in range(3)]
        numbers.append(GateNumbers(site, kind, columns[0], columns[1], columns[2]))
    return numbers


def _of_each(weights: Tensor) -> Tensor:
    """(N, …) → (N, 3): entropy, sparsity, mean."""
    flat = weights.flatten(1).double()
    count = flat.shape[1]
    shares = flat / flat.sum(1, keepdim=True).clamp_min(1e-12)
    entropy = -torch.special.xlogy(shares, shares).sum(1) / max(np.log(count), 1e-12)
    root = count**0.5
    ratio = flat.sum(1) / flat.square().sum(1).sqrt().clamp_min(1e-12)
    sparsity = (root - ratio) / max(root - 1, 1e-12)
    return torch.stack([entropy, sparsity, flat.mean(1)], 1)


def _weights(model: nn.Module, batches: Iterable[Any]) -> Iterable[tuple[tuple[str, str], Tensor]]:
    with evaluating(model), torch.inference_mode():
        for inputs in batches:
            with capture(model) as seen:
                model(inputs)
            for site, maps in seen.maps.items():
                for kind, value in maps.items():
                    if kind in WEIGHTS and isinstance(value, Tensor) and value[0].numel() > 1:
                        weights = value.float().cpu()
                        if bool((weights >= 0).all()):
                            yield (site, kind), weights


def gates_beside(networks: Mapping[str, nn.Module], batches: Sequence[Any]) -> list[dict[str, Any]]:
    """`gate_numbers` of several networks on the same images, such as the trained one, one with random weights
    (`foveate.explain.randomised`) and one trained on shuffled labels (kind of data "shuffled_labels").

    Returns: a row for each network, module and kind: network, site, kind, and entropy, sparsity and mean, each (mean,
        low, high). Of modules that all the networks have.
    """
    found = {
        name: {(one.site, one.kind): one for one in gate_numbers(model, batches)} for name, model in networks.items()
    }
    shared = [key for key in next(iter(found.values())) if all(key in numbers for numbers in found.values())]
    return [{"network": name, **vars(numbers[key])} for key in shared for name, numbers in found.items()]


@dataclass(frozen=True)
class ChannelProfile:
    """Channel gates of one module by class.

    Attributes:
        means: (classes, C); nan for a class without images.
        between: share of the gates' variance over images that is between classes, mean over channels: near 0 the gate
            does not know the class.
    """

    site: str
    means: NDArray[np.float64]
    between: float


def channel_profiles(model: nn.Module, batches: Iterable[tuple[Any, Tensor]], classes: int) -> list[ChannelProfile]:
    """Mean gate of each channel for images of each class, by depth, in the order of the network.

    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, on the role of excitation:
    early modules gate all classes alike, later ones do not.

    Args:
        batches: of (inputs, labels (N,)).
        classes: how many.

    Raises: ValueError: a label outside 0 to classes − 1.
    """
    gates: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []

    def inputs() -> Iterable[Any]:
        for one, label in batches:
            labels.append(label.cpu())
            yield one

    for (site, kind), weights in _weights(model, inputs()):
        if kind == "channel":
            gates.setdefault(site, []).append(weights.flatten(1))
    if not gates:
        return []
    numbers = torch.cat(labels).numpy()
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(f"labels: wanted 0 to {classes - 1}; got {numbers.min()} to {numbers.max()}")
    found = []
    for site, parts in gates.items():
        values = torch.cat(parts).double().numpy()
        means = np.full((classes, values.shape[1]), np.nan)
        for label in np.unique(numbers):
            means[label] = values[numbers == label].mean(0)
        whole = values.var(0)
        between = ((means[numbers] - values.mean(0)) ** 2).mean(0)
        known = whole > 1e-12
        found.append(ChannelProfile(site, means, float((between[known] / whole[known]).mean()) if known.any() else 0.0))
    return found
