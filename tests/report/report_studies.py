"""Realistic studies, analysed: the report's tests draw what `analyse` really returns."""

import base64
import random
from typing import Any

import numpy as np

from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Cost, Failure, Logged, Score, Setting, Summary, Times

TOML = """network = "foveate:resnet8"
seeds = 3
control = "size"

[[variants]]
attention = "se"

[train]
epochs = 8
"""


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)  # a picture of one pixel
DOMAINS = {"se": "channel", "eca": "channel", "cbam": "mixed", "sge": "spatial"}
RATE = Metric("mIoU")
ERROR = Metric("error", unit="px", better="lower")
LOSS = Metric("loss", unit="nats", better="lower")
SECONDS = Metric("seconds", unit="s", better="neither")


def make_summary(
    variants: dict[str, float],
    seeds: int = 3,
    *,
    metric: Metric = RATE,
    others: tuple[Metric, ...] = (),
    control: bool = True,
    costs: bool = True,
    spread: float = 0.006,
    gain: float = 0.004,
    epochs: int = 8,
    missing: tuple[tuple[str, int], ...] = (),
    network: str = "foveate:resnet8",
    items: int = 0,
    **about: Any,
) -> Summary:
    """variants: label → true gain over plain (a fraction; times 50 for metrics that are none)."""
    draw = random.Random(7)
    scale = 1.0 if metric.unit == "fraction" else 50.0
    sign = -1.0 if metric.better == "lower" else 1.0
    arms = [Arm("none", "plain", {"attention": "none"})]
    arms += [
        Arm(label, "attention", {"attention": name}, domain=DOMAINS.get(name, ""))
        for label in variants
        for name in label.split(" ")[:1]
    ]
    if control:
        half = (len(variants) + 1) // 2
        for index, group in enumerate([list(variants)[:half], list(variants)[half:]]):
            if group:
                width = 1.03 + 0.04 * index
                arms.append(Arm(f"plain ×{width:.2f}", "control", {"attention": "none"}, width, tuple(group)))
    truth = {arm.label: variants.get(arm.label, 0.0 if arm.kind == "plain" else gain) for arm in arms}
    measured: dict[str, Cost] = {}
    for number, arm in enumerate(arms if costs else []):
        base = 1.21 + 0.05 * number + draw.random() * 0.3 * (arm.kind == "attention")
        added = int(1200 * draw.random() * (number > 0)) + 3000 * (arm.kind == "control")
        latency = Times(base, base * 0.97, base * 1.05)
        step = Times(31 * latency.median, 31 * latency.low, 31 * latency.high)
        measured[arm.label] = Cost(78_042 + added, 12_501_000 + 40 * added, latency_ms=latency, train_step_ms=step)
    rows, curves, failed = [], [], []
    scores: dict[str, dict[int, Any]] = {}
    for seed in range(seeds):
        luck = draw.gauss(0, 0.01)
        for arm in arms:
            label = arm.label
            final = scale * min(0.842 + luck + sign * truth[label] + draw.gauss(0, spread), 1.0)
            if (label, seed) in missing:
                failed.append(Failure(label, seed, "loss was nan at step 412 (lr 0.1)"))
                continue
            rows.append(Score(label, seed, metric.name, final))
            rows += [Score(label, seed, other.name, 3 * final + number) for number, other in enumerate(others)]
            if items:
                values = [round(final + draw.gauss(0, 0.01 * scale), 2 if scale == 1 else 0) for _ in range(items)]
                scores.setdefault(label, {})[seed] = ([f"{n}.png" for n in range(items)], np.array(values))
            for epoch in range(1, epochs + 1):
                done = 1 - 0.75 * 0.55**epoch
                now = final * done + scale * draw.gauss(0, 0.006)
                curves.append(Logged(label, seed, epoch, f"test_{metric.name}", now))
                loss = 2.3 * (1 - done) + 0.2 + draw.gauss(0, 0.02)
                curves.append(Logged(label, seed, epoch, "train_loss", loss))
    setting = Setting("first", network, tuple(range(seeds)), "size" if control else "none", epochs or None)
    facts = {
        "data": "scattered digits",
        "classes": 10,
        "train_items": 4000,
        "test_items": 1000,
        "size": [32, 32],
        "targets": {"label": "class"},
        "machine": "AMD EPYC 7B13, 2 cores, Linux 6.1, CPU only",
        "versions": {"foveate": "0.1.0", "torch": "2.15.0", "python": "3.11.2"},
        "command": "foveate study run study.toml --out results/first",
        "toml": TOML,
        "latency": {"batch_size": 1, "threads": 1, "device": "cpu", "repeats": 200},
        "seconds": 221.4,
        **about,
    }
    return analyse(
        setting, [metric, *others], arms, rows, curves=curves, costs=measured, failed=failed, about=facts, items=scores
    )


LONG = {
    "cbam (kernel_size=3, order=spatial-channel)": 0.012,
    "cbam (kernel_size=7, order=channel-spatial)": 0.010,
    "cbam (kernel_size=7, order=parallel, pools=avg)": 0.002,
    "cbam (channel-only)": 0.009,
    "cbam (spatial-only)": -0.011,
    "se (reduction=4)": 0.011,
    "se (reduction=8)": 0.008,
    "se (reduction=16)": 0.007,
    "se (at=stage, identity)": 0.001,
    "eca": 0.0,
    "eca (kernel_size=7)": -0.001,
    "eca (at=['layer2.*', 'layer3.*'])": 0.004,
}

STUDIES: dict[str, dict[str, Any]] = {
    "three seeds": {"variants": {"se": 0.014, "eca": 0.001, "cbam": -0.002, "cbam (kernel_size=3)": 0.02}},
    "gain": {"variants": {"se": 0.03, "cbam": 0.02}, "seeds": 6, "spread": 0.004},
    "one seed": {"variants": {"se": 0.01}, "seeds": 1},
    "two seeds": {"variants": {"se": 0.01, "eca": 0.0}, "seeds": 2},
    "many": {"variants": LONG, "seeds": 10, "epochs": 30},
    "failed": {
        "variants": {"se": 0.01, "cbam": 0.0, "eca": 0.0},
        "seeds": 4,
        "missing": (("se", 1), ("eca", 0), ("eca", 1), ("eca", 2), ("eca", 3)),
    },
    "no control": {"variants": {"se": -0.03, "eca": 0.0}, "seeds": 5, "control": False},
    "nothing ran": {"variants": {"se": 0.0}, "seeds": 1, "missing": (("se", 0), ("none", 0), ("plain ×1.03", 0))},
    "error": {
        "variants": {"se": 0.06, "cbam": -0.004, "eca": 0.001},
        "metric": ERROR,
        "others": (LOSS, SECONDS),
        "seeds": 5,
        "items": 40,
    },
    "results from elsewhere": {
        "variants": {"se": 0.02, "cbam": -0.004},
        "control": False,
        "costs": False,
        "epochs": 0,
        "network": "",
        "command": "foveate compare results.csv --metric mIoU",
    },
    "two epochs": {"variants": {"se": 0.01}, "epochs": 2, "examples": {"none": [PIXEL], "se": [PIXEL, PIXEL]}},
    "hostile": {
        "variants": {"<script>alert('x')</script> & \"se\"": 0.0, "[red]eca[/red]": 0.0},
        "data": "<img src=http://example.com/x.png>",
        "toml": "name = '</pre><script>fetch(1)</script>'",
        "command": "foveate study run 'a & b.toml'",
    },
}
