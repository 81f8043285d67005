"""What training waits for its reader: CamVid at 240×320 with U-MixFormer-B0, as a share of a step.

python benchmarks/reader.py ../shared/data/camvid [--steps 12]   writes results/reader.json

The batches come from the reader that training uses, one thread beside the one that computes: in the first epoch every
image is decoded, in the second those that are kept are taken from memory.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from foveate.data import open_data
from foveate.data.reading import read_ahead
from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.networks import create_network
from foveate.spec import DataSpec
from foveate.tasks import create_task
from foveate.train.schedule import epoch_order

NETWORK, SIZE, BATCH = "umixformer_mit_b0", (240, 320), 8


def measure(source: Path, steps: int) -> list[dict[str, Any]]:
    """Of each epoch, the first batch aside: medians and the share of the wait in all of the time."""
    torch.set_num_threads(1)
    data = open_data(DataSpec(source=str(source), size=SIZE, options={"classes": "camvid"}))
    task = create_task("segmentation", data)
    model = create_network(NETWORK, num_classes=task.outputs).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    found = []
    for epoch in (0, 1):
        order = epoch_order(list(range(steps * BATCH)), 0, epoch)
        parts = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
        batches, waits, works = read_ahead(data.train, parts, (0, epoch)), [], []
        for _ in parts:
            began = time.perf_counter()
            batch = next(batches)
            there = time.perf_counter()
            optimizer.zero_grad()
            task.loss(model, batch)["loss"].backward()
            optimizer.step()
            waits.append(there - began)
            works.append(time.perf_counter() - there)
        began = time.perf_counter()
        data.train.batch(parts[0], (0, epoch + 2))
        alone = time.perf_counter() - began
        waits, works = waits[1:], works[1:]
        row = {"epoch": epoch + 1, "wait_ms": 1e3 * statistics.median(waits), "step_ms": 1e3 * statistics.median(works)}
        found.append(row | {"wait_share": sum(waits) / sum(waits + works), "read_kept_batch_ms": 1e3 * alone})
        print(", ".join(f"{key} {value:.4g}" for key, value in found[-1].items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    epochs = measure(given.source, given.steps)
    facts = {"network": NETWORK, "size": SIZE, "batch": BATCH, "threads": 1, "steps": given.steps, "epochs": epochs}
    write_json(Path("results/reader.json"), facts | {"machine": machine_name(), "versions": versions()})


if __name__ == "__main__":
    main()
