"""Capsules: vectors whose length says that something is there, routed by agreement. arXiv:1710.09829."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.networks._registry import register_network

PRIMARY, CLASS = 8, 16  # lengths of the capsules
DECODER = (512, 1024)


def squash(s: Tensor) -> Tensor:
    """Vectors along the last axis, their length n made n²/(1 + n²): short ones to almost 0, long ones to almost 1.

    Equation 1, as s · n/(1 + n²), which has a gradient at 0 too.
    """
    square = s.square().sum(-1, keepdim=True)
    tiny = torch.finfo(s.dtype).tiny
    return s * (square.clamp_min(tiny).sqrt() / (1 + square))


def route(votes: Tensor, *, iterations: int = 3, orphans: bool = False) -> Tensor:
    """Routing by agreement (procedure 1): each capsule below is given to those above that agree with its vote.

    Args:
        votes: û, (N, capsules below, capsules above, length).
        iterations: of b → c = softmax(b) over those above → s = Σ c·û → v = squash(s) → b + û·v.
        orphans: the softmax has one more place, of a capsule above that nothing is computed for.

    Returns: (N, capsules above, length).
    Raises: ValueError: fewer than one iteration.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1; got {iterations!r}")
    logits = votes.new_zeros(votes.shape[:3])
    for iteration in range(iterations):
        with_orphans = F.pad(logits, (0, 1)) if orphans else logits
        shares = with_orphans.softmax(2)[:, :, : votes.shape[2]]
        above = squash(torch.einsum("nij,nijd->njd", shares, votes))
        if iteration + 1 < iterations:
            logits = logits + torch.einsum("nijd,njd->nij", votes, above)
    return above


def margin_loss(
    lengths: Tensor, labels: Tensor, *, present: float = 0.9, absent: float = 0.1, absent_weight: float = 0.5
) -> Tensor:
    """Equation 4: Σ_k T_k·max(0, m⁺ − ‖v_k‖)² + λ·(1 − T_k)·max(0, ‖v_k‖ − m⁻)², the mean over the batch.

    Args:
        lengths: (N, K), what `CapsNet` gives.
        labels: (N,) class numbers, or (N, K) of 0 and 1 where several classes may be there.
        present, absent: m⁺ and m⁻. absent_weight: λ.

    Raises: ValueError: labels of another shape.
    """
    if labels.shape not in (lengths.shape[:1], lengths.shape):
        shapes = f"{tuple(lengths.shape[:1])} or {tuple(lengths.shape)}"
        raise ValueError(f"margin_loss: wanted labels {shapes}; got {tuple(labels.shape)}")
    there = F.one_hot(labels, lengths.shape[1]) if labels.dim() == 1 else labels
    there = there.to(lengths.dtype)
    loss = there * F.relu(present - lengths).square()
    loss = loss + absent_weight * (1 - there) * F.relu(lengths - absent).square()
    return loss.sum(1).mean()


class CapsNet(nn.Module):
    """A 9×9 convolution, a second one whose channels are capsules of 8, and a capsule of 16 for each class.

    What comes out are the lengths of the class capsules, one probability a class, that do not add up to one; the
    largest is the answer. `loss` is what trains them, and what a study trains by. `capsules` gives the vectors.

    Args:
        num_classes: capsules of the last layer.
        in_channels: of the image.
        image_size: side of the image, which fixes the number of capsules; the paper's are 28 (MNIST) and 24 (CIFAR-10).
        width: of the first convolution.
        types: kinds of capsules below; each is at every position. The paper has 32, and 64 for CIFAR-10.
        iterations: of the routing.
        orphans: capsules below may belong to no class ("none of the above"), as for CIFAR-10.

    Shape: (N, in_channels, image_size, image_size) → (N, num_classes), each from 0 to 1.
    Cost: 6,804,224 parameters for 28×28 grey images of 10 classes; 8,215,568 with the `Decoder`.
    Source: Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules", NeurIPS 2017, arXiv:1710.09829.
    Init: torch's default for convolutions; N(0, 0.1) for the matrices between capsules (the paper is silent).
    Raises: ValueError: an image below 17×17 or of another size than `image_size`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 256,
        types: int = 32,
        iterations: int = 3,
        orphans: bool = False,
    ) -> None:
        super().__init__()
        if image_size < 17:
            raise ValueError(f"capsnet: image_size must be at least 17, for two 9×9 convolutions; got {image_size!r}")
        if iterations < 1:
            raise ValueError(f"capsnet: iterations must be at least 1; got {iterations!r}")
        self.in_channels, self.image_size = in_channels, image_size
        self.iterations, self.orphans = iterations, orphans
        self.conv1 = nn.Conv2d(in_channels, width, 9)
        self.primary = nn.Conv2d(width, types * PRIMARY, 9, 2)
        below = types * ((image_size - 15) // 2) ** 2
        self.weight = nn.Parameter(torch.empty(below, num_classes, CLASS, PRIMARY))
        nn.init.normal_(self.weight, 0, 0.1)

    def capsules(self, x: Tensor) -> Tensor:
        """The class capsules, (N, num_classes, 16)."""
        wanted = (self.in_channels, self.image_size, self.image_size)
        if x.dim() != 4 or x.shape[1:] != wanted:
            raise ValueError(
                f"capsnet: wanted images (N, {', '.join(map(str, wanted))}); got {tuple(x.shape)} (in_channels= and"
                " image_size= set what it takes)"
            )
        x = self.primary(torch.relu(self.conv1(x)))
        below = squash(x.unflatten(1, (-1, PRIMARY)).flatten(3).transpose(2, 3).flatten(1, 2))
        votes = torch.einsum("ijdk,nik->nijd", self.weight, below)
        return route(votes, iterations=self.iterations, orphans=self.orphans)

    def forward(self, x: Tensor) -> Tensor:
        square = self.capsules(x).square().sum(2)
        return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`margin_loss` with the paper's m⁺ = 0.9, m⁻ = 0.1, λ = 0.5: outputs (N, K), targets (N,) or (N, K)."""
        return margin_loss(outputs, targets)


class Decoder(nn.Module):
    """The image again, from the capsule of one class: three linear layers; the paper adds 0.0005 · Σ(difference²).

    Shape: capsules (N, K, 16), labels (N,) → (N, channels, side, side) from 0 to 1.
    """

    def __init__(self, num_classes: int = 10, *, channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        self.shape = (channels, image_size, image_size)
        first, second = DECODER
        self.layers = nn.Sequential(
            nn.Linear(num_classes * CLASS, first),
            nn.ReLU(inplace=True),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Linear(second, channels * image_size**2),
        )

    def forward(self, capsules: Tensor, labels: Tensor) -> Tensor:
        shown = capsules * F.one_hot(labels, capsules.shape[1]).to(capsules.dtype).unsqueeze(2)
        return torch.sigmoid(self.layers(shown.flatten(1))).unflatten(1, self.shape)


register_network("capsnet", shape=(1, 28, 28))(CapsNet)
register_network("capsnet_cifar", shape=(3, 32, 32))(
    partial(CapsNet, in_channels=3, image_size=32, types=64, orphans=True)
)
