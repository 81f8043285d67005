"""Inversion: a velocity model from the shot gathers of a survey. Errors in m/s, overlap of salt."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset, Split
from foveate.tasks.gate_energy import gate_energies, gates_sentence, has_attention
from foveate.tasks.losses import read_loss
from foveate.tasks.nearest_models import NEIGHBOURS, mean_model, nearest_models
from foveate.tasks.pictures import Picture
from foveate.tasks.task import LOSS_WEIGHTS, Meter, Scores, Task, extra_losses, main_output, register_task, summed
from foveate.tasks.velocity_losses import LOSSES, velocity_losses
from foveate.tasks.velocity_pictures import (
    compared,
    cut_of_gathers,
    grey_gathers,
    grey_models,
    legend,
    with_physics,
)
from foveate.tasks.velocity_scores import MAE, velocity_metrics, velocity_scores
from foveate.waves import SALT_M_S, normalised, velocities


@register_task("inversion")
class Inversion(Task):
    """Which velocity model gave these gathers. The network gives (v − 3000) / 1500; errors are in m/s.

    Args:
        data: with targets "velocity".
        loss: "l1", "l2", "ssim" (1 − SSIM), "edge" or "salt" (L1 with twice the weight at edges or in salt), of scaled
            velocities, or a sum with weights: {"l1": 1, "ssim": 0.1}.
        salt: measure salt (velocities of at least 4200 m/s); None: where the data say the kinds of it.
        loss_weights: of losses that inserted modules have, by name.

    Shape: inputs (N, shots, samples, receivers); outputs (N, 1, H, W); targets (N, 1, H, W), m/s.
    """

    outputs = 1

    def __init__(
        self,
        data: Dataset,
        *,
        loss: str | Mapping[str, float] = "l1",
        salt: bool | None = None,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(data)
        self.target("velocity", ("map",))
        self.weights = read_loss(loss, LOSSES)
        self.loss_weights = LOSS_WEIGHTS | dict(loss_weights or {})
        known = data.targets.get("kind")
        self.kinds = () if known is None else known.names
        self.salt = bool(self.kinds) if salt is None else salt
        there = self._kinds_of(data.test)
        self.metrics = velocity_metrics([name for name in self.kinds if name in there], salt=self.salt)

    def _kinds_of(self, split: Split) -> set[str]:
        return set() if split.strata is None or not self.kinds else {self.kinds[n] for n in np.unique(split.strata)}

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Of scaled velocities."""
        wanted = normalised(batch.targets["velocity"])
        parts = velocity_losses(main_output(model(batch.inputs)).float(), wanted, self.weights)
        first, *others = (self.weights[name] * part for name, part in parts.items())
        found = summed(sum(others, first), (), extra_losses(model), self.loss_weights)
        return found | (parts if len(parts) > 1 else {})

    def check(self, model: nn.Module, batch: Batch) -> None:
        found, wanted = main_output(model(batch.inputs)), batch.targets["velocity"]
        if found.shape != wanted.shape:
            size = list(wanted.shape[2:])
            raise ValueError(
                f"inversion: wanted models {tuple(wanted.shape)}; got {tuple(found.shape)}; networks of ours take "
                f"out = {size}"
            )
        self.loss(model, batch)

    def meter(self) -> "InversionMeter":
        return InversionMeter(self)

    def scores(self, found: Tensor, wanted: Tensor, kinds: NDArray[np.int64] | None) -> Scores:
        """Of models (N, H, W), m/s."""
        return velocity_scores(found, wanted, self.metrics, kinds, self.kinds)

    def baseline(self) -> tuple[str, dict[str, float]]:
        mean = mean_model(self.data.train)
        wanted, kinds = self._truth()
        return "the mean of the training models", dict(self.scores(mean.expand_as(wanted), wanted, kinds).values)

    def further_baselines(self) -> dict[str, dict[str, float]]:
        wanted, kinds = self._truth()
        words = f"the mean of the {NEIGHBOURS} training models with the nearest gathers"
        return {words: dict(self.scores(nearest_models(self.data), wanted, kinds).values)}

    def _truth(self) -> tuple[Tensor, NDArray[np.int64] | None]:
        batches = [self.data.test.batch([item], None) for item in range(len(self.data.test))]
        wanted = torch.cat([batch.targets["velocity"][:, 0] for batch in batches])
        kinds = torch.cat([batch.targets["kind"] for batch in batches]).numpy() if self.kinds else None
        return wanted, kinds

    def draw(self, batch: Batch, given: Any) -> list[Picture]:
        wanted = batch.targets["velocity"][:, 0].cpu().numpy()
        answers = None if given is None else self.models(given)
        gathers = batch.inputs.cpu().numpy()
        return [
            compared(true, None if answers is None else answers[number], cut_of_gathers(gathers[number]))
            for number, true in enumerate(wanted)
        ]

    def background(self, batch: Batch, site: str) -> list[Picture]:
        """Models in grey under maps of the decoder, skips and bottleneck, whose rows are depths; else the gathers."""
        if site.split(".")[0] in ("stem", "encoder"):
            return grey_gathers(batch.inputs.cpu().numpy())
        return grey_models(batch.targets["velocity"][:, 0].cpu().numpy())

    def legend(self, wide: int) -> Picture:
        return legend(wide)

    def mistakes(
        self, model: nn.Module, scores: Scores, read: Callable[[list[int]], Iterator[Batch]]
    ) -> Picture | None:
        """The models with the smallest, the median and the largest error, with the gathers that each explains."""
        order = np.argsort(scores.items[MAE], kind="stable")
        chosen = list(dict.fromkeys(int(order[place]) for place in (0, len(order) // 2, len(order) - 1)))
        rows = []
        for batch in read(chosen):
            found = self.models(main_output(model(batch.inputs)))
            wanted = batch.targets["velocity"][:, 0].cpu().numpy()
            survey = getattr(self.data.test, "survey", None)
            rows += [with_physics(true, one, survey) for true, one in zip(wanted, found, strict=True)]
        high, wide = (max(row.shape[axis] for row in rows) for axis in (0, 1))
        padded = [
            np.pad(row, ((0, high - row.shape[0]), (0, wide - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows
        ]
        return np.concatenate(padded, 0)

    def remarks(self, model: nn.Module, batches: Iterator[Batch]) -> list[str]:
        """Whether spatial gates look at the salt."""
        places = gate_energies(model, batches) if self.salt and has_attention(model) else []
        return [gates_sentence(places)] if places else []

    def models(self, given: Any) -> NDArray[np.float32]:
        """What the network gives as models (N, H, W), m/s."""
        return velocities(main_output(given).float()).cpu().numpy()[:, 0]

    def predict(self, given: Any) -> list[dict[str, Any]]:
        return [
            {
                "slowest m/s": float(one.min()),
                "mean m/s": float(one.mean()),
                "fastest m/s": float(one.max()),
                "share of salt": float((one >= SALT_M_S).mean()),
            }
            for one in self.models(given)
        ]


class InversionMeter(Meter):
    """Keeps the models that a network gives and those that it should give, and scores them at the end."""

    def __init__(self, task: Inversion) -> None:
        self.task = task
        self.found: list[Tensor] = []
        self.wanted: list[Tensor] = []
        self.kinds: list[Tensor] = []

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.found.append(velocities(main_output(model(batch.inputs)).float())[:, 0].cpu())
        self.wanted.append(batch.targets["velocity"][:, 0].cpu())
        if "kind" in batch.targets:
            self.kinds.append(batch.targets["kind"].cpu())

    def scores(self) -> Scores:
        kinds = torch.cat(self.kinds).numpy() if self.kinds else None
        return self.task.scores(torch.cat(self.found), torch.cat(self.wanted), kinds)
