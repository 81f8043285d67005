"""Does the network use what a map shows? The score while positions are taken away, or put back, in the map's order."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.explain.targets import explained
from foveate.explain.watch import evaluating

STEPS = 10
NEIGHBOURS = [
    (-1, 0, 1 / 6), (1, 0, 1 / 6), (0, -1, 1 / 6), (0, 1, 1 / 6),
    (-1, -1, 1 / 12), (-1, 1, 1 / 12), (1, -1, 1 / 12), (1, 1, 1 / 12),
]  # fmt: skip


def probabilities_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """(N,), the softmax score of each sample's target."""
    with evaluating(model), torch.no_grad():
        found = explained(model(inputs), targets).probabilities()
    assert found is not None
    return found.gather(1, targets[:, None])[:, 0]


def deletion(model: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, *, steps: int = STEPS) -> Tensor:
    """Scores (N, steps + 1) while the positions where the map is largest become blurred; low is faithful.

    Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018, arXiv:1806.07421; there deleted pixels become 0 and inserted ones
    stand on a blurred image, here both are on a blurred image.

    Args:
        inputs: (N, C, H, W). targets: (N,) class numbers. maps: (N, H, W).
    """
    return _exchanged(model, inputs, _blurred(inputs), targets, maps, steps)


def insertion(model: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, *, steps: int = STEPS) -> Tensor:
    """Scores (N, steps + 1) while a blurred image gets its positions back, the largest first; high is faithful.

    Source and arguments as of `deletion`.
    """
    return _exchanged(model, _blurred(inputs), inputs, targets, maps, steps)


def road(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    steps: int = STEPS,
    noise: float = 0.01,
    seed: int = 0,
) -> Tensor:
    """Scores (N, steps + 1) while the positions where the map is largest are replaced by what is around them; the last
    step leaves a tenth of the image. Low is faithful.

    Source: Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods" (ROAD), ICML 2022, arXiv:2202.00449: noisy linear imputation, so that a mask's shape tells less.

    Args:
        noise: deviation of what is added to the replaced values.
        seed: of it.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    found = [probabilities_of(model, inputs, targets)]
    drawn = torch.Generator().manual_seed(seed)
    for share in np.linspace(0, 0.9, steps + 1)[1:]:
        count = round(share * order.shape[1])
        changed = torch.stack(
            [imputed(x, places[:count], noise=noise, generator=drawn) for x, places in zip(inputs, order, strict=True)]
        )
        found.append(probabilities_of(model, changed, targets))
    return torch.stack(found, 1)


def imputed(image: Tensor, places: Tensor, *, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """An image (C, H, W) whose values at these flat positions are the weighted means of their eight neighbours.

    Those beside it count 1/6, those across a corner 1/12; the system of all replaced values is solved at once.
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    high, wide = image.shape[1:]
    chosen = places.cpu().numpy()
    equation = np.full(high * wide, -1)
    equation[chosen] = np.arange(len(chosen))
    pixels = image.detach().cpu().double().flatten(1).numpy().T  # (H·W, C)
    rows, columns, values = [], [], list[NDArray[np.float64]]()
    known = np.zeros((len(chosen), image.shape[0]))
    total = np.zeros(len(chosen))
    y, x = chosen // wide, chosen % wide
    for down, right, weight in NEIGHBOURS:
        there = (y + down >= 0) & (y + down < high) & (x + right >= 0) & (x + right < wide)
        own = np.flatnonzero(there)
        place = (y[own] + down) * wide + x[own] + right
        total[own] += weight
        unknown = equation[place] >= 0
        rows.append(own[unknown])
        columns.append(equation[place[unknown]])
        values.append(np.full(int(unknown.sum()), -weight))
        known[own[~unknown]] += weight * pixels[place[~unknown]]
    diagonal = np.arange(len(chosen))
    system = sparse.csc_matrix(
        (
            np.concatenate([*values, total]),
            (np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal])),
        ),
        shape=(len(chosen), len(chosen)),
    )
    solved = torch.from_numpy(np.asarray(spsolve(system, known)).reshape(len(chosen), -1).T.copy()).to(image)
    if noise:
        solved = solved + noise * torch.randn(solved.shape, generator=generator).to(image)
    changed = image.flatten(1).clone()
    changed[:, places] = solved
    return changed.unflatten(1, (high, wide))


def area(scores: Tensor) -> Tensor:
    """(N, steps + 1) → (N,), the area under each curve over shares from 0 to 1."""
    return torch.trapezoid(scores, dim=1) / (scores.shape[1] - 1)


def _exchanged(model: nn.Module, first: Tensor, last: Tensor, targets: Tensor, maps: Tensor, steps: int) -> Tensor:
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    found = []
    for share in np.linspace(0, 1, steps + 1):
        count = round(share * order.shape[1])
        taken = torch.zeros_like(maps.flatten(1), dtype=torch.bool).scatter(1, order[:, :count], True)
        mask = taken.unflatten(1, maps.shape[1:])[:, None]
        found.append(probabilities_of(model, torch.where(mask, last, first), targets))
    return torch.stack(found, 1)


def _blurred(inputs: Tensor) -> Tensor:
    """By a Gaussian whose deviation is a twentieth of the image's shorter side."""
    from torchvision.transforms.functional import gaussian_blur

    side = min(inputs.shape[2:])
    deviation = max(side / 20, 0.5)
    kernel = min(2 * int(3 * deviation) + 1, side - 1 + side % 2)
    found: Any = gaussian_blur(inputs, [kernel, kernel], [deviation, deviation])
    return found
