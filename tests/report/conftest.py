"""Realistic studies, analysed: the report's tests draw what `analyse` really returns."""

import random
from typing import Any

import pytest

from foveate.spec import Study, Variant
from foveate.study.analyse import analyse

TOML = """network = "foveate:resnet8"
seeds = 3
control = "size"

[[variants]]
attention = "se"

[train]
epochs = 8
"""


def make_summary(
    variants: dict[str, float],
    seeds: int = 3,
    *,
    control: bool = True,
    spread: float = 0.006,
    gain: float = 0.004,
    epochs: int = 8,
    missing: tuple[tuple[str, int], ...] = (),
    **about: Any,
) -> dict[str, Any]:
    """variants: label → true gain over plain (a fraction)."""
    draw = random.Random(7)
    arms: list[dict[str, Any]] = [{"label": "none", "kind": "plain", "attention": "none"}]
    arms += [{"label": label, "kind": "attention", "attention": label.split(" ")[0]} for label in variants]
    if control:
        half = (len(variants) + 1) // 2
        for index, group in enumerate([list(variants)[:half], list(variants)[half:]]):
            if group:
                width = 1.03 + 0.04 * index
                name = f"plain ×{width:.2f}"
                arms.append({"label": name, "kind": "control", "attention": "none", "width": width, "matches": group})
    truth = {arm["label"]: variants.get(arm["label"], 0.0 if arm["kind"] == "plain" else gain) for arm in arms}
    results, curves, costs, failed = [], [], {}, []
    for number, arm in enumerate(arms):
        label = arm["label"]
        base = 1.21 + 0.05 * number + draw.random() * 0.3 * (arm["kind"] == "attention")
        added = int(1200 * draw.random() * (number > 0)) + 3000 * (arm["kind"] == "control")
        latency = {"median": base, "low": base * 0.97, "high": base * 1.05}
        costs[label] = {
            "parameters": 78_042 + added,
            "macs": 12_501_000 + 40 * added,
            "latency_ms": latency,
            "train_step_ms": {key: 31 * value for key, value in latency.items()},
        }
    for seed in range(seeds):
        luck = draw.gauss(0, 0.01)
        for arm in arms:
            label = arm["label"]
            final = min(0.842 + luck + truth[label] + draw.gauss(0, spread), 1.0)
            if (label, seed) in missing:
                failed.append({"label": label, "seed": seed, "error": "loss was nan at step 412 (lr 0.1)"})
                continue
            results.append(
                {
                    "label": label,
                    "seed": seed,
                    "metric": "accuracy",
                    "value": final,
                    "unit": "fraction",
                    "state": "done",
                }
            )
            for epoch in range(1, epochs + 1):
                done = 1 - 0.75 * 0.55**epoch
                row = {"label": label, "seed": seed, "epoch": epoch}
                curves.append({**row, "metric": "test_accuracy", "value": final * done + draw.gauss(0, 0.006)})
                curves.append({**row, "metric": "train_loss", "value": 2.3 * (1 - done) + 0.2 + draw.gauss(0, 0.02)})
    study = Study(
        seeds=tuple(range(seeds)),
        control="size" if control else "none",
        variants=tuple(Variant(attention="se", label=label) for label in variants),
    )
    facts = {
        "data": "scattered digits",
        "classes": 10,
        "train_images": 4000,
        "test_images": 1000,
        "image_size": [32, 32],
        "network": "foveate:resnet8",
        "machine": "AMD EPYC 7B13, 2 cores, Linux 6.1, CPU only",
        "versions": {"foveate": "0.1.0", "torch": "2.15.0", "python": "3.11.2"},
        "command": "foveate study run study.toml --out results/first",
        "toml": TOML,
        "latency": {"batch_size": 1, "threads": 1, "device": "cpu", "repeats": 200},
        "failed": failed,
        "seconds": 221.4,
        **about,
    }
    return analyse(study, arms, results, curves, costs, facts)


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
    "hostile": {
        "variants": {"<script>alert('x')</script> & \"se\"": 0.0, "[red]eca[/red]": 0.0},
        "data": "<img src=http://example.com/x.png>",
        "toml": "name = '</pre><script>fetch(1)</script>'",
        "command": "foveate study run 'a & b.toml'",
    },
}


@pytest.fixture(scope="session", params=STUDIES)
def summary(request: pytest.FixtureRequest) -> dict[str, Any]:
    return make_summary(**STUDIES[request.param])


@pytest.fixture(scope="session")
def usual() -> dict[str, Any]:
    return make_summary(**STUDIES["three seeds"])


@pytest.fixture(scope="session")
def hostile() -> dict[str, Any]:
    return make_summary(**STUDIES["hostile"])
