"""Classification of clips: cross-entropy; accuracy over whole videos, whose samples are averaged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.tasks.classification import Classification, ClassificationMeter
from foveate.tasks.clip_baselines import clip_baselines
from foveate.tasks.pictures import captioned, shown
from foveate.tasks.task import main_output, register_task

STRIP = 8  # frames of a picture


@register_task("video")
class Video(Classification):
    """Which class a clip belongs to.

    A test clip of several samples, as data of kind "clips" give with `views`, has them one after the other along T:
    the network sees each, and the mean of their probabilities is the clip's answer.

    Args:
        data: with clips (C, T, H, W) and targets "label" (class).
        label_smoothing, auxiliary_weight, loss_weights: as `Classification` takes them.

    Shape: inputs (N, C, views · T, H, W); logits (N, classes); labels (N,).
    Raises: ValueError: if the samples are no clips; as `Classification`.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        label_smoothing: float = 0.0,
        auxiliary_weight: float = 0.4,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            data, label_smoothing=label_smoothing, auxiliary_weight=auxiliary_weight, loss_weights=loss_weights
        )
        self.frames = clips_of(data, "video")

    def check(self, model: nn.Module, batch: Batch) -> None:
        try:
            super().check(model, batch)
        except RuntimeError as error:
            if "input" not in str(error):
                raise
            raise ValueError(
                f"wanted a network of clips (N, C, T, H, W), such as tsn, nl_i3d_resnet50 or torchvision:r3d_18; this "
                f"one does not take {tuple(batch.inputs.shape)}"
            ) from None

    def meter(self) -> ClassificationMeter:
        return VideoMeter(self.classes, self.answers)

    def further_baselines(self) -> dict[str, dict[str, float]]:
        found = clip_baselines(self.data.train, self.data.test, self.outputs, self.frames)
        return {words: {self.metrics[0].name: accuracy} for words, accuracy in found.items()}

    def answers(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits (N, classes) of whole clips: of several samples the logarithm of their mean probability.

        Raises: ValueError: if the clips are no whole number of samples long.
        """
        samples, views = samples_of(inputs, self.frames)
        logits = main_output(model(samples)).float()
        if views == 1:
            return logits
        return torch.log_softmax(logits.unflatten(0, (-1, views)), -1).logsumexp(1) - np.log(views)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        """The first frames of each clip side by side."""
        lines = [self.classes[label] for label in batch.targets["label"].tolist()]
        if given is not None:
            best = [self.classes[number] for number in main_output(given).argmax(1).tolist()]
            pairs = zip(lines, best, strict=True)
            lines = [f"{line}: right" if line == found else f"{line}, taken for {found}" for line, found in pairs]
        return drawn_clips(batch, lines)


def clips_of(data: Dataset, task: str) -> int:
    """T, frames of a sample. Raises: ValueError: if the samples are no clips."""
    if len(data.inputs) != 4:
        raise ValueError(f"{data.name}: wanted clips (C, T, H, W) for the task {task!r}; got {data.inputs}")
    return data.inputs[1]


def samples_of(inputs: Tensor, frames: int) -> tuple[Tensor, int]:
    """(N, C, views · T, H, W) → (N · views, C, T, H, W), clip after clip, and the number of views.

    Raises: ValueError: if the clips are no whole number of samples long.
    """
    views, rest = divmod(inputs.shape[2], frames)
    if rest or not views:
        raise ValueError(f"wanted clips of {frames} frames, or several times as many; got {inputs.shape[2]}")
    return (inputs if views == 1 else inputs.unflatten(2, (views, frames)).transpose(1, 2).flatten(0, 1)), views


def drawn_clips(batch: Batch, lines: Sequence[str]) -> list[NDArray[np.uint8]]:
    """The first frames of each clip side by side above its line."""
    strips = (np.concatenate(shown(clip[:, :STRIP].transpose(0, 1)), 1) for clip in batch.inputs)
    return [captioned(strip, line) for strip, line in zip(strips, lines, strict=True)]


class VideoMeter(ClassificationMeter):
    """As for images, over whole clips.

    Args:
        names: of the classes.
        answers: model and inputs → logits (N, classes).
    """

    def __init__(self, names: Sequence[str], answers: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__(names)
        self.answers = answers

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.answers(model, batch.inputs)
