"""Latency predicted from counts against latency measured, on networks that the calibration has not seen.

    python benchmarks/prediction.py [CALIBRATION.json]

Ten networks by themselves, then one with attention inserted: how far each prediction is off, and whether the order is
that of the measurements (Spearman's rank correlation). Without a file the machine is calibrated first.
"""

import statistics
import sys

import torch
from scipy.stats import spearmanr

import foveate
from foveate.costs import Calibration, calibrate, costs, predict
from foveate.networks import build_network

UNSEEN = [
    "torchvision:resnet34",
    "torchvision:resnet50",
    "torchvision:resnext50_32x4d",
    "torchvision:googlenet",
    "torchvision:mobilenet_v3_large",
    "torchvision:regnet_x_800mf",
    "torchvision:shufflenet_v2_x1_5",
    "timm:efficientnet_lite0",
    "timm:convnext_pico",
    "timm:vit_small_patch16_224",
    "timm:mixnet_s",
    "timm:pvt_v2_b0",
]
ATTENTION = ["se", "eca", "cbam", "ca", "gc", "sge", "bam", "scse"]
BASE = "torchvision:resnet18"


def main() -> None:
    torch.manual_seed(0)
    path = sys.argv[1] if len(sys.argv) > 1 else None
    calibration = Calibration.load(path) if path else calibrate(progress=lambda text: print(f"measuring {text}"))
    torch.set_num_threads(calibration.threads)
    x = torch.randn(1, 3, 224, 224)
    print(f"{calibration.name}, {calibration.threads} threads, {calibration.dtype}, torch {torch.__version__}")
    print(f"left out of the fit: median error {calibration.error:.1%}, 9 of 10 within ×{calibration.within:.2f}\n")
    one_by_one = [(name, predict(net, x, calibration), latency(net, x)) for name, net in unseen()]
    told("networks not in the fit", one_by_one)
    variants = dict(inserted())
    together = costs(variants, x, repeats=30, budget_s=20.0, memory=False)
    rows = [(name, predict(net, x, calibration), together[name].latency_ms.median) for name, net in variants.items()]
    told(f"attention in {BASE}", rows)


def latency(network, x):
    return costs({"it": network}, x, repeats=30, budget_s=2.0, memory=False)["it"].latency_ms.median


def told(title, rows):
    for name, found, measured in rows:
        off = found.ms / measured - 1
        print(f"{name:34}{measured:9.2f} ms measured{found.ms:9.2f} ms predicted{off:+8.0%}")
    errors = [abs(found.ms / measured - 1) for _, found, measured in rows]
    inside = sum(found.low <= measured <= found.high for _, found, measured in rows)
    order = spearmanr([measured for *_, measured in rows], [found.ms for _, found, _ in rows]).statistic
    print(
        f"{title}: median error {statistics.median(errors):.1%}, largest {max(errors):.0%}, "
        f"{inside} of {len(rows)} within the interval, rank correlation {order:.2f}\n"
    )


def unseen():
    for name in UNSEEN:
        options = {"init_weights": False, "aux_logits": False} if "googlenet" in name else {}
        yield name, build_network(name, num_classes=1000, **options)


def inserted():
    yield BASE, build_network(BASE, num_classes=1000)
    for name in ATTENTION:
        network = build_network(BASE, num_classes=1000)
        foveate.insert(network, name, at="block", example=torch.zeros(1, 3, 224, 224))
        yield f"{BASE} + {name}", network


if __name__ == "__main__":
    main()
