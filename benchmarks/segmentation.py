"""U-MixFormer-B0 against a plain transcription of the released network and transformers' SegFormer-B0: time and memory.

python benchmarks/segmentation.py [--size 512] [--threads 1] [--runs 3] [--budget 30] [--out results/segmentation_speed]

All give logits of 150 classes at a quarter of the image's sides. The transcription has our network's weights, by their
released names, and must give its outputs. Networks take turns within a run; ratios are of the rounds of one run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from umixformer_transcribed import UMixFormerB0

import foveate
from foveate.costs.latency import (
    forward_step,
    interval_of_a_ratio,
    interval_of_the_median,
    time_interleaved,
    training_step,
)
from foveate.costs.memory import start_measuring_peaks
from foveate.costs.setting import Setting
from foveate.machine import machine_name

CLASSES = 150
OURS, PLAIN, PEER, OTHER = "U-MixFormer-B0", "its transcription", "transformers' SegFormer-B0", "our SegFormer-B0"
TARGETS = (  # figure, compared with, at most so much of it
    ("forward ms", PLAIN, 0.8),
    ("forward MiB", PLAIN, 0.7),
    ("forward ms", PEER, 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--budget", type=float, default=30, help="seconds a run and step")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    x = torch.randn(1, 3, asked.size, asked.size, generator=torch.Generator().manual_seed(0))
    networks = made()
    difference = largest_difference(networks[OURS], networks[PLAIN], x)
    assert difference < 1e-5, difference
    found: dict[str, Any] = {
        "image": asked.size,
        "threads": asked.threads,
        "machine": machine_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "largest difference over largest output": difference,
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "MiB": peaks(networks, x),
        "runs": [one_run(networks, x, asked) for _ in range(asked.runs)],
    }
    text = table(found)
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "speed.json").write_text(json.dumps(found, indent=1) + "\n")
        (asked.out / "speed.md").write_text(text + "\n")


def made() -> dict[str, nn.Module]:
    """The networks; ours has the transcription's weights."""
    torch.manual_seed(0)
    plain = UMixFormerB0(CLASSES)
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
        plain.decode_head.linear_fuse.bn.running_mean.normal_()
    state = foveate.official.load(
        "julian-klitzing/u-mixformer", "umixformer_mit_b0", {}, plain.state_dict()
    ).state_dict()
    ours = foveate.create_network("umixformer_mit_b0", num_classes=CLASSES, full_size=False)
    ours.load_state_dict({key: value for key, value in state.items() if "unused" not in key})
    peer = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=CLASSES))
    other = foveate.create_network("segformer_mit_b0", num_classes=CLASSES, full_size=False)
    return {OURS: ours, PLAIN: plain, PEER: peer, OTHER: other}


def largest_difference(ours: nn.Module, plain: nn.Module, x: torch.Tensor) -> float:
    with torch.inference_mode():
        a, b = ours.eval()(x), plain.eval()(x)
    return ((a - b).abs().max() / b.abs().max()).item()


def peaks(networks: dict[str, nn.Module], x: torch.Tensor) -> dict[str, dict[str, float]]:
    """MiB at the fullest of a pass above those before it; not of the peer, which runs in no process but its own."""
    measured = start_measuring_peaks({k: v for k, v in networks.items() if k != PEER}, x, Setting(), training=True)()
    return {name: {"forward": both[0], "training": both[1]} for name, both in measured.items()}  # type: ignore[misc]


def one_run(networks: dict[str, nn.Module], x: torch.Tensor, asked: argparse.Namespace) -> dict[str, Any]:
    """Medians in ms of the steps, and ours over each other's, round by round: median, low, high."""
    found: dict[str, Any] = {}
    for step in ("forward", "training"):
        for network in networks.values():
            network.train(step == "training")
        steps = {
            name: forward_step(network, x) if step == "forward" else training_step(network, network, x)
            for name, network in networks.items()
        }
        samples = time_interleaved(steps, repeats=asked.rounds, budget_s=asked.budget)
        ratios = {name: interval_of_a_ratio(samples[OURS], samples[name]) for name in networks if name != OURS}
        found[step] = {
            "rounds": len(samples[OURS]),
            "ms": {name: interval_of_the_median(times).median for name, times in samples.items()},
            "ratio": {name: [one.median, one.low, one.high] for name, one in ratios.items()},
        }
    return found


def table(found: dict[str, Any]) -> str:
    """Each network in Markdown, then each target."""
    side, threads = found["image"], found["threads"]
    lines = [
        f"Batch 1 of {side}×{side}, float32, {threads} thread{'s' * (threads > 1)}, {found['machine']}, torch "
        f"{found['torch']}, transformers {found['transformers']}. Milliseconds are medians of each run; MiB those at "
        f"the fullest of a pass above those before it. {OURS} and its transcription differ by "
        f"{found['largest difference over largest output']:.1e} of the largest output.\n",
        "| network | parameters | forward ms | training ms | forward MiB | training MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, parameters in found["parameters"].items():
        times = [", ".join(f"{run[step]['ms'][name]:.0f}" for run in found["runs"]) for step in ("forward", "training")]
        mib = found["MiB"].get(name, {})
        memory = [f"{mib[step]:.0f}" if mib else "" for step in ("forward", "training")]
        lines.append(f"| {name} | {parameters:,} | {' | '.join(times)} | {' | '.join(memory)} |")
    lines += [f"\n| {OURS} over | figure | in each run (95 % interval) | target | |", "|---|---|---|---|---|"]
    for figure, name, most in TARGETS:
        if figure == "forward MiB":
            ratios = [found["MiB"][OURS]["forward"] / found["MiB"][name]["forward"]]
            shown = f"{ratios[0]:.2f}"
        else:
            each = [run["forward"]["ratio"][name] for run in found["runs"]]
            ratios = [median for median, _, _ in each]
            shown = ", ".join(f"{median:.2f} ({low:.2f} to {high:.2f})" for median, low, high in each)
        word = "met" if max(ratios) <= most else f"missed by {100 * (max(ratios) / most - 1):.0f} %"
        lines.append(f"| {name} | {figure} | {shown} | ≤ {most} | {word} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
