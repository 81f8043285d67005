"""One row per attention mechanism: how to build it small, on which maps, and its golden files; and the building."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import foveate

ODD = ((2, 7, 5), (1, 1, 1), (3, 1, 9))  # batch, H, W


@dataclass(frozen=True)
class Case:
    """A mechanism for the contract tests.

    variants: sets of options; every contract test runs with each. The first is the default.
    channels: a width that all variants accept.
    dims: the spatial_dims that it accepts; it must refuse others with the reason.
    home: the spatial_dims of the tests that do not vary it.
    settle: brings the random weights of the tests into the range that the mechanism works in.
    golden: glob of its golden files that `foveate.official.load` takes.
    train_from: the smallest batch that training takes on a 1×1 map (2 where a batch norm sees one value a channel).
    inputs: "x", or "x, g" for a gate with two inputs.
    minimum: smallest spatial size along each axis, in positions.
    maps: what a capture shows: key → shape, such as "n c" or "n *s"; also option names and those of its `Facts.where`.
    any_width: does one module take maps of any number of channels, as none of its weights belongs to one?
    affinity: "positions" or "channels", whose affinity rows a capture with queries shows; "" for none.
    """

    name: str
    variants: tuple[dict[str, Any], ...] = ({},)
    channels: int = 32
    dims: tuple[int, ...] = (1, 2, 3)
    home: int = 2
    settle: Callable[[nn.Module], object] | None = None
    golden: tuple[str, ...] = ()
    train_from: int = 1
    inputs: str = "x"
    minimum: int = 1
    maps: dict[str, str] = field(default_factory=dict)
    any_width: bool = False
    affinity: str = ""


def near_identity(transformer: nn.Module) -> None:
    """Frames that turn and shift the map by some pixels and do not throw all of it outside."""
    last = transformer.regression[-1]
    last.weight.mul_(1e-3)
    last.bias.mul_(0.3).view(transformer.spatial_dims, -1).diagonal().add_(1.0)


HARD = ({"hard": "topk"}, {"hard": "straight_through"}, {"hard": "gumbel", "temperature": 0.5})

CASES = [
    Case(
        "se",
        variants=(
            {},
            {"variant": "paper", "reduction": 4},
            {"excitation": "tanh"},
            {"excitation": "relu"},
            *({"squeeze": squeeze} for squeeze in ("max", "avg+max", "std", "gem", "learned")),
            *({"squeeze": squeeze} for squeeze in ("avg+std", "dct", "cov", "pyramid")),
            {"squeeze": "pyramid", "levels": (1, 3), "reduction": 8},
            *HARD,
            {"hard": "topk", "keep": 5, "squeeze": "max"},
        ),
        golden=("senet__*",),
        maps={"channel": "n c"},
    ),
    Case(
        "eca",
        variants=({}, {"kernel_size": 5}, {"variant": "paper"}, {"shared": False}, {"kernel_size": 1}, HARD[2]),
        golden=("eca__*",),
        maps={"channel": "n c"},
        any_width=True,
    ),
    Case(
        "cbam",
        variants=(
            {},
            {"variant": "paper", "reduction": 8},
            {"kernel_size": 3, "pools": ("avg",)},
            {"pools": ("max",), "order": "spatial-channel"},
            {"order": "parallel"},
            {"spatial": False, "pools": ("avg", "max", "lp", "lse")},
            {"channel": False},
            {"descriptor": "conv", "kernel_size": 3},
            {"descriptor": "bottleneck", "kernel_size": 3},
            HARD[1],
            {"hard": "topk", "order": "parallel", "keep": 0.25},
        ),
        golden=("cbam__*",),
        train_from=2,
        maps={"channel": "n c", "spatial": "n *s"},
    ),
    Case(
        "nl",
        variants=(
            {},
            {"variant": "paper", "sub_sample": True},
            {"form": "gaussian", "sub_sample": True, "pool_first": False},
            {"form": "dot_product", "sub_sample": True, "width": 5},
            {"form": "concatenation", "norm": False},
            {"form": "concatenation", "sub_sample": True, "out_bias": False, "variant": "paper"},
        ),
        golden=("nonlocal_*",),
        train_from=2,
        affinity="positions",
    ),
    Case(
        "drsn_cw",
        variants=({}, {"variant": "paper"}, {"reduction": 8}),
        golden=("drsn__cw*",),
        train_from=2,
        maps={"threshold": "n c"},
    ),
    Case(
        "drsn_cs",
        variants=({}, {"reduction": 4}),
        golden=("drsn__cs*",),
        train_from=2,
        maps={"threshold": "n 1"},
    ),
    Case(
        "stn",
        variants=(
            {},
            {"variant": "paper", "padding_mode": "border"},
            {"padding_mode": "reflection", "widths": (4, 6), "kernel_sizes": (5, 3), "hidden": 8, "grid": 2},
        ),
        golden=("stn__*",),
        settle=near_identity,
        maps={"theta": "n 2 3", "grid": "n *s 2"},
    ),
    Case(
        "danet_position",
        variants=({}, {"reduction": 4}, {"variant": "paper"}),
        golden=("danet__pam*",),
        affinity="positions",
    ),
    Case(
        "danet_channel",
        variants=({}, {"variant": "paper"}),
        golden=("danet__cam*",),
        any_width=True,
        affinity="channels",
    ),
    Case("ese", variants=({}, {"variant": "paper"}, HARD[0], HARD[1]), maps={"channel": "n c"}),
    Case("cse", variants=({}, {"reduction": 4, "bias": False}, HARD[0]), maps={"channel": "n c"}),
    Case("sse", variants=({}, {"bias": False}, HARD[0], HARD[2]), maps={"spatial": "n *s"}),
    Case(
        "scse",
        variants=({}, {"variant": "paper", "reduction": 8}, {"combine": "max", "bias": False}, HARD[0]),
        golden=("scse_*",),
        maps={"channel": "n c", "spatial": "n *s"},
    ),
    Case(
        "bam",
        variants=(
            {},
            {"variant": "paper"},
            {"reduction": 4, "layers": 2, "dilated": 1, "dilation": 2, "fusion": "sum"},
            {"variant": "paper", "fusion": "product", "layers": 0, "dilated": 0},
        ),
        golden=("bam__*",),
        train_from=2,
        maps={"channel": "n c", "spatial": "n *s"},
    ),
    Case(
        "sk",
        variants=(
            {},
            {"branches": 3, "groups": 8, "width": 5},
            {"form": "light"},
            {"form": "light", "branches": 3, "minimum": 4, "kernel_size": 5},
            {"reduction": 4, "minimum": 1, "groups": 1},
            {"kernels": ((3, 1), (5, 1)), "groups": "depthwise"},
            {"kernels": ((1, 1), (3, 2), (3, 3)), "groups": (8, "depthwise", 16), "form": "light"},
        ),
        golden=("sknet__*",),
        train_from=2,
        maps={"branch": "n M c"},
    ),
    Case(
        "sge",
        variants=({}, {"groups": 8}, {"groups": 8, "variant": "paper"}, {"groups": 1}, HARD[2]),
        channels=64,
        golden=("sge__*",),
        maps={"spatial": "n *s", "group": "n groups *s"},
    ),
    Case(
        "sa",
        variants=({}, {"groups": 4}, {"groups": 1}, {"groups": 4, "hard": "topk"}),
        channels=128,
        golden=("sa__*",),
        maps={"channel": "n c", "spatial": "n *s"},
    ),
    Case(
        "gc",
        variants=(
            {},
            {"ratio": 0.25, "fusion": "mul"},
            {"fusion": "both", "pooling": "avg"},
            {"ratio": 0.3, "fusion": "both"},
            {"pooling": "avg", "ratio": 1 / 32},
            {"fusion": "both", "hard": "topk", "keep": 5},
        ),
        golden=("gcnet__*",),
        maps={"spatial": "n *s", "channel": "n c", "added": "n c"},
    ),
    Case(
        "ca",
        variants=({}, {"reduction": 4, "minimum": 2}, {"minimum": 40}, HARD[0]),
        golden=("coordatt__*",),
        maps={"height": "n c 6", "width": "n c 5"},
    ),
    Case(
        "sra",
        variants=(
            {},
            {"heads": 4, "reduction": 3, "bias": False},
            {"heads": 1, "reduction": 1, "form": "bare", "out_bias": False},
        ),
        affinity="positions",
    ),
    Case(
        "iastp",
        variants=({}, {"fusion": "max"}, {"fusion": "mean"}),
    ),
    Case(
        "temporal",
        variants=({}, {"mode": "softmax", "kernel_size": 1}, {"reduction": 8, "kernel_size": 5}, HARD[0]),
        dims=(1, 3),
        home=3,
        maps={"temporal": "n t"},
    ),
    Case(
        "cbam_temporal",
        variants=(
            {},
            {"variant": "paper", "reduction": 8, "kernel_size": 3},
            {"channel": False},
            {"spatial": False, "temporal_kernel_size": 1},
            {"temporal": False, "kernel_size": 3},
            HARD[1],
        ),
        dims=(3,),
        home=3,
        train_from=2,
        maps={"channel": "n c", "spatial": "n *s", "temporal": "n t"},
    ),
    Case(
        "attention_gate",
        variants=(
            {},
            {"variant": "paper", "activation": "softplus"},
            {"sub_sample": 1, "norms": True, "transform": "none", "width": 8},
            {"normalise": "softmax", "gate_sub_sample": True, "transform": "conv"},
            {"normalise": "sum", "activation": "none"},
            {"normalise": "shifted_sum", "width": 8},
            {"normalise": "range", "align_corners": True},
            HARD[0],
        ),
        golden=("attention_gate_*",),
        inputs="x, g",
        minimum=2,
        maps={"spatial": "n *s"},
    ),
]
BY_NAME = {case.name: case for case in CASES}


def create(case: Case, options: dict[str, Any], dims: int | None = None) -> torch.nn.Module:
    return foveate.create_attention(case.name, case.channels, spatial_dims=dims or case.home, **options)


def build(
    case: Case, options: dict[str, Any], dims: int | None = None, dtype: torch.dtype = torch.float32
) -> torch.nn.Module:
    """The module with every parameter and buffer moved off its initial value, so that no zero hides a path."""
    module = create(case, options, dims)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.add_(0.2 * torch.randn(value.shape, generator=generator)).abs_().add_(0.05)
                value.mul_(torch.where(torch.rand(value.shape, generator=generator) < 0.5, 1.0, -1.0))
        for name, value in module.named_buffers():
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
        if case.settle:
            case.settle(module)
    return module.to(dtype).eval()


def map_for(
    case: Case, size: tuple[int, ...], dims: int | None = None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    batch, *sides = size
    sides = [max(case.minimum, side) for side in (*sides, 4, 3)[: dims or case.home]]
    return torch.randn(batch, case.channels, *sides, generator=torch.Generator().manual_seed(2)).to(dtype)


def inputs_for(case: Case, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (x,) if case.inputs == "x" else (x, torch.randn_like(x))
