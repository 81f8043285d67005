"""Deep residual shrinkage: learned soft thresholds, one a channel or one a sample. doi:10.1109/TII.2019.2943898."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._maps import check_dims, check_map, hidden_width, one_of
from foveate.attention._registry import Deviation, Facts, register_attention
from foveate.kernels import accumulate_gradient, global_pool, shrink

_PAPER = {
    "title": "Deep Residual Shrinkage Networks for Fault Diagnosis",
    "authors": "Zhao, Zhong, Fu, Tang, Pecht",
    "year": 2020,
    "source": "IEEE Transactions on Industrial Informatics 16(7), doi:10.1109/TII.2019.2943898",
    "domain": "channel",
    "replaces": "activation",
}
_DEVIATIONS = (
    Deviation(
        "moving variance of the batch norm",
        "not given",
        "biased (TFLearn), PyTorch's own is not",
        "biased, as released",
    ),
    Deviation(
        "what is thresholded", "the branch's last convolution", "the same", "the map it is given: put it before the add"
    ),
    Deviation(
        "after the add", "no ReLU (pre-activation block)", "the same", "the whole block is foveate.networks._shrinkage"
    ),
)

CW_FACTS = Facts(
    **_PAPER,  # type: ignore[arg-type]
    equation="y = sign(x) · max(|x| − τ, 0);  τ_c = σ(W₂ ReLU(BN(W₁ m + b₁)) + b₂)_c · m_c,  m = mean|x|",
    parameters="C*h + h + 2*h + h*C + C",
    macs="2*C*h",
    where={"h": "C // (reduction or (4 if variant == 'official' and d > 1 else 1))"},
    deviations=(
        Deviation(
            "hidden width of the threshold network", "C", "C (1-D archive), C // 4 (2-D demo)", "variant; reduction="
        ),
        *_DEVIATIONS,
    ),
)
CS_FACTS = Facts(
    **_PAPER,  # type: ignore[arg-type]
    equation="y = sign(x) · max(|x| − τ, 0);  τ = σ(w₂ · ReLU(BN(W₁ m + b₁)) + b₂) · mean_c(m),  m = mean|x|",
    parameters="C*h + h + 2*h + h + 1",
    macs="C*h + h",
    where={"h": "C // reduction"},
    deviations=(
        Deviation(
            "outputs of the threshold network", "1", "1; common PyTorch ports give C and a threshold a channel", "1"
        ),
        *_DEVIATIONS,
    ),
)


def soft_threshold(x: Float[Tensor, "n c *s"], tau: Tensor) -> Float[Tensor, "n c *s"]:
    """Soft thresholding, sign(x) · max(|x| − tau, 0): every value moves towards 0 by tau, smaller ones to 0.

    Gradients go to both: 1 and −sign(x) where |x| > tau, 0 elsewhere.

    Args:
        x: any map.
        tau: thresholds that broadcast against x, such as (N, C, 1, 1) or (N, 1, 1, 1); not negative.
    """
    return torch.sign(x) * torch.relu(x.abs() - tau)


class BiasedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over (N, C, *S) of any rank, whose moving variance is the biased one, as in TFLearn.

    Outputs and gradients are those of torch's own; only `running_var` after training steps differs, by (m − 1)/m for
    m values a channel.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2, f"wanted (N, C, *S), got shape {tuple(input.shape)}"

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or (not torch.compiler.is_compiling() and input.numel() == 0):
            return super().forward(input)
        count = input.numel() // self.num_features
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        y = F.batch_norm(input, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * ((count - 1) / count), self.momentum)
            self.num_batches_tracked.add_(1)
        return y


def he_truncated_(layer: nn.Linear | nn.modules.conv._ConvNd) -> None:
    """TFLearn's "variance_scaling": normal, cut at two deviations, variance 2/fan-in after the cut; biases 0."""
    deviation = (1.3 * 2 / layer.weight[0].numel()) ** 0.5
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ThresholdGate(nn.Module):
    """(N, C) mean magnitudes → (N, outputs) factors in (0, 1): linear, batch norm, ReLU, linear, sigmoid."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, width)
        self.norm = BiasedBatchNorm(width)
        self.expand = nn.Linear(width, outputs)
        he_truncated_(self.reduce)
        he_truncated_(self.expand)
        nn.init.normal_(self.norm.weight, 1.0, 0.002)

    def forward(self, magnitude: Tensor) -> Tensor:
        return torch.sigmoid(self.expand(torch.relu(self.norm(self.reduce(magnitude)))))


@register_attention("drsn_cw", CW_FACTS)
class ChannelWiseShrinkage(nn.Module):
    """Soft-threshold each channel, by a learned fraction of the channel's mean magnitude.

        m = mean over positions of |x|;  α = σ(W₂ ReLU(BN(W₁ m + b₁)) + b₂);  τ_c = α_c · m_c
        y = sign(x) · max(|x| − τ_c, 0)

    In training the batch norm normalises over the N samples of m; it refuses a batch of one.

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        variant: "official" (default: hidden width C on 1-D maps, C // 4 on others, as in the two released files)
            or "paper" (C).
        reduction: hidden width C // reduction; None: as `variant`.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: threshold (N, C).
    Cost: 2·C·h weights (h the hidden width) and as many multiply-adds a sample; one read for the means, one read and
        one write for the thresholds.
    Init: TFLearn's: He normal cut at two deviations, biases 0, batch-norm weights N(1, 0.002).
    Raises: ValueError: channels < reduction, an unknown variant, a map of another rank or width; in training, a
        batch of one.
    """

    replaces = "activation"

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        variant: str = "official",
        reduction: int | None = None,
    ) -> None:
        super().__init__()
        check_dims("drsn_cw", spatial_dims)
        one_of("drsn_cw", "variant", variant, ("official", "paper"))
        if reduction is None:
            reduction = 4 if variant == "official" and spatial_dims > 1 else 1
        self.spatial_dims = spatial_dims
        self.gate = ThresholdGate(channels, hidden_width("drsn_cw", channels, reduction), channels)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.gate.reduce.in_features

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("drsn_cw", x, self.channels, self.spatial_dims, self.gate.reduce.weight)
        accumulated = accumulate_gradient(x)
        (magnitude,) = global_pool(accumulated, ("magnitude",))
        threshold = self.gate(magnitude) * magnitude
        record(self, threshold=threshold)
        return shrink(accumulated, threshold)

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"


@register_attention("drsn_cs", CS_FACTS)
class ChannelSharedShrinkage(nn.Module):
    """Soft-threshold the map with one threshold a sample, a learned fraction of the map's mean magnitude.

        m = mean over positions of |x|;  α = σ(w₂ · ReLU(BN(W₁ m + b₁)) + b₂), one number;  τ = α · mean_c(m)
        y = sign(x) · max(|x| − τ, 0)

    In training the batch norm normalises over the N samples of m; it refuses a batch of one.

    Args:
        channels: C of the map.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        reduction: hidden width C // reduction; 1 is the paper's and the released file's.

    Shape: x (N, C, *S) → y (N, C, *S), dtype of x. Captured: threshold (N, 1).
    Cost: C·h + h weights (h the hidden width) and as many multiply-adds a sample; one read for the means, one read
        and one write for the thresholds.
    Init: TFLearn's: He normal cut at two deviations, biases 0, batch-norm weights N(1, 0.002).
    Raises: ValueError: channels < reduction, a map of another rank or width; in training, a batch of one.
    """

    replaces = "activation"

    def __init__(self, channels: int, *, spatial_dims: int = 2, reduction: int = 1) -> None:
        super().__init__()
        check_dims("drsn_cs", spatial_dims)
        self.spatial_dims = spatial_dims
        self.gate = ThresholdGate(channels, hidden_width("drsn_cs", channels, reduction), 1)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.gate.reduce.in_features

    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c *s"]:
        check_map("drsn_cs", x, self.channels, self.spatial_dims, self.gate.reduce.weight)
        accumulated = accumulate_gradient(x)
        (magnitude,) = global_pool(accumulated, ("magnitude",))
        threshold = self.gate(magnitude) * magnitude.mean(1, keepdim=True)
        record(self, threshold=threshold)
        return shrink(accumulated, threshold.expand_as(magnitude))

    def extra_repr(self) -> str:
        return f"{self.channels}, spatial_dims={self.spatial_dims}"
