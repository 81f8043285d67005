"""Images a second of our whole networks against timm's and torchvision's, interleaved in one run.

python benchmarks/networks.py [--pairs 'se_*'] [--step forward|training] [--batch 8] [--threads 1] [--budget 15]
    [--out results/networks/speed_forward.json]
"""

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate.costs.latency import forward_step, interval_of_the_median, time_interleaved, training_step
from foveate.machine import machine_name
from foveate.networks import build_network

PAIRS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {  # ours, its options, the peer, its options
    "se_resnet50": ({"layout": "torch"}, "timm:seresnet50", {}),
    "cbam_resnet50": ({}, "timm:resnet50", {"block_args": {"attn_layer": "cbam"}}),
    "sknet50": ({}, "timm:skresnext50_32x4d", {}),
    "shufflenet_v2": ({}, "torchvision:shufflenet_v2_x1_0", {}),
    "mobilenet_v2": ({}, "torchvision:mobilenet_v2", {}),
    "eca_resnet50": ({}, "timm:resnet50", {"block_args": {"attn_layer": "eca"}}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", default="*")
    parser.add_argument("--step", choices=("forward", "training"), default="forward")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--budget", type=float, default=15, help="seconds a pair")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.step}, batch {asked.batch} of 224×224 float32, {asked.threads} threads, {machine_name()}")
    print(f"torch {torch.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}")
    print("images a second of ours and of the peer; their ratio with its 95 % interval: above 1, ours is quicker")
    found = {}
    for name, (options, peer, its_options) in PAIRS.items():
        if fnmatchcase(name, asked.pairs):
            torch.manual_seed(0)
            ours = foveate.create_network(name, num_classes=1000, **options)
            theirs = build_network(peer, num_classes=1000, **its_options)
            found[name] = {"peer": peer, **compare(ours, theirs, asked)}
            r, low, high = found[name]["ratio"]
            speeds = f"{found[name]['ours']:6.1f} {found[name]['theirs']:6.1f}"
            print(f"{name:16} {speeds}   {r:.3f} ({low:.3f} to {high:.3f})   {peer}", flush=True)
    if asked.out:
        about = {"step": asked.step, "batch": asked.batch, "threads": asked.threads, "machine": machine_name()}
        about |= {"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__}
        kept = json.loads(asked.out.read_text())["pairs"] if asked.out.is_file() else {}
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({**about, "pairs": kept | found}, indent=1) + "\n")


def compare(ours: nn.Module, theirs: nn.Module, asked: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both (by the median), and theirs' time ÷ ours round by round: median, low, high."""
    x = torch.randn(asked.batch, 3, 224, 224)
    make = forward_step if asked.step == "forward" else training_step
    networks = {"ours": ours, "theirs": theirs}
    for network in networks.values():
        network.train(asked.step == "training")
    steps = {name: make(network, x) for name, network in networks.items()}
    samples = time_interleaved(steps, repeats=asked.rounds, budget_s=asked.budget)
    ratio = interval_of_the_median([b / a for a, b in zip(samples["ours"], samples["theirs"], strict=True)])
    speed = {name: 1000 * asked.batch / interval_of_the_median(times).median for name, times in samples.items()}
    return {**speed, "ratio": [ratio.median, ratio.low, ratio.high], "rounds": len(samples["ours"])}


if __name__ == "__main__":
    main()
