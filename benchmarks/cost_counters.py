"""Five counters of multiply-adds against ours on ten networks: writes docs/cost_counters.md.

    pip install --target PEERS --no-deps fvcore iopath yacs portalocker tabulate termcolor ptflops torchinfo thop
    PYTHONPATH=PEERS python benchmarks/cost_counters.py [--out docs/cost_counters.md]

For each counter a rule says, from our own rows, what it leaves out and adds; the page gives what the rule leaves.
"""

import argparse
import contextlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import foveate
from foveate.counting import Count, Row, count


def wrapped(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = timm.create_model("resnet50")
        foveate.insert(network, name, at="block", example=torch.randn(1, 3, 224, 224))
        return network

    return build


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "non-local block, 64 ch, 28×28": (lambda: foveate.create_attention("nl", 64), (1, 64, 28, 28)),
    "torchvision resnet50": (torchvision.models.resnet50, (1, 3, 224, 224)),
    "timm resnet50 + se": (wrapped("se"), (1, 3, 224, 224)),
    "timm resnet50 + cbam": (wrapped("cbam"), (1, 3, 224, 224)),
    "timm mobilenetv3_large_100": (lambda: timm.create_model("mobilenetv3_large_100"), (1, 3, 224, 224)),
    "timm convnext_tiny": (lambda: timm.create_model("convnext_tiny"), (1, 3, 224, 224)),
    "timm vit_tiny_patch16_224": (lambda: timm.create_model("vit_tiny_patch16_224"), (1, 3, 224, 224)),
    "torchvision vit_b_16": (torchvision.models.vit_b_16, (1, 3, 224, 224)),
    "timm swin_tiny_patch4_window7_224": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224"),
        (1, 3, 224, 224),
    ),
    "foveate resnet56 (CIFAR)": (lambda: foveate.create_network("resnet56", num_classes=10), (1, 3, 32, 32)),
}


