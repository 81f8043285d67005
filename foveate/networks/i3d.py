"""Residual networks of clips: C2D and I3D, plain and with non-local blocks. arXiv:1711.07971, arXiv:1705.07750."""

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention.nl import NonLocal
from foveate.networks._registry import register_network
from foveate.networks._residual import add_relu
from foveate.networks.nl_resnet import blocks_of_stages
from foveate.networks.resnet import DEPTHS

KINETICS = 400  # classes
SHAPE = (3, 8, 224, 224)  # of a clip: every 8th frame of 64, as the released networks take them
STEMS = ("caffe2", "slowfast", "paper", "image")
INFLATIONS = ("none", "3x1x1", "3x3x3")
OVER = ("spacetime", "space", "time")
STAGES = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2)} | {depth: DEPTHS[depth][1] for depth in (50, 101)}
WIDTH = 64


class NonLocalOver(NonLocal):
    """The non-local block of a clip whose positions look at those of their own frame, or of their own place.

    Args:
        over: "space" (the H·W positions of the same frame), "time" (the same position in all T frames) or "spacetime".
        others: of `NonLocal`, with spatial_dims=3; a window of sub-sampling is cut to what is looked at.

    Shape: (N, C, T, H, W) → the same.
    """

    def __init__(
        self, channels: int, *, over: str, form: str, sub_sample: bool, group_frames: int | None, width: int | None
    ) -> None:
        super().__init__(
            channels, spatial_dims=3, form=form, sub_sample=sub_sample, group_frames=group_frames, width=width
        )
        self.over = over

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n c t h w"]:
        if self.over == "spacetime":
            return super().forward(x)
        count, _, _, high, wide = x.shape
        if self.over == "space":
            frames = super().forward(x.transpose(1, 2).flatten(0, 1).unsqueeze(2))
            return frames.squeeze(2).unflatten(0, (count, -1)).transpose(1, 2)
        places = super().forward(x.permute(0, 3, 4, 1, 2).flatten(0, 2)[..., None, None])
        return places[..., 0, 0].unflatten(0, (count, high, wide)).permute(0, 3, 4, 1, 2)


