"""Do the spatial gates of a network look at the salt: their energy inside it against its share of the area."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.attention import capture, made_by
from foveate.data.dataset import Batch
from foveate.waves import SALT_M_S

LEAST = 3  # models with salt, for an interval
T_97_5 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # of few degrees of freedom


@dataclass(frozen=True)
class GateEnergy:
    """Of one place with a spatial gate, over models with salt.

    Attributes:
        site: name of the module, without what the gate adds to it.
        energy: (M,) share of Σ gate² that lies in the salt.
        area: (M,) share of the area that the salt takes, on the gate's grid.
    """

    site: str
    energy: NDArray[np.float64]
    area: NDArray[np.float64]

    @property
    def excess(self) -> tuple[float, float, float]:
        """Mean of energy − area over models, and its 95 % interval over new models (NaN with fewer than three)."""
        differences = self.energy - self.area
        mean, count = float(differences.mean()), len(differences)
        if count < LEAST:
            return mean, math.nan, math.nan
        half = T_97_5.get(count - 1, 1.96 + 2.6 / (count - 1)) * float(differences.std(ddof=1)) / math.sqrt(count)
        return mean, mean - half, mean + half

    @property
    def text(self) -> str:
        """ "decoder.0 +1.1 (+0.4 to +1.8)": energy − area in points, and its interval."""
        mean, low, high = (100 * one for one in self.excess)
        interval = "" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})"
        return f"{self.site} {mean:+.1f}{interval}"


def gates_sentence(places: Sequence[GateEnergy]) -> str:
    """All places of one network in a line."""
    area, models = 100 * places[0].area.mean(), len(places[0].area)
    text = f"energy of the gates in the salt less its share of the area, {area:.1f} %, in points, over {models} models "
    text += f"of this one network: {', '.join(place.text for place in places)}"
    times = [place for place in places if place.site.split(".")[0] in ("stem", "encoder")]
    return text + ("; rows of the stem and the encoder are times, not depths" if times else "")


def has_attention(model: nn.Module) -> bool:
    """Does the network have an attention mechanism, inserted or of its own?"""
    return any(made_by(module) is not None for module in model.modules())


def gate_energies(model: nn.Module, batches: Iterable[Batch]) -> list[GateEnergy]:
    """Of every module with a spatial gate (of coordinate attention the product of its two, the mean over channels).

    Args:
        model: in evaluation mode; it is run on each batch, without gradients.
        batches: with targets "velocity"; models without salt are left out.
    """
    energies: dict[str, list[Tensor]] = {}
    areas: dict[str, list[Tensor]] = {}
    for batch in batches:
        mask = (batch.targets["velocity"] >= SALT_M_S).float().cpu()
        there = mask.flatten(1).any(1)
        with torch.inference_mode(), capture(model) as seen:
            model(batch.inputs)
        for name, maps in seen.maps.items():
            gate = _spatial(maps)
            if gate is None or not there.any():
                continue
            salt = F.interpolate(mask, gate.shape[1:], mode="bilinear", antialias=True)[there, 0].double()
            energy = gate[there].double().square()
            energies.setdefault(name, []).append((energy * salt).sum((1, 2)) / energy.sum((1, 2)).clamp_min(1e-12))
            areas.setdefault(name, []).append(salt.mean((1, 2)))
    return [
        GateEnergy(name, torch.cat(parts).numpy(), torch.cat(areas[name]).numpy()) for name, parts in energies.items()
    ]


def _spatial(maps: dict[str, Any]) -> Tensor | None:
    """(N, H, W) of what a module recorded; None: it has no spatial gate."""
    gate = maps.get("spatial")
    if isinstance(gate, Tensor) and gate.dim() == 3:
        return gate.float().cpu()
    rows, columns = maps.get("height"), maps.get("width")
    if isinstance(rows, Tensor) and isinstance(columns, Tensor) and rows.dim() == columns.dim() == 3:
        return (torch.einsum("nch,ncw->nhw", rows.float(), columns.float()) / rows.shape[1]).cpu()
    return None
