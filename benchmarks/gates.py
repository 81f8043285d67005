"""Our se, eca and cbam against timm's, interleaved in one run: forward, and forward with backward.

python benchmarks/gates.py [--threads 1] [--rounds 15]
"""

import argparse

import torch
from timm.layers import CbamModule, EcaModule, SEModule

import foveate
from foveate.costs._latency import interval_of_the_median, time_interleaved


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=15)
    asked = arguments.parse_args()
    torch.set_num_threads(asked.threads)
    x = torch.randn(8, 256, 56, 56)
    pairs = {"se": SEModule(256, rd_divisor=1), "eca": EcaModule(256), "cbam": CbamModule(256)}
    print(f"8×256×56×56 float32, {asked.threads} threads, torch {torch.__version__}")
    print("time of timm's ÷ time of ours (95 % interval of the median); above 1, ours is quicker")
    for name, peer in pairs.items():
        ours = foveate.create_attention(name, 256)
        for kind in ("forward", "training step"):
            steps = {"ours": step(ours, x, kind), "peer": step(peer, x, kind)}
            samples = time_interleaved(steps, repeats=asked.rounds, budget_s=60)
            ratios = [b / a for a, b in zip(samples["ours"], samples["peer"], strict=True)]
            found = interval_of_the_median(ratios)
            print(f"{name:5} {kind:14} {found.median:5.2f} ({found.low:.2f} to {found.high:.2f})")


def step(module: torch.nn.Module, x: torch.Tensor, kind: str):
    def forward() -> None:
        with torch.inference_mode():
            module(x)

    def training() -> None:
        given = x.detach().requires_grad_()
        module(given).sum().backward()

    return forward if kind == "forward" else training


if __name__ == "__main__":
    main()