def torch_counter(model: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() / 2


def fvcore(model: nn.Module, x: torch.Tensor) -> float:
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return float(FlopCountAnalysis(model, x).unsupported_ops_warnings(False).total())


def ptflops(model: nn.Module, x: torch.Tensor) -> float:
    from ptflops import get_model_complexity_info

    found, _ = get_model_complexity_info(
        model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    return float(found)


def torchinfo(model: nn.Module, x: torch.Tensor) -> float:
    from torchinfo import summary

    return float(summary(model, input_data=x, verbose=0).total_mult_adds)


def thop(model: nn.Module, x: torch.Tensor) -> float:
    from thop import profile

    found, _ = profile(model, inputs=(x,), verbose=False)
    return float(found)


COUNTERS = {
    "torch": torch_counter,
    "fvcore": fvcore,
    "ptflops": ptflops,
    "torchinfo": torchinfo,
    "thop": thop,
}


@dataclass
class Parts:
    """What our rows say of one network, in multiply-adds or elements."""

    ours: Count
    model: nn.Module

    def macs(self, keep: Callable[[Row, nn.Module], bool]) -> int:
        modules = dict(self.model.named_modules())
        return sum(row.macs for row in self.ours.rows if row.macs and keep(row, modules[row.module]))

    def elements(self, operator: str, exactly: type | None = None) -> int:
        modules = dict(self.model.named_modules())
        rows = [row for row in self.ours.rows if row.operator == f"aten.{operator}"]
        if exactly:
            rows = [row for row in rows if type(modules[row.module]) is exactly]
        return sum(torch.Size(row.inputs[0]).numel() for row in rows)

    def within(self, kind: type) -> list[str]:
        return [name for name, module in self.model.named_modules() if isinstance(module, kind)]


def is_attention(row: Row, module: nn.Module) -> bool:
    return "scaled_dot_product" in row.operator


def explained_torch(parts: Parts) -> float:
    hidden = parts.within(nn.MultiheadAttention)
    return parts.ours.macs - parts.macs(lambda row, _: row.module in hidden)


def explained_fvcore(parts: Parts) -> float:
    pooled = parts.elements("mean", nn.AdaptiveAvgPool2d) + parts.elements("_adaptive_avg_pool2d")
    norms = 2 * parts.elements("native_batch_norm") + 5 * parts.elements("native_layer_norm")
    return parts.ours.macs - parts.macs(is_attention) + norms + pooled


def explained_torchinfo(parts: Parts) -> float:
    convolutions = parts.macs(lambda row, _: row.operator == "aten.convolution")
    convolutions += sum(row.elementwise for row in parts.ours.rows if row.operator == "aten.convolution")
    hidden = [f"{name}." for name in parts.within(nn.MultiheadAttention)]
    rest = 0
    for name, module in parts.model.named_modules():
        if any(module.children()) or isinstance(module, nn.modules.conv._ConvNd) or name.startswith(tuple(hidden)):
            continue
        calls = sum(row.module == name and row.operator in ("aten.addmm", "aten.mm") for row in parts.ours.rows)
        rest += max(1, calls) * sum(p.numel() for p in module.parameters(recurse=False))
    return convolutions + rest


def explained_thop(parts: Parts) -> float:
    plain = (nn.Linear, nn.Conv2d, nn.Conv1d)
    seen = parts.macs(lambda row, module: type(module) in plain)
    norms = sum(
        4 * parts.elements(f"native_{name}", kind)
        for name, kind in (("batch_norm", nn.BatchNorm2d), ("batch_norm", nn.BatchNorm1d), ("layer_norm", nn.LayerNorm))
    )
    return seen + norms


EXPLAINED = {
    "torch": explained_torch,
    "fvcore": explained_fvcore,
    "torchinfo": explained_torchinfo,
    "thop": explained_thop,
}


def explained_ptflops(parts: Parts) -> float:
    """The products that it sees; linear layers inside timm's attention give way to the attention's own figure."""
    modules = dict(parts.model.named_modules())

    def dropped(row: Row, _: nn.Module) -> bool:
        above = modules.get(row.module.rpartition(".")[0])
        known = type(above).__name__ == "Attention" and type(above).__module__.startswith("timm")
        return known or row.operator == "aten.bmm" or (is_attention(row, _) and row.module == "")

    return parts.ours.macs - parts.macs(dropped)


EXPLAINED["ptflops"] = explained_ptflops

TEXT = """# Five counters and ours

Multiply-adds of one image on ten networks, in millions: torch's `FlopCounterMode` (its FLOPs halved), fvcore, ptflops,
torchinfo and thop, and `foveate.counting.count`. Written by `benchmarks/cost_counters.py` with {versions}.
A multiply-add is two FLOPs; of these counters, only torch's counts both.

{figures}

## Where the differences come from

For each counter a rule, computed from our own rows, of what it leaves out and adds; the table gives what is left of the
counter's figure after it.

{rests}

* **torch** is ours wherever its operators are known. In evaluation mode `nn.MultiheadAttention` takes one fused
  operator, `_native_multi_head_attention`, which has no formula: all products of the attention count as 0 (vit_b_16).
  We switch the fused path off while counting. On torch 2.11 the attention operator of the CPU has no formula either; we
  bring one.
* **fvcore** does not know `scaled_dot_product_attention` and leaves its two products out. It adds elementwise work as
  multiply-adds: 2 for each element of a batch norm, 5 for each of a layer norm, and the inputs of adaptive pooling.
* **torchinfo** sees convolutions with their biases and, for every other module without children, its number of
  parameters once a call and sample: a linear layer over tokens counts once, not once a token, `nn.MultiheadAttention`
  and products without a module (attention, matmul, einsum) not at all. What is left in Swin: windows stand in the
  batch axis, so that linear layers count once a window.
* **thop** sees modules of exactly the types that it lists. Left out are products in functions (attention, the matmul of
  shifted windows), `nn.MultiheadAttention` wholly, and subclasses: timm's linear classifier and norms, and the hosts
  that carry attention by class swap. It adds 4 for each element of a norm; what is left is pooling and softmax.
* **ptflops** counts biases, norms, activations, pooling and additions as multiply-adds: that is what is left. Its hook
  for timm's `Attention` gives the module a figure of its own, and the two linear layers inside fall out of the sum; the
  `@` of Swin's windows and the attention of our non-local block are not seen.

Elementwise operations and reductions are no multiply-adds. Ours gives them by themselves (`elementwise`, `reductions`),
beside the bytes that they move, which is what they cost.
"""


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, default=Path("docs/cost_counters.md"))
    asked = arguments.parse_args()
    figures, rests = [], []
    for name, (build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        x = torch.randn(shape)
        model = build().eval()
        parts = Parts(count(model, x, kept=False), model)
        assert not parts.ours.unknown, parts.ours.unknown
        found = {}
        for counter, run in COUNTERS.items():
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                found[counter] = run(build().eval(), x)
        millions = [f"{value / 1e6:,.2f}" for value in (parts.ours.macs, *found.values())]
        left = [f"{(value - EXPLAINED[counter](parts)) / 1e6:+.3f}" for counter, value in found.items()]
        figures.append([name, *millions])
        rests.append([name, *left])
        print(name, millions, left)
    names = ("torch", "torchvision", "timm", "fvcore", "ptflops", "torchinfo", "thop")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    asked.out.write_text(
        TEXT.format(
            versions=versions,
            figures=table(["network", "ours", *COUNTERS], figures),
            rests=table(["network, millions left", *COUNTERS], rests),
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
