"""The gates against the limit of memory and against timm's, interleaved in one run: forward, training step, memory.

python benchmarks/kernels.py [--threads 1,2] [--rounds 11] [--shape 8,256,56,56] [--only se,cbam] [--network]
    [--out DIR]

Forward passes are those of evaluation, without gradients. The limit of one is one read plus one copy of the map,
whatever the mechanism. That of a training step is the least that its forward and backward passes must read and write
when no map stays in the cache: R a read of a map, D a read of two, C a copy. All are measured in the same run, with
torch's own sum, dot product and clone.

For a GPU: benchmarks/kernels_cuda.py.
"""

import argparse
import copy
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from timm.layers.create_attn import create_attn
from torch import Tensor, nn

import foveate
from foveate.costs.latency import forward_step, time_interleaved

# Reads, double reads and copies of a training step: pool and gate; gradients of the gates; gradient of the map.
STEPS = {
    "se": "R + C + D + C",
    "eca": "R + C + D + C",
    "ca": "R + C + D + C",
    "cbam": "2R + C + D + R + C",
    "gc": "R + C + 2R + C",
    "sa": "C + R + C",
    "sge": "C + R + C",
}
PEERS = {"se": "se", "eca": "eca", "cbam": "cbam", "gc": "gc", "ca": "coord"}


def training_step(module: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], object]:
    given = x.clone().requires_grad_()

    def step() -> None:
        given.grad = None
        module.zero_grad(set_to_none=True)
        module(given).backward(dy)

    return step


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Bytes saved between forward and backward, without parameters and buffers."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = module(x)  # referenced until the sum is computed, so that no address is reused
    assert y.requires_grad
    return sum(kept.values())


def limit_of(formula: str, units: dict[str, float]) -> float:
    terms = [term.strip() for term in formula.split("+")]
    return sum(int(term[:-1] or 1) * units[term[-1]] for term in terms)


def one_table(shape: list[int], names: list[str], threads: int, rounds: int) -> list[str]:
    torch.set_num_threads(threads)
    x, dy = torch.randn(shape), torch.randn(shape)
    flat = x.flatten(), dy.flatten()
    steps: dict[str, Callable[[], object]] = {"R": x.sum, "D": lambda: torch.dot(*flat), "C": x.clone}
    kept: dict[str, int] = {}
    for name in names:
        modules = {"ours": foveate.create_attention(name, shape[1])}
        if name in PEERS:
            modules["timm"] = create_attn(PEERS[name], shape[1])
        for who, module in modules.items():
            steps[f"{name} forward {who}"] = forward_step(copy.deepcopy(module).eval(), x)
            steps[f"{name} training {who}"] = training_step(module, x, dy)
            kept[f"{name} {who}"] = kept_bytes(module, x.clone().requires_grad_())
    samples = time_interleaved(steps, repeats=rounds, budget_s=600)
    median = {key: statistics.median(values) for key, values in samples.items()}
    size = "×".join(map(str, shape))
    lines = [
        f"### {size} float32, {threads} thread{'s' if threads > 1 else ''}",
        "",
        f"read {median['R']:.2f} ms, read of two {median['D']:.2f} ms, copy {median['C']:.2f} ms;"
        f" medians of {len(samples['R'])} interleaved rounds",
        "",
        "| | forward, ms | ÷ limit | timm ÷ ours | training step, ms | limit | ÷ limit | timm ÷ ours | kept ÷ timm's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        forward, training = median[f"{name} forward ours"], median[f"{name} training ours"]
        peer = [median[f"{name} {kind} timm"] for kind in ("forward", "training") if name in PEERS]
        memory = kept[f"{name} ours"] / kept[f"{name} timm"] if name in PEERS else None
        cells = [
            name,
            f"{forward:.2f}",
            f"{forward / (median['R'] + median['C']):.2f}",
            f"{peer[0] / forward:.2f}" if peer else "",
            f"{training:.2f}",
            STEPS[name],
            f"{training / limit_of(STEPS[name], median):.2f}",
            f"{peer[1] / training:.2f}" if peer else "",
            f"{memory:.2f}" if memory else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def one_network(threads: int, rounds: int) -> list[str]:
    """A forward pass of ResNet-50, plain and with CBAM in every block, ours and timm's."""
    torch.set_num_threads(threads)
    x = torch.randn(4, 3, 224, 224)
    plain = timm.create_model("resnet50")
    ours = timm.create_model("resnet50")
    foveate.insert(ours, "cbam", at="block", example=x[:1])
    theirs = timm.create_model("resnet50", block_args={"attn_layer": "cbam"})
    models = {"plain": plain.eval(), "ours": ours.eval(), "timm": theirs.eval()}
    samples = time_interleaved({k: forward_step(m, x) for k, m in models.items()}, repeats=rounds, budget_s=600)
    base = samples["plain"]
    over = {k: statistics.median(b / a - 1 for a, b in zip(base, samples[k], strict=True)) for k in ("ours", "timm")}
    return [
        f"CBAM-ResNet-50, forward, 4×3×224×224, {threads} thread{'s' if threads > 1 else ''}: over plain ResNet-50"
        f" ours {100 * over['ours']:+.1f} %, timm's {100 * over['timm']:+.1f} % (medians of {len(base)} rounds)",
        "",
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    options.add_argument("--rounds", type=int, default=11)
    options.add_argument("--shape", default="8,256,56,56")
    options.add_argument("--only", default=",".join(STEPS), help="mechanisms, with commas")
    options.add_argument("--network", action="store_true", help="time CBAM-ResNet-50 as well")
    options.add_argument("--out", type=Path, help="a folder to write kernels.md to")
    arguments = options.parse_args()
    lines = [
        f"torch {torch.__version__}, timm {timm.__version__}, foveate {foveate.__version__}, Python"
        f" {platform.python_version()}, {processor()}",
        "",
    ]
    for threads in map(int, arguments.threads.split(",")):
        lines += one_table(
            [int(n) for n in arguments.shape.split(",")], arguments.only.split(","), threads, arguments.rounds
        )
        if arguments.network:
            lines += one_network(threads, arguments.rounds)
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "kernels.md").write_text("# The gates against memory and timm\n\n" + text, encoding="utf-8")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    main()
