"""Two baselines of clips: what moves where, without a network, and a network that sees each frame by itself."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Split

ENERGY_SIDE = 16  # of the map of motion energy
MOST_TRAIN, MOST_TEST = 2000, 1000  # clips that are read
FRAME_SIDE, MOST_FRAMES = 32, 8  # of the network of frames: pixels of a side, frames of a clip evenly among its own
EPOCHS, BATCH, RATE = 2, 64, 2e-3
READ = 32  # clips at a time


def clip_baselines(train: Split, test: Split, classes: int, frames: int) -> dict[str, float]:
    """Accuracies on the test clips, by the baseline in words.

    Motion energy is the mean absolute difference between neighbouring frames, pooled to 16×16 and classified by
    logistic regression. The network of frames is a small convolutional one that is trained on single frames with the
    class of their clip; the mean of its log-probabilities over a clip's frames is the clip's answer.

    Args:
        train, test: clips (N, C, T, H, W) with the target "label"; of more than 2,000 and 1,000 a drawn part is read.
        classes: how many.
        frames: T of a sample; a test clip of several has them one after the other.
    """
    seen, answers = _looked_at(train, MOST_TRAIN, frames), _looked_at(test, MOST_TEST, frames)
    return {
        "logistic regression on motion energy": _of_energy(seen, answers),
        "a network that sees each frame by itself": _of_frames(seen, answers, classes),
    }


def motion_energy(clips: Tensor, side: int = ENERGY_SIDE) -> Tensor:
    """(N, C, T, H, W) → (N, side, side): the mean absolute change from frame to frame, over channels too."""
    change = (clips[:, :, 1:] - clips[:, :, :-1]).abs().mean((1, 2)) if clips.shape[2] > 1 else clips[:, 0, 0] * 0
    return F.adaptive_avg_pool2d(change, (side, side))


class _Looked:
    """Of some clips: energy (n, side²), frames (n, t, C, h, w), labels (n,)."""

    def __init__(self, energy: list[Tensor], frames: list[Tensor], labels: list[Tensor]) -> None:
        self.energy, self.frames, self.labels = torch.cat(energy).numpy(), torch.cat(frames), torch.cat(labels)


def _looked_at(split: Split, most: int, frames: int) -> _Looked:
    energy, kept, labels = [], [], []
    chosen = np.linspace(0, frames - 1, min(frames, MOST_FRAMES)).astype(int)
    for items in _parts(len(split), most):
        batch = split.batch(items, None)
        views = batch.inputs.unflatten(2, (-1, frames))
        energy.append(torch.stack([motion_energy(one).flatten(1) for one in views.unbind(2)]).mean(0))
        images = batch.inputs[:, :, chosen].transpose(1, 2)
        small = F.interpolate(images.flatten(0, 1), (FRAME_SIDE, FRAME_SIDE), mode="area").unflatten(
            0, images.shape[:2]
        )
        kept.append(small.half())
        labels.append(batch.targets["label"])
    return _Looked(energy, kept, labels)


def _parts(count: int, most: int) -> Iterator[Sequence[int]]:
    items = np.random.default_rng(0).permutation(count)[:most]
    items.sort()
    for first in range(0, len(items), READ):
        yield items[first : first + READ].tolist()


def _of_energy(train: _Looked, test: _Looked) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels: NDArray[np.int64] = train.labels.numpy()
    if len(np.unique(labels)) < 2:
        return float((test.labels.numpy() == labels[0]).mean())
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(train.energy, labels)
    return float(fitted.score(test.energy, test.labels.numpy()))


def _of_frames(train: _Looked, test: _Looked, classes: int) -> float:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _network(train.frames.shape[2], classes)
        images = train.frames.flatten(0, 1)
        labels = train.labels.repeat_interleave(train.frames.shape[1])
        optimizer = torch.optim.AdamW(network.parameters(), RATE)
        network.train()
        for _ in range(EPOCHS):
            for part in torch.randperm(len(images)).split(BATCH):
                if len(part) > 1:  # norms of one image have no statistics at the last maps
                    optimizer.zero_grad()
                    F.cross_entropy(network(images[part].float()), labels[part]).backward()
                    optimizer.step()
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(clip.float()).log_softmax(1).mean(0, keepdim=True) for clip in test.frames])
    return float((logits.argmax(1) == test.labels).double().mean())


def _network(channels: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (16, 32, 64):
        layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))
