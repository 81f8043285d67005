"""The loop over the images."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from foveate.data.photos import decode
from foveate.evaluation.images import Images, Item
from foveate.evaluation.preprocessing import Preprocessing

THREADS = 2  # that decode the next batch while the network is at work
BEST = 5


@dataclass(frozen=True)
class Score:
    """Of `images` images how many had their class first (`right`) and among the first five (`right5`).

    right5 is None where the network has five classes or fewer. seconds: of decoding and network together.
    """

    images: int
    right: int
    right5: int | None
    seconds: float

    @property
    def top1(self) -> float:
        """In per cent."""
        return 100 * self.right / self.images

    @property
    def top5(self) -> float | None:
        """In per cent."""
        return None if self.right5 is None else 100 * self.right5 / self.images


def score(
    model: nn.Module,
    images: Images,
    preprocessing: Preprocessing,
    *,
    channels: int = 3,
    batch_size: int = 64,
    most: int | None = None,
    device: str = "cpu",
    amp: bool = False,
    channels_last: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Score:
    """Run the network over the images; it is left in evaluation mode on the device.

    Args:
        model: (N, channels, side, side) → (N, classes).
        images: of `find_images`.
        preprocessing: of every image.
        channels: 3, or 1 for grey.
        batch_size: images at a time.
        most: so many images, spread evenly over the set; None: all.
        device: torch's name of it.
        amp: bfloat16 autocast.
        channels_last: memory format.
        progress: called with (images done, images in all).

    Raises: ValueError: an image that cannot be read, by its path; outputs that are not numbers, or of another shape.
    """
    count = images.count if most is None else min(most, images.count)
    wanted = np.unique(np.linspace(0, images.count - 1, count).astype(np.int64)).tolist()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout).eval()  # type: ignore[call-overload]
    mean = torch.tensor(preprocessing.mean).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std).view(1, -1, 1, 1)
    right, right5, done, five = 0, 0, 0, False
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool, torch.inference_mode():
        for x, labels, names in _batches(pool, _chosen(images.items(), wanted), batch_size, preprocessing, channels):
            given = ((x.float() / 255 - mean) / std).to(device, memory_format=layout)
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=amp):
                logits = model(given)
            logits = _checked(logits, names).float().cpu()
            five = logits.shape[1] > BEST
            best = logits.topk(min(BEST, logits.shape[1])).indices == labels[:, None]
            right += int(best[:, 0].sum())
            right5 += int(best.sum())
            done += len(labels)
            if progress is not None:
                progress(done, len(wanted))
    return Score(done, right, right5 if five else None, time.perf_counter() - began)


def _checked(logits: Tensor, names: list[str]) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(names):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"wanted logits ({len(names)}, classes) from the network, got {got}")
    finite = logits.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"{names[int(finite.int().argmin())]}: the network's outputs are not finite numbers")
    return logits


def _chosen(items: Iterator[Item], wanted: list[int]) -> Iterator[Item]:
    """Those at the places of an increasing list."""
    at = 0
    for place in wanted:
        yield next(islice(items, place - at, None))
        at = place + 1


def _batches(
    pool: ThreadPoolExecutor, items: Iterator[Item], batch_size: int, preprocessing: Preprocessing, channels: int
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Batches, the next of which is decoded while one is used."""

    def start() -> list[tuple[Future, Item]]:
        taken = list(islice(items, batch_size))
        return [(pool.submit(_pixels, item, preprocessing, channels), item) for item in taken]

    following = start()
    while following:
        current, following = following, start()
        pixels = torch.from_numpy(np.stack([future.result() for future, _ in current]))
        labels = torch.tensor([label for _, (_, label, _) in current])
        yield pixels.permute(0, 3, 1, 2).contiguous(), labels, [name for _, (_, _, name) in current]


def _pixels(item: Item, preprocessing: Preprocessing, channels: int) -> np.ndarray:
    content, _, name = item
    try:
        if isinstance(content, Path):
            content = content.read_bytes()
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else decode(content)
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image, whatever its name says") from None
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a decoder meets damage in many ways
        raise ValueError(f"{name}: corrupt or cut short: {error}") from None
    shown = preprocessing.pixels(image.convert("L") if channels == 1 else image)
    if channels == 1:
        return shown[:, :, None]
    return shown[:, :, ::-1] if preprocessing.bgr else shown
