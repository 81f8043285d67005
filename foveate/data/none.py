"""No data: for a study whose trainer reads its own. Only the shape of a sample and the size of the head are known."""

from collections.abc import Sequence

import torch

from foveate.data.dataset import Batch, Dataset, Progress, Split, Target, register_data
from foveate.spec import DataSpec


class _Nothing(Split):
    """No items; a batch of zeros of any length, on which networks are planned and measured."""

    def __init__(self, inputs: tuple[int, ...]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return 0

    def batch(self, items: Sequence[int], augment: tuple[int, int] | None) -> Batch:
        count = len(items)
        labels = torch.zeros(count, dtype=torch.int64)
        return Batch(torch.zeros(count, *self.inputs), {"label": labels}, torch.arange(count))


@register_data("none")
def open_none(spec: DataSpec, *, progress: Progress | None = None, channels: int = 3, outputs: int = 10) -> Dataset:
    """A set without items: [data] kind = "none", size = [224, 224], options = { channels = 3, outputs = 10 }.

    Raises: ValueError: if the size is missing or a number is below 1.
    """
    if spec.size is None:
        raise ValueError('data.size: kind "none" wanted the size of a sample, such as size = [224, 224]; got none')
    if channels < 1 or outputs < 1:
        raise ValueError(f"data.options: wanted channels and outputs of 1 or more; got {channels} and {outputs}")
    split = _Nothing((channels, *spec.size))
    return Dataset(
        name="own data",
        inputs=split.inputs,
        targets={"label": Target("class", tuple(str(number) for number in range(outputs)))},
        train=split,
        test=split,
        fingerprint="",
        description=f"data that the trainer reads: samples of {split.inputs}, {outputs} outputs",
    )
