"""Primitives against plain torch, interleaved in one run: forward, training step and bytes saved, in both layouts.

python benchmarks/kernel_forms.py [--shape 8,256,56,56] [--threads 1] [--rounds 21] [--only strips,joined,branches]

strips: rows and columns pooled, and the map scaled by them. joined: a gated map and another, added, then a ReLU; plain
torch adds and ends with a ReLU in place, behind the gate's own pass. branches: two maps pooled together and mixed.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from kernels import kept_bytes
from torch import Tensor, nn

from foveate.costs.latency import time_interleaved
from foveate.kernels import (
    accumulate_branch_gradients,
    accumulate_gradient,
    gate_map,
    gate_strips,
    mix_branches,
    pool_branches,
    pool_strips,
)

Run = Callable[..., Tensor]


def strips(impl: str, x: Tensor) -> Tensor:
    accumulated = accumulate_gradient(x, impl=impl)
    rows, columns = pool_strips(accumulated)
    return gate_strips(accumulated, torch.sigmoid(rows), torch.sigmoid(columns))


def joined(impl: str, x: Tensor, other: Tensor, gate: Tensor) -> Tensor:
    if impl == "cpu":
        return gate_map(x, channel=gate, residual=other, activation="relu")
    y = gate_map(x, channel=gate)
    return torch.relu_(y + other if torch.is_grad_enabled() else y.add_(other))


def branches(impl: str, x: Tensor, other: Tensor, gate: Tensor) -> Tensor:
    both = accumulate_branch_gradients([x, other], impl=impl)
    return mix_branches(both, torch.stack([gate, 1 - gate], 1) * pool_branches(both).unsqueeze(1))


RUNS: dict[str, tuple[Run, int]] = {"strips": (strips, 1), "joined": (joined, 3), "branches": (branches, 3)}


class Form(nn.Module):
    """One of them in one form, on inputs of its own."""

    def __init__(self, run: Run, impl: str, inputs: list[Tensor]) -> None:
        super().__init__()
        self.run, self.impl, self.inputs = run, impl, [t.clone().requires_grad_() for t in inputs]

    def forward(self, *_: Tensor) -> Tensor:
        return self.run(self.impl, *self.inputs)

    def step(self, dy: Tensor) -> None:
        for t in self.inputs:
            t.grad = None
        self().backward(dy)


def compared(name: str, shape: list[int], last: bool, rounds: int) -> list[str]:
    run, count = RUNS[name]
    maps = [torch.randn(shape) for _ in range(3)]
    if last:
        maps = [x.movedim(1, -1).contiguous().movedim(-1, 1) for x in maps]
    *maps, dy = maps
    forms = {impl: Form(run, impl, [*maps, torch.rand(shape[:2])][:count]) for impl in ("reference", "cpu")}
    steps: dict[str, Callable[[], object]] = {}
    for impl, form in forms.items():
        steps[f"forward {impl}"] = torch.no_grad()(form.forward)
        steps[f"training {impl}"] = lambda form=form: form.step(dy)
    samples = time_interleaved(steps, repeats=rounds, budget_s=60)
    kept = {impl: kept_bytes(form, maps[0]) for impl, form in forms.items()}
    cells = [name, "last" if last else "first"]
    for kind in ("forward", "training"):
        ours, plain = samples[f"{kind} cpu"], samples[f"{kind} reference"]
        cells.append(f"{statistics.median(ours):.2f}")
        cells.append(f"{statistics.median(b / a for a, b in zip(ours, plain, strict=True)):.2f}")
    return [*cells, f"{kept['cpu'] / kept['reference']:.2f}"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", default="8,256,56,56")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=21)
    options.add_argument("--only", default=",".join(RUNS), help="strips, joined, branches, with commas")
    arguments = options.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        options.error(f"--only takes {', '.join(RUNS)}; got {unknown[0]!r}")
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.shape.replace(',', '×')} float32, threads: {arguments.threads}, torch {torch.__version__}\n")
    print("| | channels | forward, ms | plain ÷ ours | training step, ms | plain ÷ ours | kept ÷ plain's |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        for last in (False, True):
            cells = compared(name, [int(n) for n in arguments.shape.split(",")], last, arguments.rounds)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
