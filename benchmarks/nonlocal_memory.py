"""Attention over pairs against its official forms with the map of all pairs: memory and time of a training step.

python benchmarks/nonlocal_memory.py [--only "nl gaussian" …] [--size 112 112] [--threads 1] [--rounds 1]

Each figure is of a step forward and backward in a process of its own, started afresh: the highest resident memory above
that before its first step, and the median time of the two steps after it. The sides take turns; medians are told, as a
table in Markdown. Where an official form's pairs would not fit it is left out; both are told at a third of the size.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pair_rows import ROWS, Official, pairs_gib
from torch import Tensor

MOST_GIB = 8  # of pairs, beyond which an official form is not run


def resident(key: str) -> float:
    """VmRSS or VmHWM of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measure(name: str, side: str, size: tuple[int, ...], threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    row = ROWS[name]

    def made(size: tuple[int, ...]) -> Callable[[], Tensor]:
        torch.manual_seed(0)
        ours = row.build(size).train()
        with torch.no_grad():
            for key, value in ours.named_parameters():
                if key in ("gamma", "norm.weight") or key.startswith("add."):
                    value.fill_(1.0 if "norm" in key or key == "gamma" else 0.1)
        module = ours if side == "ours" else Official(ours, row.official)
        x = torch.randn(1, row.channels, *size)

        def step() -> Tensor:
            given = x.detach().requires_grad_()
            module.zero_grad()
            loss = module(given).square().mean()
            if row.mechanism == "iastp":
                loss = loss + (sum(t.sum() for t in ours.losses()) if side == "ours" else ours.loss.sum())  # type: ignore
            loss.backward()
            assert given.grad is not None
            return given.grad

        return step

    made(tuple(min(s, 16) for s in size))()  # what torch and its libraries set up once
    step = made(size)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before = resident("VmRSS")
    gradient = step()
    found = {"mib": resident("VmHWM") - before, "check": gradient.double().norm().item()}
    del gradient
    times = []
    for _ in range(2):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return found | {"s": statistics.median(times)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--size", type=int, nargs="+", default=(112, 112), help="of maps that have none of their own"
    )
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--only", choices=ROWS, nargs="+", default=list(ROWS), metavar="ROW", help=f"of {[*ROWS]}")
    arguments.add_argument("--out", type=Path, default=None, help="a JSON file for the figures")
    arguments.add_argument("--one", choices=("ours", "official"), help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.only[0], asked.one, tuple(asked.size), asked.threads)))
        return
    machine = f"{processor()}, torch {torch.__version__}, Python {platform.python_version()}"
    facts = f"float32, batch 1, training step, {asked.threads} thread{'s' * (asked.threads > 1)}"
    print(f"{facts}; {machine}\n{asked.rounds} round{'s' * (asked.rounds > 1)}; memory above that before the step\n")
    print("| | map | MiB: ours | official | | ms: ours | official | |\n|---|---|---|---|---|---|---|---|")
    rows = []
    for name in asked.only:
        size = ROWS[name].size or tuple(asked.size)
        sizes = [size]
        if pairs_gib(name, size) > MOST_GIB:  # and at a size where the official form fits
            sizes.append(tuple(side // 3 for side in size))
        for size in sizes:
            found: dict[str, list[dict[str, float]]] = {"ours": [], "official": []}
            for _ in range(asked.rounds):
                for side, runs in found.items():
                    if side == "ours" or pairs_gib(name, size) <= MOST_GIB:
                        runs.append(fresh(name, side, size, asked.threads))
            row: dict[str, Any] = {"name": name, "size": size, "channels": ROWS[name].channels}
            row |= {"threads": asked.threads, "rounds": asked.rounds}
            for side, runs in found.items():
                for key in ("mib", "s", "check") if runs else ():
                    row[f"{side}_{key}"] = statistics.median(run[key] for run in runs)
            rows.append(row)
            print(told(row), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps({"what": facts, "machine": machine, "rows": rows}, indent=1) + "\n")


def told(row: dict[str, Any]) -> str:
    """The row in Markdown. The gradients of both sides must have one norm, else there is nothing to compare."""
    start = f"| {row['name'].replace('_', ' ')} | {row['channels']}×{'×'.join(map(str, row['size']))} "
    mib, ms = row["ours_mib"], 1e3 * row["ours_s"]
    if "official_s" not in row:
        return f"{start}| {mib:.0f} | does not fit | | {ms:.0f} | | |"
    assert abs(row["ours_check"] / row["official_check"] - 1) < 1e-4, row
    quicker = row["official_s"] / row["ours_s"]
    less = f"{row['official_mib'] / mib:.1f}× less" if mib >= 1 else ""
    return (
        f"{start}| {mib:.0f} | {row['official_mib']:.0f} | {less} "
        f"| {ms:.0f} | {1e3 * row['official_s']:.0f} | {quicker:.2f}× |"
    )


def fresh(name: str, side: str, size: tuple[int, ...], threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, "--only", name, f"--threads={threads}"]
    command += ["--size", *map(str, size)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
