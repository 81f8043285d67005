"""The networks of the insertion benchmark: timm's families, torchvision's, hand-written ones; all with lively norms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

TIMM = {
    64: """resnet10t resnet18 resnet26d resnext26ts seresnet18 ecaresnet26t skresnet18 resnest14d res2net50_14w_8s
    regnetx_002 regnety_002 regnetz_b16 gcresnext26ts mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050
    mobilenetv4_conv_small_035 efficientnet_lite0 efficientnet_b0 efficientnet_es tf_efficientnetv2_b0 mnasnet_small
    fbnetc_100 spnasnet_100 mixnet_s ghostnet_050 ghostnetv2_100 lcnet_035 tinynet_e hardcorenas_a semnasnet_075 dla34
    dla46_c dpn48b densenet121 hrnet_w18_small selecsls42 cspresnet50 cs3darknet_s darknet17 ese_vovnet19b_slim
    rexnet_100 hgnet_tiny hgnetv2_b0 repvgg_a0 mobileone_s0 repghostnet_050 resnetv2_18 nf_resnet26 nf_regnet_b0
    convnext_atto convnextv2_atto poolformer_s12 poolformerv2_s12 mobilevit_xxs mobilevitv2_050 edgenext_xx_small
    efficientvit_b0 efficientvit_m0 fastvit_t8 repvit_m0_9 starnet_s050 gernet_s lambda_resnet26t pvt_v2_b0
    inception_next_atto swiftformer_xs fasternet_t0 resnetblur50 mobilenet_edgetpu_v2_xs convformer_s18 shvit_s1""",
    224: "efficientformerv2_s0 vit_tiny_patch16_224 levit_128s mixer_s32_224 swin_tiny_patch4_window7_224",
}
TORCHVISION = """resnet18 resnet50 mobilenet_v2 mobilenet_v3_small shufflenet_v2_x0_5 squeezenet1_1 mnasnet0_5
    densenet121 googlenet regnet_y_400mf efficientnet_b0 alexnet convnext_tiny"""
DENSE = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"]
DETECTION = ["fasterrcnn_mobilenet_v3_large_320_fpn"]
VIDEO = ["r3d_18", "mc3_18", "r2plus1d_18"]
_KEYWORDS = {
    "googlenet": {"aux_logits": False},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"min_size": 64, "max_size": 64, "box_score_thresh": 0.0},
}


@dataclass(frozen=True)
class Case:
    """One network: how it is built, with lively norms and in eval mode, and the shape of its example."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    family: str
    name: str

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return enliven(self.make(), self.example())

    def example(self) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(2))


def enliven(model: nn.Module, x: Tensor) -> nn.Module:
    """Random norms, layer scales and zero weights, so that no branch is silent (timm starts last norms at zero).

    Batch norms then take the statistics of x, as in a trained network, so that activations do not grow without bound.
    """
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if hasattr(module, "running_mean") or isinstance(module, nn.GroupNorm | nn.LayerNorm):
            for key, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5), ("running_mean", -0.5, 0.5),
                                   ("running_var", 0.5, 1.5)):  # fmt: skip
                tensor = getattr(module, key, None)
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    for name, weight in model.named_parameters():
        if name.endswith(("gamma", "gain")) or "layer_scale" in name or "layerscale" in name:
            weight.data.uniform_(0.5, 1.5, generator=generator)
        elif weight.dim() > 1 and not weight.any():
            weight.data.normal_(std=weight[0].numel() ** -0.5, generator=generator)
    norms = {m: m.momentum for m in model.eval().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for norm in norms:
        norm.momentum = 1.0
        norm.training = norm.track_running_stats
    with torch.no_grad():
        model(x)
    for norm, momentum in norms.items():
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.clamp_(min=0.05)
    return model.eval()


def networks() -> Iterator[Case]:
    """All of them, by family."""
    for size, names in TIMM.items():
        for name in names.split():
            yield Case(partial(timm.create_model, name, num_classes=7), (2, 3, size, size), "timm", name)
    get = partial(torchvision.models.get_model, weights=None)
    for name in TORCHVISION.split():
        make = partial(get, name, num_classes=7, **_KEYWORDS.get(name, {}))
        yield Case(make, (2, 3, 64, 64), "torchvision", name)
    for name in DENSE + DETECTION:
        make = partial(get, name, num_classes=7, weights_backbone=None, **_KEYWORDS.get(name, {}))
        yield Case(make, (2, 3, 64, 64), "torchvision", name)
    for name in VIDEO:
        yield Case(partial(get, name, num_classes=7), (1, 3, 4, 32, 32), "torchvision", name)
    for kind, shape in ((Residual, (2, 3, 32, 32)), (Signal, (2, 3, 64)), (Volume, (2, 3, 6, 8, 8)),
                        (Encoder, (2, 3, 32, 32)), (Joined, (2, 3, 32, 32)), (Straight, (2, 3, 32, 32))):  # fmt: skip
        yield Case(kind, shape, "hand-written", kind.__name__)


class Block(nn.Module):
    """Two convolutions and an add, in one, two or three spatial dimensions."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dims: int = 2) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
        self.conv1, self.norm1 = conv(inputs, outputs, 3, stride, 1), norm(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3, 1, 1), norm(outputs)
        self.short = conv(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.short(x))


class Residual(nn.Module):
    """Stages in a list that the forward pass walks through."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.Sequential(Block(3, 8, 1, dims), Block(8, 8, 1, dims)), nn.Sequential(Block(8, 16, 2, dims))]
        )
        self.head = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(x.flatten(2).mean(2))


class Signal(Residual):
    """The same for signals (N, C, L)."""

    def __init__(self) -> None:
        super().__init__(1)


class Volume(Residual):
    """The same for clips (N, C, T, H, W)."""

    def __init__(self) -> None:
        super().__init__(3)


class Encoder(nn.Module):
    """A U-Net: skips that are concatenated across resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = Block(3, 8), Block(8, 16, 2), Block(16, 32, 2)
        self.up2, self.up1, self.out = Block(48, 16), Block(24, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(one)
        up = self.up2(torch.cat([F.interpolate(self.down3(two), scale_factor=2), two], 1))
        return self.out(self.up1(torch.cat([F.interpolate(up, scale_factor=2), one], 1)))


class Parallel(nn.Module):
    """Two convolutions side by side, joined by their channels; no add."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(inputs, width, 1), nn.Conv2d(inputs, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.narrow(x), self.wide(x)], 1)))


class Joined(nn.Sequential):
    """Blocks that join by concatenation, in one Sequential."""

    def __init__(self) -> None:
        super().__init__(Parallel(3, 8), Parallel(16, 8), nn.MaxPool2d(2), Parallel(16, 16), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(32, 7))  # fmt: skip


class Straight(nn.Module):
    """Convolutions one after another with functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.norm(self.conv3(F.relu(self.conv2(x)))).mean((2, 3))
