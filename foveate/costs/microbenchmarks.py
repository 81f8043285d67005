"""The four experiments behind ShuffleNet v2's guidelines, run again on this machine.

Source: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018,
arXiv:1807.11164, Tables 1 to 4: ten blocks of 1×1 convolutions (Table 4: bottlenecks) on maps of 56×56, without batch
norm, at equal multiply-adds. Ours: one image a batch, as the paper has it on ARM; a width of the paper's ARM columns
and 128 of its GPU columns; widths rounded so that the multiply-adds stay within 4 % (the paper's own differ by up to
5 %), and times compared per multiply-add; for G1 and G2 one more variant whose widths are powers of two, because vector
units round odd widths up, which is arithmetic and not memory access. Where the paper's text leaves a block open:
parallel fragments are added, convolutions have no bias, a bottleneck is a quarter as wide inside.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from foveate.costs.latency import Latency, forward_step, interval_of_the_median, time_settled
from foveate.costs.roofs import with_threads
from foveate.devices import require_device

SIDE, BLOCKS = 56, 10
CLAIMS = {
    "G1": "equal widths of 1×1 convolutions are the fastest",
    "G2": "many groups are slower",
    "G3": "fragments are slower",
    "G4": "ReLU and shortcut cost time",
}
WIDTHS = {"G1": (32, 128), "G2": (64, 128), "G3": (64, 128), "G4": (64, 128)}
AGAIN = "the same again"


@dataclass(frozen=True)
class Variant:
    """One network of an experiment. decides: its time is what the guideline makes a claim about."""

    name: str
    widths: str
    build: Callable[[], nn.Module]
    channels: int
    macs: int
    decides: bool = False


@dataclass(frozen=True)
class Timed:
    """A variant's time, and its time to the reference's, round by round in the same run; at equal multiply-adds."""

    name: str
    widths: str
    macs: int
    latency_ms: Latency
    ratio: Latency
    told: str  # "reference", "slower", "faster" or "same"
    decides: bool


@dataclass(frozen=True)
class Experiment:
    """One table at one width: its variants, the first the reference, the second the reference measured again."""

    guideline: str
    claim: str
    width: int
    rows: tuple[Timed, ...]
    verdict: str
    why: str


class Parallel(nn.Module):
    """The sum of what its branches make of the same input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.branches)
        for other in others:
            first = first + other
        return first


