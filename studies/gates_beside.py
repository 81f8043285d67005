"""Entropy and sparsity of the gates of studies/gates_labels.toml, beside untrained networks and those on mixed labels.

python studies/gates_beside.py LABELS SHUFFLED
"""

import csv
import sys
from pathlib import Path

import foveate
from foveate.data import open_data
from foveate.explain import gates_beside, randomised
from foveate.study_file import read_study

ITEMS = 400


def main(labels: Path, shuffled: Path) -> None:
    """Write gates.csv into the first folder: a row for each seed, network, module and kind of gate."""
    study = read_study(labels / "study.toml")
    data = open_data(study.data)
    batches = [data.test.batch(range(at, at + 50), None).inputs for at in range(0, ITEMS, 50)]
    with open(labels / "gates.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["attention", "seed", "network", "module", "gate", "what", "mean", "low", "high"])
        for arm in ("se", "cbam"):
            for seed in study.seeds:
                trained = foveate.load(labels, arm=arm, seed=seed)
                networks = {
                    "trained": trained,
                    "untrained": randomised(trained),
                    "mixed labels": foveate.load(shuffled, arm=arm, seed=seed),
                }
                for row in gates_beside(networks, batches):
                    for what in ("entropy", "sparsity", "mean"):
                        interval = [round(value, 4) for value in row[what]]
                        writer.writerow([arm, seed, row["network"], row["site"], row["kind"], what, *interval])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
