"""Classification of clips: cross-entropy; accuracy over whole videos, whose samples are averaged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset
from foveate.tasks.classification import Classification, ClassificationMeter
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
        if len(data.inputs) != 4:
            raise ValueError(f"{data.name}: wanted clips (C, T, H, W) for the task 'video'; got {data.inputs}")
        self.frames = data.inputs[1]

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

    def answers(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits (N, classes) of whole clips: of several samples the logarithm of their mean probability.

        Raises: ValueError: if the clips are no whole number of samples long.
        """
        views, rest = divmod(inputs.shape[2], self.frames)
        if rest or not views:
            raise ValueError(f"wanted clips of {self.frames} frames, or several times as many; got {inputs.shape[2]}")
        if views == 1:
            return main_output(model(inputs)).float()
        samples = inputs.unflatten(2, (views, self.frames)).transpose(1, 2).flatten(0, 1)
        logits = main_output(model(samples)).float().unflatten(0, (-1, views))
        return torch.log_softmax(logits, -1).logsumexp(1) - np.log(views)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        """The first frames of each clip side by side."""
        best = None if given is None else main_output(given).argmax(1).tolist()
        pictures = []
        for place, (clip, label) in enumerate(zip(batch.inputs, batch.targets["label"].tolist(), strict=True)):
            line = self.classes[label]
            if best is not None:
                line += ": right" if best[place] == label else f", taken for {self.classes[best[place]]}"
            pictures.append(captioned(np.concatenate(shown(clip[:, :STRIP].transpose(0, 1)), 1), line))
        return pictures


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