class Shortcut(nn.Module):
    """The input added to what the body makes of it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def experiments() -> dict[str, tuple[int, ...]]:
    """The guidelines, and the widths at which `experiment` is run for each."""
    return dict(WIDTHS)


def pointwise(channels: int, out: int, groups: int = 1) -> nn.Module:
    return nn.Conv2d(channels, out, 1, groups=groups, bias=False)


def variants(guideline: str, width: int) -> list[Variant]:
    """The networks of an experiment, the reference first; multiply-adds equal within 6 %, 4 % from 64 channels on.

    Raises: LookupError: no such guideline. ValueError: a width that is not a multiple of 16, at least 32.
    """
    if guideline not in CLAIMS:
        raise LookupError(f"wanted a guideline, one of {', '.join(CLAIMS)}; got {guideline!r}")
    if width < 32 or width % 16:
        raise ValueError(f"width: wanted a multiple of 16, at least 32; got {width}")
    return list({"G1": _ratios, "G2": _groups, "G3": _fragments, "G4": _elementwise}[guideline](width))


def _stack(block: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(block() for _ in range(BLOCKS)))


def _pair(c1: int, c2: int) -> nn.Module:
    return nn.Sequential(pointwise(c1, c2), pointwise(c2, c1))


def _fragmented(channels: int, count: int, arranged: str) -> nn.Module:
    parts = [pointwise(channels, channels) for _ in range(count)]
    return Parallel(*parts) if arranged == "parallel" else nn.Sequential(*parts)


def _ratios(width: int) -> Iterator[Variant]:
    """Table 1: blocks of two convolutions, c1 → c2 → c1; and one ratio whose widths are powers of two."""
    for ratio in (1, 2, 6, 12, 16):
        c1 = round(width / math.sqrt(ratio))
        c2 = round(width**2 / c1)
        note = " (even)" if ratio == 16 else ""
        yield Variant(
            name=f"1:{ratio}{note}",
            widths=f"{c1}, {c2}",
            build=_stack(partial(_pair, c1, c2)),
            channels=c1,
            macs=2 * BLOCKS * SIDE**2 * c1 * c2,
            decides=ratio in (12, 16),
        )


def _groups(width: int) -> Iterator[Variant]:
    """Table 2: convolutions of c channels in g groups, c growing with √g; and one whose widths are powers of two."""
    for groups in (1, 2, 4, 8, 16):
        c = groups * round(width / math.sqrt(groups))
        note = " (even)" if groups == 16 else ""
        yield Variant(
            name=f"{groups} group{'s' if groups > 1 else ''}{note}",
            widths=str(c),
            build=_stack(partial(pointwise, c, c, groups)),
            channels=c,
            macs=BLOCKS * SIDE**2 * c * c // groups,
            decides=groups in (8, 16),
        )


def _fragments(width: int) -> Iterator[Variant]:
    """Table 3: one convolution, or 2 or 4 narrower ones in series or in parallel."""
    for count, arranged in ((1, ""), (2, "series"), (4, "series"), (2, "parallel"), (4, "parallel")):
        c = round(width / math.sqrt(count))
        yield Variant(
            name=f"{count} in {arranged}" if count > 1 else "1 fragment",
            widths=str(c),
            build=_stack(partial(_fragmented, c, count, arranged)),
            channels=c,
            macs=BLOCKS * SIDE**2 * count * c * c,
            decides=count == 4,
        )


def _elementwise(width: int) -> Iterator[Variant]:
    """Table 4: bottlenecks (1×1, 3×3, 1×1) with and without ReLUs and the shortcut."""
    inside = width // 4
    for relu, shortcut in ((False, False), (True, False), (False, True), (True, True)):
        words = [word for word, there in (("ReLU", relu), ("shortcut", shortcut)) if there]
        yield Variant(
            name=" and ".join(words) or "neither",
            widths=f"{width}, {inside}",
            build=_stack(partial(_bottleneck, width, inside, relu, shortcut)),
            channels=width,
            macs=BLOCKS * SIDE**2 * (2 * width * inside + 9 * inside**2),
            decides=relu and shortcut,
        )


def _bottleneck(width: int, inside: int, relu: bool, shortcut: bool) -> nn.Module:
    convolutions = [
        pointwise(width, inside),
        nn.Conv2d(inside, inside, 3, padding=1, bias=False),
        pointwise(inside, width),
    ]
    layers = [layer for one in convolutions for layer in ((one, nn.ReLU()) if relu else (one,))]
    body = nn.Sequential(*layers)
    return Shortcut(body) if shortcut else body


def experiment(
    guideline: str,
    width: int,
    *,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    batch_size: int = 1,
    repeats: int = 60,
    budget_s: float = 10.0,
) -> Experiment:
    """Time the variants of one experiment in turns, and say whether its guideline holds on this machine.

    Args:
        guideline: "G1" (widths), "G2" (groups), "G3" (fragments), "G4" (elementwise operators).
        width: channels of the reference; the paper has 128 on its GPU, 32 (G1) or 64 on ARM.
        threads: CPU threads; torch's present number where not given.
        repeats: rounds at most. budget_s: seconds of measuring at most (5 rounds at least).

    Raises: LookupError, ValueError: no such guideline, width or device.
    """
    first, *others = variants(guideline, width)
    networks = {one.name: one for one in (first, replace(first, name=AGAIN, decides=False), *others)}
    where = require_device(device)
    with with_threads(threads), torch.random.fork_rng(devices=[]):
        steps = {}
        for name, one in networks.items():
            x = torch.randn(batch_size, one.channels, SIDE, SIDE, device=where)
            steps[name] = forward_step(one.build().eval().to(where), x)
        samples = time_settled(steps, repeats=repeats, budget_s=budget_s)
    ratios = {
        name: interval_of_the_median(
            [a / b * first.macs / one.macs for a, b in zip(samples[name], samples[first.name], strict=True)]
        )
        for name, one in networks.items()
    }
    rows = tuple(
        Timed(
            name,
            one.widths,
            one.macs,
            interval_of_the_median(samples[name]),
            ratios[name],
            told="reference" if one is first else told(ratios[name], ratios[AGAIN]),
            decides=one.decides,
        )
        for name, one in networks.items()
    )
    return Experiment(guideline, CLAIMS[guideline], width, rows, *verdict([row for row in rows if row.decides]))


def told(ratio: Latency, again: Latency) -> str:
    """ "slower" or "faster" where the interval lies clear of 1 and of what the same network gave again; else "same"."""
    if ratio.low > max(1.0, again.high):
        return "slower"
    return "faster" if ratio.high < min(1.0, again.low) else "same"


def verdict(deciding: Sequence[Timed]) -> tuple[str, str]:
    """Whether the guideline holds, by the variants that decide on it, and why in a few words."""
    found = {row.told for row in deciding}
    why = ", ".join(f"{row.name}: ×{row.ratio.median:.2f}" for row in deciding)
    if found == {"slower"}:
        return "holds here", why
    if "slower" in found:
        return "holds in part here", why
    return ("does not hold here" if "faster" in found else "not distinguishable here"), why