class VideoBottleneck(nn.Module):
    """The residual block of images over the frames of a clip: 1×1 to `width`, 3×3, 1×1 to 4·width.

    Args:
        stride: of the 3×3, in space.
        first, second: frames that the first 1×1 and the 3×3 span, 1 or 3.
        attention: after the last ReLU.

    Shape: (N, channels, T, H, W) → (N, 4·width, T, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, first: int, second: int, attention: nn.Module | None
    ) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv3d(channels, width, (first, 1, 1), padding=(first // 2, 0, 0), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, (second, 3, 3), (1, stride, stride), (second // 2, 1, 1), bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(out)
            )
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = torch.relu_(self.bn2(self.conv2(y)))
        y = add_relu(self.bn3(self.conv3(y)), x if self.downsample is None else self.downsample(x))
        return y if self.attention is None else self.attention(y)


class VideoResNet(nn.Module):
    """A ResNet of bottlenecks over clips. Its tensors are called as those of the network of images it is inflated from.

    Args:
        depth: 50 or 101, or 14 or 26 with one or two blocks in each stage.
        num_classes: of the linear layer.
        in_channels: of a frame.
        inflation: which convolutions of a block span three frames: "none" (C2D), "3x1x1" (the first 1×1) or "3x3x3"
            (the 3×3); in every block of the first stage, in every other block of the rest, as released. With any, the
            stem's convolution spans five.
        stem: "caffe2" (the frames are halved once, by a pool of 2 after the first stage; the 3×3 pool is not padded),
            "slowfast" (the same with padding), "paper" (clips of 32: halved by the first convolution, by a 3×3×3 pool
            and by a pool of 3 after the first stage) or "image" (that of the network of images: time is never pooled; a
            C2D without non-local blocks then sees each frame by itself).
        width: channels of the stem; a stage's blocks give 4, 8, 16 and 32 times as many.
        blocks: number of non-local blocks: 0, 1, 5 or 10, placed as in `nl_resnet`; or for each stage the blocks that
            one follows, counted from 0, such as [[], [1, 3], [1, 3, 5], []].
        form: of the affinity, as in the mechanism "nl".
        over: what a position looks at: "spacetime", "space" (its frame) or "time" (its place in all frames).
        sub_sample: keys and values are pooled by 2 in space.
        group_frames: a position looks at its run of this many frames alone, as in the mechanism "nl". None: at all.
        inner: channels of a non-local block's queries, keys and values. None: half of its map's.
        dropout: before the linear layer, in training.

    Shape: (N, in_channels, T, H, W) → (N, num_classes); any T, H and W.
    Source: Wang, Girshick, Gupta, He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971; Carreira, Zisserman,
        "Quo Vadis, Action Recognition?", CVPR 2017, arXiv:1705.07750. Departures: "3x3x3" is placed as "3x1x1", as the
        paper gives no place; a pool of 2 frames leaves one frame as it is.
    Init: He normal (fan out) for convolutions, norms 1 and 0, the linear layer N(0, 0.01); non-local blocks start as
        the identity. `networks.inflate` takes the weights of the network of images.
    Raises: ValueError: values that cannot be, or more non-local blocks than a stage has blocks.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = KINETICS,
        *,
        in_channels: int = 3,
        inflation: str = "none",
        stem: str = "caffe2",
        width: int = WIDTH,
        blocks: int | Sequence[Sequence[int]] = 0,
        form: str = "embedded_gaussian",
        over: str = "spacetime",
        sub_sample: bool = True,
        group_frames: int | None = None,
        inner: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"depth must be one of {', '.join(map(str, STAGES))}; got {depth!r}")
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a whole number of 1 or more; got {width!r}")
        for option, value, known in (("inflation", inflation, INFLATIONS), ("stem", stem, STEMS), ("over", over, OVER)):
            if value not in known:
                raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}; got {value!r}")
        counts = STAGES[depth]
        followed = _followed(depth, blocks)
        frames, halved = 1 if inflation == "none" else 5, 2 if stem == "paper" else 1
        self.conv1 = nn.Conv3d(in_channels, width, (frames, 7, 7), (halved, 2, 2), (frames // 2, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.pool2: nn.Module
        if stem == "paper":
            self.maxpool = nn.MaxPool3d(3, 2, 1)
            self.pool2 = nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0))
        else:
            rim = 0 if stem == "caffe2" else 1
            self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, rim, rim))
            self.pool2 = nn.Identity() if stem == "image" else nn.MaxPool3d((2, 1, 1), (2, 1, 1))
        channels = width
        self.stages = tuple(f"layer{stage + 1}" for stage in range(len(counts)))
        for stage, name in enumerate(self.stages):
            narrow = width * 2**stage
            units: list[nn.Module] = []
            for index in range(counts[stage]):
                spans = 3 if _spans_frames(stage, index) else 1
                non_local = index in followed[stage]
                units.append(
                    VideoBottleneck(
                        channels,
                        narrow,
                        stride=2 if stage and not index else 1,
                        first=spans if inflation == "3x1x1" else 1,
                        second=spans if inflation == "3x3x3" else 1,
                        attention=NonLocalOver(
                            4 * narrow,
                            over=over,
                            form=form,
                            sub_sample=sub_sample,
                            group_frames=group_frames,
                            width=inner,
                        )
                        if non_local
                        else None,
                    )
                )
                channels = 4 * narrow
            setattr(self, name, nn.Sequential(*units))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        for path, module in self.named_modules():
            if isinstance(module, nn.Conv3d) and ".attention." not in path:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Float[Tensor, "n c t h w"]) -> list[Tensor]:
        """What each stage gives, shallow to deep."""
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        found = []
        for name in self.stages:
            x = getattr(self, name)(x)
            found.append(x)
            if name == "layer1" and x.shape[2] > 1:
                x = self.pool2(x)
        return found

    def forward(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n k"]:
        return self.fc(self.dropout(self.features(x)[-1].mean((2, 3, 4))))


def _spans_frames(stage: int, index: int) -> bool:
    """Is this block inflated? All of the first stage, 1, 0, 1, 0 … in the next two, 0, 1, 0 in the last."""
    return stage == 0 or index % 2 == (1 if stage == 3 else 0)


def _followed(depth: int, blocks: int | Sequence[Sequence[int]]) -> list[list[int]]:
    """For each stage the blocks that a non-local block follows."""
    if isinstance(blocks, int):
        if blocks and depth not in DEPTHS:
            raise ValueError(f"blocks: at depth {depth} wanted a list for each stage; got {blocks}")
        return blocks_of_stages(depth, blocks) if blocks else [[], [], [], []]
    counts = STAGES[depth]
    found = [list(indices) for indices in blocks]
    if len(found) != len(counts):
        raise ValueError(f"blocks must be a number, or a list for each of {len(counts)} stages; got {len(found)}")
    for stage, (indices, count) in enumerate(zip(found, counts, strict=True)):
        if odd := [index for index in indices if index not in range(count)]:
            raise ValueError(f"blocks: stage {stage} has the blocks 0 to {count - 1}; got {odd[0]!r}")
    return found


for _depth, (_name, _inflation), _blocks in product((50, 101), (("c2d", "none"), ("i3d", "3x1x1")), (0, 5)):
    register_network(f"{'nl_' if _blocks else ''}{_name}_resnet{_depth}", shape=SHAPE)(
        partial(VideoResNet, _depth, inflation=_inflation, blocks=_blocks)
    )
for _depth, (_name, _inflation) in product((14, 26), (("c2d", "none"), ("i3d", "3x1x1"))):
    register_network(f"{_name}_resnet{_depth}", shape=SHAPE)(partial(VideoResNet, _depth, inflation=_inflation))
