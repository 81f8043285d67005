"""The papers' experiments on the networks that studies/attention_experiments.toml trains.

python studies/attention_experiments.py FOLDER [SEED]
"""

import csv
import sys
from pathlib import Path
from typing import Any

import foveate
from foveate.data import open_data
from foveate.explain import object_masks
from foveate.explain.experiments import branch_by_scale, strips_on_objects, threshold_by_noise
from foveate.study_file import read_study

ITEMS = 200


def main(folder: Path, seed: int) -> None:
    """Write experiments.csv into the folder: a row for each module, with its interval over images."""
    data = open_data(read_study(folder / "study.toml").data)
    batches = [data.test.batch(range(at, at + 50), None) for at in range(0, ITEMS, 50)]
    inputs = [batch.inputs for batch in batches]
    objects = [object_masks(batch.targets, data.inputs[1:]) for batch in batches]
    rows: list[dict[str, Any]] = []
    for found in branch_by_scale(foveate.load(folder, arm="sk", seed=seed), inputs):
        name = "weight of the larger kernel, 1.0× to 2.0×"
        rows.append(_row("sk", found.site, name, found.rise) | {"share of channels": found.rising, "p": found.p})
    for noisy in threshold_by_noise(foveate.load(folder, arm="drsn_cs", seed=seed), inputs):
        rows.append(_row("drsn_cs", noisy.site, "rank correlation of threshold and noise", noisy.trend))
    for strips in strips_on_objects(foveate.load(folder, arm="ca", seed=seed), zip(inputs, objects, strict=True)):
        rows.append(_row("ca", strips.site, "both strips on the digit", strips.both) | {"chance": strips.by_chance[2]})
    with open(folder / "experiments.csv", "w", newline="", encoding="utf-8") as file:
        names = ["attention", "module", "what", "mean", "low", "high", "share of channels", "p", "chance"]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(attention: str, site: str, what: str, interval: tuple[float, float, float]) -> dict[str, Any]:
    mean, low, high = (round(value, 4) for value in interval)
    return {"attention": attention, "module": site, "what": what, "mean": mean, "low": low, "high": high}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
