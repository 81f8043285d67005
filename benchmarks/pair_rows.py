"""The rows of the benchmark of attention over pairs: each mechanism and its official form, which holds every pair."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveate
from foveate.attention import iastp
from foveate.networks.umixformer import MixAttention


# ---- the official forms, with the weights of our module -------------------------------------------------------------
def non_local(ours: Any, x: Tensor) -> Tensor:
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[x.dim() - 2]
    source = pool(x, ours.window) if ours.window else x
    g = ours.g(source).flatten(2).mT
    theta = (x if ours.theta is None else ours.theta(x)).flatten(2)
    phi = (source if ours.phi is None else ours.phi(source)).flatten(2)
    if ours.form == "concatenation":
        every = (-1, -1, theta.shape[2], phi.shape[2])
        pairs = torch.cat([theta.unsqueeze(3).expand(every), phi.unsqueeze(2).expand(every)], 1)
        weights = torch.relu(torch.einsum("c,ncpk->npk", ours.join, pairs)) / phi.shape[2]
    else:
        weights = theta.mT @ phi
        weights = weights / phi.shape[2] if ours.form == "dot_product" else torch.softmax(weights * ours.scale, -1)
    mixed = (weights @ g).mT.contiguous().unflatten(2, x.shape[2:])
    return x + ours.norm(ours.out(mixed))


def position(ours: Any, x: Tensor) -> Tensor:
    q, k, v = (layer(x).flatten(2) for layer in (ours.query, ours.key, ours.value))
    weights = torch.softmax(q.mT @ k, -1)
    return x + ours.gamma * (v @ weights.mT).unflatten(2, x.shape[2:])


def channel(ours: Any, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    energy = flat @ flat.mT
    weights = torch.softmax(energy.amax(-1, keepdim=True).expand_as(energy) - energy, -1)
    return x + ours.gamma * (weights @ flat).unflatten(2, x.shape[2:])


def context(ours: Any, x: Tensor) -> Tensor:
    weights = torch.softmax(ours.mask(x).flatten(2), -1)
    pooled = (x.flatten(2) @ weights.mT).squeeze(2)
    return x + ours.add(pooled).unflatten(1, (-1, *(1,) * (x.dim() - 2)))


def pyramid(ours: Any, x: Tensor) -> Tensor:
    seen = ours.attend(x)
    own = [torch.softmax(y, -1) for y in seen.y]
    ours.loss = iastp.interactive_loss(seen.normed, seen.x) + iastp.attention_loss(seen.softmax, own)
    return seen.m.mT.unflatten(2, x.shape[2:])


def heads(queries: Tensor, keys: Tensor, values: Tensor, count: int) -> Tensor:
    q, k, v = (t.unflatten(2, (count, -1)).transpose(1, 2) for t in (queries, keys, values))
    weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)
    return (weights @ v).transpose(1, 2).flatten(2)


def reduced(ours: Any, x: Tensor) -> Tensor:
    tokens = ours.before(x.flatten(2).mT)
    source = tokens
    if ours.reduce is not None:
        source = ours.norm(ours.reduce(tokens.mT.unflatten(2, x.shape[2:])).flatten(2).mT)
    mixed = heads(ours.query(tokens), *ours.key_value(source).chunk(2, -1), ours.heads)
    return x + ours.out(mixed).mT.unflatten(2, x.shape[2:])


class Mixed(nn.Module):
    """U-MixFormer's attention of a map's positions to those of a grid an eighth as wide, of 256 channels."""

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__()
        self.inner = MixAttention(channels, 256, **options)
        self.grid = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(channels, 256, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.grid(x).flatten(2).mT
        return self.inner(x.flatten(2).mT, y).mT.unflatten(2, x.shape[2:])


def mixed(ours: Any, x: Tensor) -> Tensor:
    inner, y = ours.inner, F.gelu(ours.grid(x).flatten(2).mT)
    tokens = heads(inner.query(x.flatten(2).mT), *inner.key_value(y).chunk(2, -1), inner.heads)
    return inner.out(tokens).mT.unflatten(2, x.shape[2:])


# ---- what is measured -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """A mechanism, its official form and its options."""

    mechanism: str
    official: Callable[[Any, Tensor], Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    channels: int = 64
    size: tuple[int, ...] = ()  # its own, where it is not the size asked for

    def build(self, size: tuple[int, ...]) -> nn.Module:
        options = dict(self.options)
        if self.mechanism == "mix":
            return Mixed(self.channels, **options)
        if self.mechanism == "iastp":
            options["size"] = size
        return foveate.create_attention(self.mechanism, self.channels, spatial_dims=len(size), **options)


ROWS = {
    "nl embedded_gaussian": Row("nl", non_local),
    "nl gaussian": Row("nl", non_local, {"form": "gaussian"}),
    "nl dot_product": Row("nl", non_local, {"form": "dot_product"}),
    "nl concatenation": Row("nl", non_local, {"form": "concatenation"}),
    "nl embedded_gaussian, pooled": Row("nl", non_local, {"sub_sample": True}),
    "nl gaussian, pooled": Row("nl", non_local, {"form": "gaussian", "sub_sample": True}),
    "nl dot_product, pooled": Row("nl", non_local, {"form": "dot_product", "sub_sample": True}),
    "nl concatenation, pooled": Row("nl", non_local, {"form": "concatenation", "sub_sample": True}),
    "danet_position": Row("danet_position", position),
    "danet_channel": Row("danet_channel", channel),
    "gc": Row("gc", context),
    "iastp with losses": Row("iastp", pyramid, size=(63, 77)),
    "sra": Row("sra", reduced, {"reduction": 2}),
    "nl embedded_gaussian, signal": Row("nl", non_local, size=(12544,)),
    "nl embedded_gaussian, clip": Row("nl", non_local, size=(8, 28, 28)),
    "nl embedded_gaussian, clip, pooled": Row("nl", non_local, {"sub_sample": True}, size=(8, 28, 28)),
    "nl concatenation, clip": Row("nl", non_local, {"form": "concatenation"}, size=(8, 28, 28)),
    "MiT-B0, stage 1": Row("sra", reduced, {"heads": 1, "reduction": 8}, 32, (128, 128)),
    "MiT-B0, stage 2": Row("sra", reduced, {"heads": 2, "reduction": 4}, 64, (64, 64)),
    "MiT-B1, stage 1, 8 heads": Row("sra", reduced, {"heads": 8, "reduction": 8}, 64, (128, 128)),
    "mix-attention, 128×128, 1 head": Row("mix", mixed, {"heads": 1}, 32, (128, 128)),
    "mix-attention, 64×64, 8 heads": Row("mix", mixed, {"heads": 8}, 256, (64, 64)),
}


def pairs_gib(name: str, size: tuple[int, ...]) -> float:
    """What the official form holds of pairs, about: six numbers of each, of the concatenation's vectors three."""
    row, queries = ROWS[name], math.prod(size)
    pooled = math.prod(min(2, side) for side in size[-2:]) if row.options.get("sub_sample") else 1
    each = {"gc": 0, "danet_channel": 0, "mix": 6 / 64}.get(row.mechanism, 6 / row.options.get("reduction", 1) ** 2)
    if row.options.get("form") == "concatenation":
        each = 3 * row.channels
    return queries**2 / pooled * each * 4 / 2**30


class Official(nn.Module):
    def __init__(self, ours: nn.Module, form: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.ours, self.form = ours, form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self.ours, x)
