"""The non-local block and position attention against their official forms with the N×N map: memory and time.

python benchmarks/nonlocal_memory.py [--side 112] [--channels 64] [--threads 1] [--rounds 3] [--out FILE.json]

Each figure is of a training step (forward and backward) in a process of its own, started afresh: the highest resident
memory above that before the step, and the time of the second step. The sides take turns; medians are told.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import foveate

OURS = {
    "nl embedded_gaussian": ("nl", {}),
    "nl gaussian": ("nl", {"form": "gaussian"}),
    "nl dot_product": ("nl", {"form": "dot_product"}),
    "nl concatenation": ("nl", {"form": "concatenation"}),
    "danet_position": ("danet_position", {}),
}
SMALLER = {
    "nl concatenation": 3
}  # the official form holds 2·w numbers a pair: 38 GiB at 112×112, so a third of the side


class Official(nn.Module):
    """What the official forms compute, with every pair held; the weights are those of our module."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, x: Tensor) -> Tensor:
        ours = self.ours
        if isinstance(ours, foveate.attention.attention_class("danet_position")):
            q, k, v = (layer(x).flatten(2) for layer in (ours.query, ours.key, ours.value))
            weights = torch.softmax(q.mT @ k, -1)
            return x + ours.gamma * (v @ weights.mT).unflatten(2, x.shape[2:])
        g = ours.g(x).flatten(2).mT
        theta, phi = ((x if layer is None else layer(x)).flatten(2) for layer in (ours.theta, ours.phi))
        if ours.form == "concatenation":
            pairs = torch.cat(
                [
                    theta.unsqueeze(3).expand(-1, -1, -1, phi.shape[2]),
                    phi.unsqueeze(2).expand(-1, -1, theta.shape[2], -1),
                ],
                1,
            )
            weights = torch.relu(torch.einsum("c,ncpk->npk", ours.join, pairs)) / phi.shape[2]
        else:
            weights = theta.mT @ phi
            weights = weights / phi.shape[2] if ours.form == "dot_product" else torch.softmax(weights * ours.scale, -1)
        mixed = (weights @ g).mT.contiguous().unflatten(2, x.shape[2:])
        return x + ours.norm(ours.out(mixed))


def resident(key: str) -> float:
    """VmRSS or VmHWM of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measure(name: str, side: str, channels: int, size: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    attention, options = OURS[name]
    module = foveate.create_attention(attention, channels, **options).train()
    with torch.no_grad():
        (module.gamma if attention == "danet_position" else module.norm.weight).fill_(1.0)
    module = module if side == "ours" else Official(module)

    def step(x: Tensor) -> Tensor:
        given = x.detach().requires_grad_()
        module(given).square().mean().backward()
        assert given.grad is not None
        return given.grad

    step(torch.randn(1, channels, 8, 8))  # what torch and its libraries set up once
    x = torch.randn(1, channels, size, size)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = resident("VmRSS")
    gradient = step(x)
    peak = resident("VmHWM") - before
    started = time.perf_counter()
    step(x)
    return {"mib": peak, "s": time.perf_counter() - started, "check": gradient.double().norm().item()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side", type=int, default=112, help="of the map, positions")
    arguments.add_argument("--channels", type=int, default=64)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", choices=OURS, nargs="+", default=list(OURS))
    arguments.add_argument("--out", type=Path, default=None, help="a JSON file for the figures")
    arguments.add_argument("--one", choices=("ours", "official"), help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.only[0], asked.one, asked.channels, asked.side, asked.threads)))
        return
    facts = f"1×{asked.channels}×{asked.side}×{asked.side} float32, training step, {asked.threads} threads"
    machine = f"{processor()}, torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{facts}\n{machine}\nmedians of {asked.rounds}; memory above that before the step")
    rows = []
    for name in asked.only:
        found: dict[str, list[dict[str, float]]] = {"ours": [], "official": []}
        for _ in range(asked.rounds):
            for side, runs in found.items():
                runs.append(fresh(name, side, asked))
        row: dict[str, Any] = {"name": name, "side": asked.side // SMALLER.get(name, 1)}
        for side, runs in found.items():
            row |= {f"{side}_{key}": statistics.median(run[key] for run in runs) for key in ("mib", "s", "check")}
        rows.append(row)
        less, quicker = (row[f"official_{key}"] / row[f"ours_{key}"] for key in ("mib", "s"))
        apart = abs(row["ours_check"] / row["official_check"] - 1)
        print(
            f"{name:20} {row['side']:4}²  {row['ours_mib']:5.0f} MiB against {row['official_mib']:5.0f} ({less:5.1f}×)"
            f"  {row['ours_s']:6.2f} s against {row['official_s']:6.2f} ({quicker:4.2f}×)"
            f"  gradients' norms apart by {apart:.0e}",
            flush=True,
        )
    if asked.out:
        asked.out.write_text(json.dumps({"what": facts, "machine": machine, "rows": rows}, indent=1) + "\n")


def fresh(name: str, side: str, asked: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, "--only", name]
    command += [f"--side={asked.side // SMALLER.get(name, 1)}", f"--channels={asked.channels}"]
    command += [f"--threads={asked.threads}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
