"""The runs behind docs/compare_digits.csv: a plain training loop, three variants of a small network, eight seeds.

python docs/compare_runs.py     trains them (about a minute on one core) and writes the table again
"""

import csv
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import foveate

TABLE = Path(__file__).with_name("compare_digits.csv")
VARIANTS, SEEDS, EPOCHS, TRAIN, TEST = ("plain", "se", "eca"), range(8), 8, 1000, 60


def network() -> nn.Module:
    """Three convolutions, 16 channels each, and a classifier."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 16), (16, 16)):
        layers.append(nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def run(variant: str, seed: int, x: Tensor, y: Tensor) -> list[tuple[str, float, float]]:
    """Name, right or wrong, and loss of each test item after training on the others."""
    torch.manual_seed(seed)
    model = network()
    if variant != "plain":
        options = {"reduction": 4} if variant == "se" else {}
        foveate.insert(model, variant, at=["1", "2"], example=x[:2], **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    order = torch.Generator().manual_seed(seed)  # the same for every variant
    for _ in range(EPOCHS):
        for items in torch.randperm(TRAIN, generator=order).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[items]), y[items]).backward()
            optimizer.step()
    with torch.no_grad():
        scores = model.eval()(x[-TEST:])
    losses, right = F.cross_entropy(scores, y[-TEST:], reduction="none"), scores.argmax(1) == y[-TEST:]
    return [(f"digit-{len(x) - TEST + i}", float(right[i]), round(float(losses[i]), 4)) for i in range(TEST)]


def main() -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(digits.target)
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["variant", "seed", "item", "right", "loss"])
        for variant in VARIANTS:
            for seed in SEEDS:
                for item, right, loss in run(variant, seed, x, y):
                    table.writerow([variant, seed, item, f"{right:g}", loss])


if __name__ == "__main__":
    main()
