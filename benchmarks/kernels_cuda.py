"""The gates on a CUDA device against its copy, against timm's and against timm's compiled, interleaved in one run.

python benchmarks/kernels_cuda.py [--shape 64,256,56,56] [--dtypes float32,bfloat16] [--rounds 21] [--only se,cbam]
    [--out DIR]

Times are between two events of the device, medians over the rounds; before each, a write of 2 GiB empties the caches
and lets the host get ahead. "host" is how long the host took to start the step: where it is the longer, the device
waited. The maps' speed is that of what a forward pass must move, when no map stays in a cache, over that of the copy.
Limits are those of benchmarks/kernels.py. Memory is what a training step allocates at its peak.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import triton
from kernels import PEERS, STEPS, limit_of
from timm.layers.create_attn import create_attn
from torch import Tensor, nn

import foveate
from foveate.costs.latency import forward_step
from foveate.kernels import gate_map, why_not

# How many maps a forward pass reads or writes.
MOVED = {"gate_map": 2, "se": 3, "eca": 3, "ca": 3, "cbam": 4, "gc": 3, "sa": 2, "sge": 2}
FLUSH = 2 << 30
HEADER = (
    *("", "forward, ms", "host, ms", "÷ limit", "of the copy's speed", "timm ÷ ours", "compiled timm ÷ ours"),
    *("training step, ms", "host, ms", "÷ limit", "timm ÷ ours", "compiled timm ÷ ours"),
    *("peak, MiB", "÷ timm's", "÷ compiled timm's"),
)


class GateAlone(nn.Module):
    """x · gate: the pass that every mechanism ends with."""

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.gate = nn.Parameter(gate)

    def forward(self, x: Tensor) -> Tensor:
        return gate_map(x, channel=self.gate)


class PlainGate(GateAlone):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate[:, :, None, None]


def training_step(module: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], object]:
    """Forward, and backward to the map and the parameters; keeps nothing."""
    wanted = [x.detach().requires_grad_(), *module.parameters()]
    return lambda: torch.autograd.grad(module(wanted[0]), wanted, dy)


def time_on_device(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds on the device and on the host of every step, medians over the rounds."""
    emptied = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
    for step in steps.values():
        for _ in range(3):  # compiles, chooses algorithms, fills the allocator's cache
            step()
    device: dict[str, list[float]] = {name: [] for name in steps}
    host: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            emptied.zero_()
            start.record()
            began = time.perf_counter()
            step()
            host[name].append(1e3 * (time.perf_counter() - began))
            end.record()
            end.synchronize()
            device[name].append(start.elapsed_time(end))
    return {name: (statistics.median(device[name]), statistics.median(host[name])) for name in steps}


def peak_mib(step: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def modules_of(name: str, x: Tensor) -> dict[str, nn.Module]:
    if name == "gate_map":
        gate = torch.rand(x.shape[:2], dtype=x.dtype, device=x.device)
        made = {"ours": GateAlone(gate), "timm": PlainGate(gate)}
    else:
        made = {"ours": foveate.create_attention(name, x.shape[1])}
        if name in PEERS:
            made["timm"] = create_attn(PEERS[name], x.shape[1])
    made = {who: module.to(x.device, x.dtype) for who, module in made.items()}
    return made | {"compiled": torch.compile(made["timm"])} if "timm" in made else made


def one_table(shape: list[int], dtype: torch.dtype, names: list[str], rounds: int) -> list[str]:
    x, dy = (torch.randn(shape, dtype=dtype, device="cuda") for _ in range(2))
    flat = x.flatten(), dy.flatten()
    steps: dict[str, Callable[[], object]] = {"R": x.sum, "D": lambda: torch.dot(*flat), "C": x.clone}
    for name in names:
        for who, module in modules_of(name, x).items():
            steps[f"{name} forward {who}"] = forward_step(module, x)
            steps[f"{name} training {who}"] = training_step(module, x, dy)
    taken = time_on_device(steps, rounds)
    peak = {name: peak_mib(step) for name, step in steps.items() if " training " in name}
    units = {unit: taken[unit][0] for unit in "RDC"}
    lines = [
        f"### {'×'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}",
        "",
        f"read {units['R']:.3f} ms, read of two {units['D']:.3f} ms, copy {units['C']:.3f} ms"
        f" ({2 * x.nbytes / units['C'] / 1e6:.0f} GB/s); medians of {rounds} interleaved rounds",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
    ]
    for name in names:
        cells = [name]
        for kind in ("forward", "training"):
            own, host = taken[f"{name} {kind} ours"]
            formula = {"forward": "R + C", "training": STEPS.get(name, "C + D + C")}[kind]
            least = units["C"] if (name, kind) == ("gate_map", "forward") else limit_of(formula, units)
            cells += [f"{own:.3f}", f"{host:.3f}", f"{own / least:.2f}"]
            if kind == "forward":
                cells.append(f"{100 * MOVED[name] / 2 * units['C'] / own:.0f} %")
            peers = [taken.get(f"{name} {kind} {who}") for who in ("timm", "compiled")]
            cells += ["" if peer is None else f"{peer[0] / own:.2f}" for peer in peers]
        memory = [peak.get(f"{name} training {who}") for who in ("timm", "compiled")]
        own = peak[f"{name} training ours"]
        cells += [f"{own:.0f}", *("" if other is None else f"{own / other:.2f}" for other in memory)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", default="64,256,56,56", help="larger than the caches of the device")
    options.add_argument("--dtypes", default="float32,bfloat16", help="with commas")
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--only", default=",".join(MOVED), help="gate_map and mechanisms, with commas")
    options.add_argument("--out", type=Path, help="a folder to write kernels_cuda.md to")
    arguments = options.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in MOVED]:
        sys.exit(mistake(f"--only takes {', '.join(MOVED)}; got {', '.join(unknown)}"))
    if not torch.cuda.is_available():
        sys.exit(mistake("needs a CUDA device; torch sees none"))
    if reason := why_not("triton", torch.ones(1, 1, 1, device="cuda")):
        sys.exit(mistake(reason))
    lines = [
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}, Triton"
        f" {triton.__version__}, timm {timm.__version__}, foveate {foveate.__version__}, Python"
        f" {platform.python_version()}",
        "",
    ]
    for dtype in arguments.dtypes.split(","):
        lines += one_table([int(n) for n in arguments.shape.split(",")], getattr(torch, dtype), names, arguments.rounds)
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "kernels_cuda.md").write_text("# The gates on a CUDA device\n\n" + text, encoding="utf-8")


def mistake(text: str) -> int:
    print(f"kernels_cuda.py: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
