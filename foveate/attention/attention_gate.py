"""The attention gate of Attention U-Net: a coarse map gates the positions of a finer one. arXiv:1804.03999."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention._capture import record
from foveate.attention._hard import Switch
from foveate.attention._maps import batch_norm, check_dims, check_map, conv, one_of
from foveate.attention._registry import Deviation, Facts, register_attention

ACTIVATIONS = ("relu", "softplus", "none")
NORMALISERS = ("sigmoid", "softmax", "sum", "shifted_sum", "range")
TRANSFORMS = ("norm", "conv", "none")
_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}
TINY = 1e-12  # smallest divisor of the normalisers that divide by a range or sum

FACTS = Facts(
    title="Attention U-Net: Learning Where to Look for the Pancreas",
    authors="Oktay, Schlemper, Le Folgoc, Lee, Heinrich, Misawa, Mori, McDonagh, Hammerla, Kainz, Glocker, Rueckert",
    year=2018,
    source="MIDL 2018, arXiv:1804.03999",
    domain="spatial",
    equation="y = BN(W (x · ↑σ(ψ ReLU(θ(x) + ↕φ(g)))))",
    parameters="C*w*k + G*w*(k if gate_sub_sample else 1) + w*(not gate_sub_sample) + w + 1"
    " + norms*(5*w + 2) + (end != 'none')*(C*C + C) + (end == 'norm')*2*C",
    macs="C*w*P + G*w*gate_P + w*(P // k) + (end != 'none')*C*C*P",
    where={
        "w": "width or max(C // 2, 1)",
        "G": "gate_channels or C",
        "gate_P": "P",
        "k": "sub_sample**d if isinstance(sub_sample, int) else prod(sub_sample)",
        "end": "('norm' if variant == 'official' else 'none') if transform is None else transform",
    },
    deviations=(
        Deviation("after the gate", "nothing: y = α x", "1×1 convolution and batch norm", "variant decides"),
        Deviation("what the module returns", "y", "(y, α)", "y; return_map=True gives (y, α)"),
        Deviation(
            "resizing",
            "trilinear",
            "align_corners True under the torch of its time, False under any since 0.4",
            "False; align_corners=True",
        ),
        Deviation("sub_sample in 2-D", "—", "(2, 2, 2) by default, which fails", "2 along each axis"),
        Deviation(
            "other normalisers of ψ",
            "softmax mentioned, sigmoid used",
            "softmax (residual mode); softmax, sum, shifted sum, range (sononet), 0/0 on a flat map",
            "normalise=; a flat map gives 0",
        ),
        Deviation(
            "batch norm after θ, φ, ψ; g on the grid of x",
            "none; coarser",
            "none (LeeJunHyun's port: after each; same grid)",
            "norms=True, sub_sample=1; g is resized to θ's grid whatever its own",
        ),
    ),
)


@register_attention("attention_gate", FACTS)
class AttentionGate(nn.Module):
    """Gate each position of x by x and a second, usually coarser, map g at that position.

        y = BN(W (α · x)),  α = resize to x of σ(ψ(ReLU(θ(x) + resize to θ(x) of φ(g))))

    Called with two maps, `gate(x, g)` or by these names.

    Args:
        channels: C of x.
        spatial_dims: number of spatial axes, 1, 2 or 3.
        gate_channels: channels of g. None: C.
        width: channels of θ(x) and φ(g). None: C // 2, at least 1.
        sub_sample: kernel and stride of θ, a number or one an axis: the gate is computed on that much coarser a grid.
        gate_sub_sample: φ has this kernel and stride too, and no bias (sononet); else φ is 1×1.
        activation: "relu", "softplus" or "none", before ψ.
        normalise: ψ's map by "sigmoid"; over all positions by "softmax", "sum" (divided by it), "shifted_sum" (the
            minimum taken off first) or "range" (to 0 … 1).
        norms: batch norm after each of θ (which then has a bias), φ and ψ.
        transform: after the gate "norm" (1×1 convolution and batch norm), "conv" (without the norm) or "none". None:
            what `variant` says.
        align_corners: of the linear resizing.
        return_map: return (y, α), α (N, 1, *S).
        variant: "official" (default: transform "norm") or "paper" ("none").
        hard: of normalise "sigmoid", gates of which some are exactly 0: "topk", "straight_through" or "gumbel" (in
            training with noise); the gradients of the last two are estimates. They are of θ's grid, and resized with
            sub_sample: a position of x between one that is on and one that is off has a share. None: soft gates.
        keep: of "topk": how many positions of that grid stay on, a whole number or a share between 0 and 1. None: half.
        temperature: of "gumbel", positive. None: 1.

    Shape: x (N, C, *S), g (N, gate_channels, *T) → y (N, C, *S), dtype of x. Gate: spatial (N, *S).
    Cost: C·w·k + gate_channels·w + C² weights (w the width, k the window's positions); C·w + C² multiply-adds a
        position of x and gate_channels·w one of g (the formula counts g on the grid of x).
    Init: He over the fan-in, biases torch's; norms N(1, 0.02) and 0. Sononet starts ψ's bias at 3 under the sigmoid and
        at 10 under the softmax.
    Raises: ValueError: unknown values, a width below 1, a map of another rank or width, another batch in g, a map
        smaller than the window.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        gate_channels: int | None = None,
        width: int | None = None,
        sub_sample: int | Sequence[int] = 2,
        gate_sub_sample: bool = False,
        activation: str = "relu",
        normalise: str = "sigmoid",
        norms: bool = False,
        transform: str | None = None,
        align_corners: bool = False,
        return_map: bool = False,
        variant: str = "official",
        hard: str | None = None,
        keep: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        check_dims("attention_gate", spatial_dims)
        one_of("attention_gate", "activation", activation, ACTIVATIONS)
        one_of("attention_gate", "normalise", normalise, NORMALISERS)
        one_of("attention_gate", "transform", transform, (*TRANSFORMS, None))
        one_of("attention_gate", "variant", variant, ("official", "paper"))
        self.switch = Switch("attention_gate", hard, keep, temperature)
        if hard is not None and normalise != "sigmoid":
            raise ValueError(f"attention_gate: hard goes with normalise='sigmoid'; got normalise={normalise!r}")
        gate_channels = channels if gate_channels is None else gate_channels
        width = max(channels // 2, 1) if width is None else width
        for option, value in (("gate_channels", gate_channels), ("width", width)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"attention_gate: {option} must be a positive whole number; got {value!r}")
        self.spatial_dims = spatial_dims
        self.window = _window(sub_sample, spatial_dims)
        self.activation, self.normalise = activation, normalise
        self.align_corners, self.return_map = align_corners, return_map
        if transform is None:
            transform = "norm" if variant == "official" else "none"
        layer, norm = conv(spatial_dims), batch_norm(spatial_dims)
        self.theta = layer(channels, width, self.window, self.window, bias=norms)
        gate_window = self.window if gate_sub_sample else 1
        self.phi = layer(gate_channels, width, gate_window, gate_window, bias=not gate_sub_sample)
        self.psi = layer(width, 1, 1)
        self.theta_norm = norm(width) if norms else None
        self.phi_norm = norm(width) if norms else None
        self.psi_norm = norm(1) if norms else None
        self.out = layer(channels, channels, 1) if transform != "none" else None
        self.norm = norm(channels) if transform == "norm" else None
        for learned in (self.theta, self.phi, self.psi, self.out):
            if learned is not None:
                nn.init.kaiming_normal_(learned.weight)
        for scaled in (self.theta_norm, self.phi_norm, self.psi_norm, self.norm):
            if scaled is not None:
                nn.init.normal_(scaled.weight, 1.0, 0.02)

    @property
    def channels(self) -> int:
        """C of the maps, read from the weights."""
        return self.theta.in_channels

    @property
    def gate_channels(self) -> int:
        """Channels of g, read from the weights."""
        return self.phi.in_channels

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and x.shape[2:] == like.shape[2:]:
            return x
        mode = _RESIZE[self.spatial_dims]
        return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=self.align_corners)

    def _normalised(self, logits: Tensor) -> Tensor:
        """α on the coarse grid, (N, 1, *T')."""
        if self.normalise == "sigmoid":
            return self.switch.gate(logits)
        flat = logits.flatten(2)
        match self.normalise:
            case "softmax":
                flat = torch.softmax(flat, 2, dtype=torch.promote_types(flat.dtype, torch.float32)).to(flat.dtype)
            case "sum":
                flat = flat / flat.sum(2, keepdim=True)
            case "shifted_sum":
                flat = flat - flat.amin(2, keepdim=True)
                flat = flat / flat.sum(2, keepdim=True).clamp_min(TINY)
            case "range":
                flat = flat - flat.amin(2, keepdim=True)
                flat = flat / flat.amax(2, keepdim=True).clamp_min(TINY)
        return flat.unflatten(2, logits.shape[2:])

    def forward(
        self, x: Float[Tensor, "n c *s"], g: Float[Tensor, "n k *t"]
    ) -> Float[Tensor, "n c *s"] | tuple[Float[Tensor, "n c *s"], Float[Tensor, "n 1 *s"]]:
        check_map("attention_gate", x, self.channels, self.spatial_dims, self.theta.weight)
        check_map("attention_gate: g", g, self.gate_channels, self.spatial_dims, self.theta.weight)
        if g.shape[0] != x.shape[0]:
            raise ValueError(f"attention_gate: wanted g in batches of x's {x.shape[0]}; got {g.shape[0]}")
        if any(size < window for size, window in zip(x.shape[2:], self.window, strict=True)):
            raise ValueError(
                f"attention_gate: wanted a map of at least sub_sample {self.window}; got {tuple(x.shape[2:])}"
            )
        theta, phi = self.theta(x), self.phi(g)
        if self.theta_norm is not None and self.phi_norm is not None:
            theta, phi = self.theta_norm(theta), self.phi_norm(phi)
        joint = theta + self._resize(phi, theta)
        if self.activation != "none":
            joint = F.relu(joint) if self.activation == "relu" else F.softplus(joint)
        logits = self.psi(joint)
        alpha = self._resize(self._normalised(logits if self.psi_norm is None else self.psi_norm(logits)), x)
        record(self, spatial=alpha.squeeze(1))
        y = x * alpha
        if self.out is not None:
            y = self.out(y)
        if self.norm is not None:
            y = self.norm(y)
        return (y, alpha) if self.return_map else y

    def extra_repr(self) -> str:
        return f"{self.channels}, gate_channels={self.gate_channels}, spatial_dims={self.spatial_dims}"


def _window(sub_sample: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    window = (sub_sample,) * spatial_dims if isinstance(sub_sample, int) else tuple(sub_sample)
    if len(window) != spatial_dims or any(not isinstance(w, int) or w < 1 for w in window):
        raise ValueError(
            f"attention_gate: sub_sample must be a whole number or {spatial_dims} of them; got {sub_sample!r}"
        )
    return window
