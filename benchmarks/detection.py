"""What identity CBAM adds to a training step of a detector: both networks in turns of one run, on this machine.

python benchmarks/detection.py [--rounds 20] [--size 320] [--device cpu] [--only ssd]
"""

import argparse
import statistics
import time

import torch

import foveate
from foveate.machine import machine_name
from foveate.networks import build_network

CASES = (  # network, options, place
    ("torchvision:fasterrcnn_resnet50_fpn", {}, "block"),
    ("torchvision:fasterrcnn_resnet50_fpn", {}, "head"),
    ("torchvision:retinanet_resnet50_fpn", {}, "block"),
    ("torchvision:retinanet_resnet50_fpn", {}, "head"),
    ("torchvision:ssdlite320_mobilenet_v3_large", {}, "block"),
    ("torchvision:ssdlite320_mobilenet_v3_large", {}, "head"),
)
BATCH = 2
LIMIT = 1.10


def images_and_targets(size, device):
    """Random images, each with one box in its middle."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, size, size, generator=generator).to(device) for _ in range(BATCH)]
    box = torch.tensor([[size / 4, size / 4, 3 * size / 4, 3 * size / 4]], device=device)
    return images, [{"boxes": box, "labels": torch.ones(1, dtype=torch.int64, device=device)} for _ in images]


def step(model, images, targets):
    """Seconds of one forward and backward pass with the detector's own losses; on a CPU those of this process alone."""
    clock = time.perf_counter if images[0].is_cuda else time.process_time
    torch.manual_seed(0)  # the same proposals are sampled
    start = clock()
    sum(model(images, targets).values()).backward()
    if images[0].is_cuda:
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return clock() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="cases whose network's name has this in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = f"batches of {BATCH} images of {options.size}×{options.size}"
    print(f"{machine_name()}, one thread, {shape}, {options.rounds} rounds")
    for name, own, place in (case for case in CASES if options.only in case[0]):
        models = {}
        for label in ("plain", "cbam"):
            torch.manual_seed(0)
            models[label] = build_network(name, num_classes=21, size=options.size, **own).to(options.device).train()
        images, targets = images_and_targets(options.size, options.device)
        foveate.insert(models["cbam"], "cbam", at=place, example=(images,), init="identity")
        times = {label: [] for label in models}
        for turn in range(-1, options.rounds):
            for label in list(models)[:: 1 if turn % 2 else -1]:
                seconds = step(models[label], images, targets)
                if turn >= 0:
                    times[label].append(seconds)
        ratios = sorted(b / a for a, b in zip(times["plain"], times["cbam"], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        median = statistics.median(ratios)
        verdict = "within" if median <= LIMIT else "ABOVE"
        plain = f"{1e3 * statistics.median(times['plain']):.0f} ms"
        spread = f"middle half of the rounds {low:.3f} to {high:.3f}"
        print(
            f"{name} at {place}: plain {plain}, with identity CBAM × {median:.3f} ({spread}), {verdict} {LIMIT}",
            flush=True,
        )


if __name__ == "__main__":
    main()
