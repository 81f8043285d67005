"""How often a repeated measurement of the same network's latency stays within the interval that the first one prints.

python benchmarks/cost_repeat.py [--network foveate:resnet20] [--repeats 20] [--seconds 1.5] [--threads 2]
"""

import argparse

import torch

from foveate.costs import costs, distinguishable
from foveate.networks import build_network


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--network", default="foveate:resnet20")
    arguments.add_argument("--image-size", type=int, default=32)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--seconds", type=float, default=1.5)
    arguments.add_argument("--threads", type=int, default=2)
    asked = arguments.parse_args()
    torch.set_num_threads(asked.threads)
    x = torch.randn(1, 3, asked.image_size, asked.image_size)
    twins = {name: build_network(asked.network, num_classes=10) for name in ("first", "second")}
    before, kept, within, ranked = None, 0, 0, 0
    for turn in range(asked.repeats + 1):
        found = costs(twins, x, budget_s=2 * asked.seconds, repeats=10**6, memory=False)
        time, ratio = found["first"].latency_ms, found["second"].latency_ratio
        ranked += distinguishable(ratio)
        if before is not None:
            kept += abs(time.median - before.median) < before.high - before.low
            within += before.low <= time.median <= before.high
        print(
            f"{turn:3}  {time.median:8.3f} ms ({time.low:.3f} to {time.high:.3f})  twin ×{ratio.median:.3f}", flush=True
        )
        before = time
    print(f"{asked.network}, {asked.threads} threads, torch {torch.__version__}")
    print(f"differs from the one before by less than its interval: {kept} of {asked.repeats}")
    print(f"lies in the interval of the one before: {within} of {asked.repeats}")
    print(f"twins told apart in one run: {ranked} of {asked.repeats + 1}")


if __name__ == "__main__":
    main()
