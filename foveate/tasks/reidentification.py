"""Re-identification of clips by an embedding: is the nearest other clip of the same identity? mAP and CMC."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.spec import Metric
from foveate.tasks.task import LOSS_WEIGHTS, Meter, Scores, Task, extra_losses, main_output, register_task, summed
from foveate.tasks.video import clips_of, drawn_clips, samples_of

LOSSES = ("triplet", "cross_entropy")
RANKS = (1, 5)


@register_task("reidentification")
class Reidentification(Task):
    """Which clips show the same identity, such as a person.

    The embedding has unit length. Every test clip is a query among all others of its part: mAP is the mean over queries
    of the average precision, rank-1 and rank-5 are the shares of queries with a clip of their identity among the first
    one and five (the cumulative matching characteristic). The identities of the test part need not be those of the
    training part.

    Args:
        data: with clips (C, T, H, W) and a target (class) that says which identity a clip shows.
        identity: that target; None: "identity", which kind "clips" has where clips have groups.
        loss: "triplet": the network's outputs are the embedding, and the farthest clip of the same identity in a batch
            has to be nearer than the nearest of another one by `margin`; "cross_entropy": the outputs are logits of the
            identities, and the embedding is what the linear layer takes that gives them.
        dimensions: of the embedding of "triplet".
        margin: of "triplet", in distances of unit vectors.

    Shape: inputs (N, C, views · T, H, W); outputs (N, dimensions) or (N, identities); identities (N,).
    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv:1703.07737
        (batch hard); Zheng et al., "Scalable Person Re-identification", ICCV 2015 (mAP, CMC). Departures: a batch is
        drawn as for any task, and clips without another of their identity in it have no triplet; clips of one camera
        are not left out.
    Raises: ValueError: samples that are no clips, no such target, an unknown loss, an option of the other loss.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        identity: str | None = None,
        loss: str = "triplet",
        dimensions: int | None = None,
        margin: float | None = None,
    ) -> None:
        super().__init__(data)
        self.frames = clips_of(data, "reidentification")
        self.identity = identity or "identity"
        self.names = self.target(self.identity, ("class",)).names
        if loss not in LOSSES:
            raise ValueError(f"loss: wanted {' or '.join(map(repr, LOSSES))}; got {loss!r}")
        given = {"dimensions": dimensions, "margin": margin}
        if loss != "triplet" and (odd := [name for name, value in given.items() if value is not None]):
            raise ValueError(f"{odd[0]} goes with loss = 'triplet'; got loss = {loss!r}")
        self.triplet, self.margin = loss == "triplet", 0.3 if margin is None else margin
        self.outputs = (64 if dimensions is None else dimensions) if self.triplet else len(self.names)
        if not isinstance(self.outputs, int) or self.outputs < 2 or not self.margin > 0:
            raise ValueError(f"wanted 2 or more dimensions and a margin above 0; got {self.outputs} and {self.margin}")
        self.metrics = (Metric("mAP"), *(Metric(f"rank-{rank}") for rank in RANKS))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        identities = batch.targets[self.identity]
        given = main_output(model(batch.inputs)).float()
        main = batch_hard(given, identities, self.margin) if self.triplet else F.cross_entropy(given, identities)
        return summed(main, (), extra_losses(model), LOSS_WEIGHTS)

    def check(self, model: nn.Module, batch: Batch) -> None:
        given = main_output(model(batch.inputs))
        if given.shape != (len(batch), self.outputs):
            raise ValueError(f"wanted outputs (N, {self.outputs}); got {tuple(given.shape)}")
        self.embed(model, batch.inputs)
        self.loss(model, batch)

    def embed(self, model: nn.Module, inputs: Tensor) -> Float[Tensor, "n d"]:
        """Of unit length; of several samples of a clip the mean, before the length is set.

        Raises: ValueError: with loss = "cross_entropy", a network whose logits come from no linear layer.
        """
        samples, views = samples_of(inputs, self.frames)
        seen: list[Tensor] = []
        if self.triplet:
            seen.append(main_output(model(samples)))
        else:
            linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == self.outputs]
            if not linear:
                raise ValueError(f"wanted a network with a linear layer to {self.outputs} identities; it has none")
            with linear[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0])):
                model(samples)
        found = (
            seen[-1].float().flatten(1).unflatten(0, (len(samples), -1)).mean(1)
        )  # over frames that are classified each
        return F.normalize(F.normalize(found, dim=1).unflatten(0, (-1, views)).mean(1), dim=1)

    def meter(self) -> Meter:
        return RetrievalMeter(self)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        """The first frames of each clip side by side."""
        return drawn_clips(batch, [self.names[label] for label in batch.targets[self.identity].tolist()])

    def predict(self, given: Any) -> list[dict[str, Any]]:
        """The numbers of each embedding, or each clip's identity among those of training."""
        values = main_output(given).float()
        if self.triplet:
            return [{str(n): number for n, number in enumerate(one)} for one in F.normalize(values, dim=1).tolist()]
        best = values.softmax(1).max(1)
        return [
            {"class": self.names[number], "score": score}
            for number, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def batch_hard(outputs: Float[Tensor, "n d"], identities: Tensor, margin: float) -> Tensor:
    """The mean over clips of max(0, margin + d(farthest of the same identity) - d(nearest of another)), in distances of
    unit vectors; over those that have both in the batch, 0 where none has."""
    embeddings = F.normalize(outputs, dim=1)
    squares = (2 - 2 * embeddings @ embeddings.mT).clamp_min(1e-12)  # the root has no slope at 0
    same = identities[:, None] == identities
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    farthest = torch.where(others, squares, 0.0).amax(1).clamp_min(1e-12).sqrt()
    nearest = torch.where(same, torch.inf, squares).amin(1).sqrt()
    both = others.any(1) & ~same.all(1)
    terms = torch.where(both, torch.relu(margin + farthest - torch.where(both, nearest, 0.0)), 0.0)
    return terms.sum() / both.sum().clamp_min(1)


def retrieval_scores(embeddings: Float[Tensor, "n d"], identities: Tensor) -> dict[str, NDArray[np.float32]]:
    """Of each clip as a query among the others: average precision ("mAP"), and whether one of the first clips is of its
    identity ("rank-1", "rank-5").

    Raises: ValueError: an identity that one clip has alone: nothing matches it.
    """
    order = (embeddings @ embeddings.mT).fill_diagonal_(-torch.inf).argsort(dim=1, descending=True, stable=True)[:, :-1]
    right = identities[order] == identities[:, None]
    if not right.any(1).all():
        alone = identities[~right.any(1)][0]
        raise ValueError(f"identity {int(alone)} has one clip among those that are measured; wanted two or more")
    found = right.cumsum(1) / torch.arange(1, right.shape[1] + 1)
    precision = (found * right).sum(1) / right.sum(1)
    scores = {"mAP": precision} | {f"rank-{rank}": right[:, :rank].any(1) for rank in RANKS}
    return {name: value.numpy().astype(np.float32) for name, value in scores.items()}


class RetrievalMeter(Meter):
    """mAP, rank-1 and rank-5 of each query.

    Args:
        task: gives embeddings, and says which target is the identity.
    """

    def __init__(self, task: Reidentification) -> None:
        self.task = task
        self.embeddings: list[Tensor] = []
        self.identities: list[Tensor] = []

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.embeddings.append(self.task.embed(model, batch.inputs).cpu())
        self.identities.append(batch.targets[self.task.identity].cpu())

    def scores(self) -> Scores:
        items = retrieval_scores(torch.cat(self.embeddings), torch.cat(self.identities))
        return Scores({name: float(value.mean(dtype=np.float64)) for name, value in items.items()}, items)
