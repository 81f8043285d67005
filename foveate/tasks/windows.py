"""A map of scores of a large image, window by window: where windows stand and how what they give is blended."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Scores = Callable[[Tensor], Tensor]  # (N, C, h, w) → (N, K, h, w)


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along an axis: every `stride`, the last one at the far end."""
    return [*range(0, max(side - window, 0), stride), max(side - window, 0)]


def blending(begins: Sequence[int], window: int) -> list[Tensor]:
    """The weight of each position of each window along an axis; at every position they add up to 1.

    Of what two neighbours have in common, the outer quarter of a window at its end has no weight, and the half between
    goes over from one to the other. So a network that sees no further than a quarter of the overlap gives at every
    position what it gives for the whole image.
    """
    places = torch.arange(window, dtype=torch.float64) + 0.5
    weights = []
    for number, begin in enumerate(begins):
        one = torch.ones(window, dtype=torch.float64)
        if number:
            common = begins[number - 1] + window - begin
            one = torch.minimum(one, ((places - common / 4) / (common / 2)).clamp(0, 1)) if common > 0 else one
        if number + 1 < len(begins):
            common = begin + window - begins[number + 1]
            one = torch.minimum(one, ((window - places - common / 4) / (common / 2)).clamp(0, 1)) if common > 0 else one
        weights.append(one)
    total = torch.zeros(begins[-1] + window, dtype=torch.float64)
    for begin, one in zip(begins, weights, strict=True):
        total[begin : begin + window] += one
    return [one / total[begin : begin + window] for begin, one in zip(begins, weights, strict=True)]


def bands(scores: Scores, x: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Iterator[Tensor]:
    """Scores of an image in bands of whole rows, from the top: (N, K, rows, W).

    Two rows of windows at most are in memory. A window larger than the image is as large as the image.

    Args:
        scores: of a window at its own size.
        x: (N, C, H, W).
        window, stride: (height, width).
    """
    height, width = (min(side, most) for side, most in zip(x.shape[2:], window, strict=True))
    tops, lefts = starts(x.shape[2], height, stride[0]), starts(x.shape[3], width, stride[1])
    down, across = (
        [one.to(x.device) for one in blending(begins, side)] for begins, side in ((tops, height), (lefts, width))
    )
    band: Tensor | None = None
    for top, row, after in zip(tops, down, [*tops[1:], tops[-1] + height], strict=True):
        for left, column in zip(lefts, across, strict=True):
            found = scores(x[..., top : top + height, left : left + width])
            found = found if found.dtype == torch.float64 else found.float()
            if band is None:
                band = found.new_zeros(*found.shape[:2], height, x.shape[3])
            band[..., left : left + width] += found * (row[:, None] * column).to(found.dtype)
        assert band is not None
        done = after - top
        yield band[:, :, :done]
        rest = band[:, :, done:]
        band = torch.cat([rest, rest.new_zeros(*rest.shape[:2], done, rest.shape[3])], 2)
