"""How a map of classes is predicted: the whole image or windows of it, mirrored as well, at several scales."""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.counting import out_of_memory
from foveate.counting.peak import peak_bytes
from foveate.registry import nearest
from foveate.tasks.task import main_output
from foveate.tasks.windows import bands

MIB = 2**20
LEAST_TILE, TILE_STEP = 64, 32  # pixels: the smallest tile that a memory budget leads to, and steps of its side
WHOLE_SHARE, TILED_SHARE = 0.95, 0.6  # of the memory, for tensors: an allocator keeps freed blocks of tiles
MULTIPLES = (32, 64, 128)  # sides that a network may ask for
_TILES: WeakKeyDictionary[nn.Module, dict[Any, tuple[int, int] | None]] = WeakKeyDictionary()
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (N, K, *s) interpolated to positions *S, where they differ."""
    if logits.shape[2:] == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode=_LINEAR[len(size)], align_corners=False)


@dataclass(frozen=True)
class Prediction:
    """How an image becomes a map of classes; without arguments: the network is run once on the whole image.

    Attributes:
        window: (height, width) of windows that the network is run on in turn; None: the whole image.
        stride: from one window to the next; None: three quarters of the window.
        memory: MiB that a prediction may take beside weights and image; where it takes more, the largest square tiles
            that fit are the windows. What operators make is counted, and a share is left to the allocator.
        flip: the mean with the prediction of the mirror image, mirrored back.
        scales: the mean over the image (each window) at these sizes.

    Means are of probabilities. Scores of windows are blended where they overlap, as `windows.blending` says.

    Raises: ValueError: if a value is out of its range, or values do not go together.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    memory: float | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise ValueError("stride goes with window; got none")
        if self.memory is not None and self.window is not None:
            raise ValueError("memory chooses the window; wanted one of them; got both")
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory: wanted MiB above 0; got {self.memory}")
        if not self.scales or not all(math.isfinite(one) and 0 < one <= 16 for one in self.scales):
            raise ValueError(f"scales: wanted numbers above 0, at most 16; got {list(self.scales)}")
        for name, pair in (("window", self.window), ("stride", self.stride)):
            if pair is not None and min(pair) < 1:
                raise ValueError(f"{name}: wanted pixels, 1 or more; got {list(pair)}")
        if any(step > side for step, side in zip(self.stride or (), self.window or (), strict=False)):
            raise ValueError(
                f"stride: wanted at most the window's {list(self.window or ())}; got {list(self.stride or ())}"
            )

    @property
    def plain(self) -> bool:
        """One run on the whole image?"""
        return self == Prediction()

    def scores(self, model: nn.Module, x: Any, size: Sequence[int]) -> Tensor:
        """Logits, or logarithms of mean probabilities, at this size (N, K, *size).

        Raises: ValueError: windows, scales or mirror images of what is no image.
        """
        return resized(torch.cat(list(self.bands(model, x)), 2), size)

    def classes(self, model: nn.Module, x: Any) -> Tensor:
        """Class numbers (N, *S) at the size of the inputs, uint8 for up to 256 classes, else int16.

        With windows, the scores of the whole image are never in memory. Raises: as `scores`.
        """
        found = []
        for band in self.bands(model, x):
            found.append(band.argmax(1).to(torch.uint8 if band.shape[1] <= 256 else torch.int16))
        return torch.cat(found, 1)

    def bands(self, model: nn.Module, x: Any) -> Iterator[Tensor]:
        """The scores at the size of the inputs in bands of whole rows, from the top."""
        if not isinstance(x, Tensor) or x.dim() != 4:
            if not self.plain:
                raise ValueError("window, memory, flip and scales go with images (N, C, H, W); got other inputs")
            found = main_output(model(x))
            yield resized(found, x.shape[2:]) if isinstance(x, Tensor) else found
            return
        window = self.window if self.memory is None else self.tile(model, x)
        if window is None:
            yield self._of_window(model, x)
            return
        stride = self.stride or (max(1, window[0] * 3 // 4), max(1, window[1] * 3 // 4))
        yield from bands(lambda part: self._of_window(model, part), x, window, stride)

    def _of_window(self, model: nn.Module, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if not self.flip and self.scales == (1.0,):
            return resized(logits_of(model, x), size)
        total: Tensor | None = None
        for scale in self.scales:
            scaled = resized(x, [max(1, round(side * scale)) for side in size])
            for mirrored in (False, True)[: 1 + self.flip]:
                found = resized(logits_of(model, scaled.flip(3) if mirrored else scaled), size).float().softmax(1)
                found = found.flip(3) if mirrored else found
                total = found if total is None else total + found
        assert total is not None
        return (total / (len(self.scales) * (1 + self.flip))).clamp_min(1e-12).log()

    def tile(self, model: nn.Module, x: Tensor) -> tuple[int, int] | None:
        """(height, width) of the largest square tiles whose prediction fits into the memory; None: the whole image
        does.

        Raises: ValueError: if not even the smallest does, or the network cannot be run on the meta device.
        """
        known = _TILES.setdefault(model, {})
        key = (self, x.shape, x.dtype)
        if key not in known:
            known[key] = self._tile(copy.deepcopy(model).to("meta"), x)
        return known[key]

    def _tile(self, copied: nn.Module, x: Tensor) -> tuple[int, int] | None:
        def mib(side: int | None) -> float:
            sides = x.shape[2:] if side is None else [min(side, whole) for whole in x.shape[2:]]
            part = torch.empty((*x.shape[:2], *sides), dtype=x.dtype, device="meta")
            found: list[Tensor] = []
            with torch.inference_mode():
                try:
                    peak = peak_bytes(lambda: found.append(self._of_window(copied, part)))
                except Exception as error:  # a network of one's own may raise anything
                    raise ValueError(f"memory: the network does not run on the meta device ({error})") from None
            beside = 0 if side is None else 2 * 4 * found[0].numel() // sides[1] * x.shape[3]  # of `bands`
            return (peak + beside) / MIB

        assert self.memory is not None
        if mib(None) <= WHOLE_SHARE * self.memory:
            return None
        tensors = TILED_SHARE * self.memory
        low, high = LEAST_TILE // TILE_STEP, max(*x.shape[2:], LEAST_TILE) // TILE_STEP
        least = mib(low * TILE_STEP)
        if least > tensors:
            raise ValueError(
                f"memory: wanted {math.ceil(least / TILED_SHARE)} MiB or more for this network; got {self.memory:g}"
            )
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if mib(middle * TILE_STEP) <= tensors else (low, middle - 1)
        return low * TILE_STEP, low * TILE_STEP


def read_prediction(given: Mapping[str, Any] | None) -> Prediction:
    """A prediction of plain values, as a study's file has them: a side may stand for a square.

    Raises: ValueError: unknown keys, values that do not fit.
    """
    given = dict(given or {})
    known = list(Prediction.__dataclass_fields__)
    for key in given:
        if key not in known:
            raise ValueError(f"evaluation has no {key!r}; {nearest(key, known)}")
    for key in ("window", "stride"):
        if key in given:
            given[key] = _pair(key, given[key])
    if "scales" in given:
        if not isinstance(given["scales"], Sequence) or not all(_is_number(one) for one in given["scales"]):
            raise ValueError(f"scales: wanted a list of numbers; got {given['scales']!r}")
        given["scales"] = tuple(map(float, given["scales"]))
    if "memory" in given and not _is_number(given["memory"]):
        raise ValueError(f"memory: wanted MiB; got {given['memory']!r}")
    if not isinstance(given.get("flip", False), bool):
        raise ValueError(f"flip: wanted true or false; got {given['flip']!r}")
    return Prediction(**given)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """The main output for images of any size (N, K, h, w).

    An image whose size the network refuses is continued below and to the right by its last pixels to the next multiple
    of 32, 64 or 128, the first that it takes, and the logits are cut to the image's part.

    Raises: what the network raises, if it takes none of these sizes.
    """
    try:
        return main_output(model(x))
    except (RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        refusal = error
    height, width = x.shape[2:]
    for multiple in MULTIPLES:
        if height % multiple or width % multiple:
            whole = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
            with contextlib.suppress(RuntimeError, ValueError, AssertionError):
                return resized(main_output(model(whole)), whole.shape[2:])[..., :height, :width]
    raise refusal


def _pair(name: str, value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, (list, tuple)) else [value, value]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise ValueError(f"{name}: wanted a side in pixels, or [height, width]; got {value!r}")
    return sides[0], sides[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
