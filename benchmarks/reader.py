"""What training waits for its reader: CamVid at 240×320 with U-MixFormer-B0, or clips of 8 frames of 112×112 with a
C2D, as a share of a step.

python benchmarks/reader.py ../shared/data/camvid [--steps 12]               writes results/reader.json
python benchmarks/reader.py ../shared/data/video_davis16_val/clips --clips   writes results/reader_clips.json

The batches come from the reader that training uses, one thread beside the one that computes: in the first epoch every
image is decoded, in the second those that are kept are taken from memory.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from foveate.data import open_data
from foveate.data.dataset import Dataset
from foveate.data.reading import read_ahead
from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.networks import create_network
from foveate.spec import DataSpec
from foveate.tasks import Task, create_task
from foveate.train.schedule import epoch_order

NETWORK, SIZE, BATCH = "umixformer_mit_b0", (240, 320), 8
CLIPS = ("c2d_resnet26", (112, 112), 4)


def measure(data: Dataset, task: Task, network: str, batch_size: int, steps: int) -> list[dict[str, Any]]:
    """Of each epoch, the first batch aside: medians and the share of the wait in all of the time."""
    model = create_network(network, num_classes=task.outputs).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    found = []
    for epoch in (0, 1):
        order = epoch_order(list(range(min(steps * batch_size, len(data.train)))), 0, epoch)
        parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--clips", action="store_true", help="a folder of videos")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, size, batch = CLIPS if given.clips else (NETWORK, SIZE, BATCH)
    if given.clips:
        data = open_clips_of(given.source, size)
        task = create_task("video", data)
    else:
        data = open_data(DataSpec(source=str(given.source), size=size, options={"classes": "camvid"}))
        task = create_task("segmentation", data)
    epochs = measure(data, task, network, batch, given.steps)
    facts = {"network": network, "size": size, "batch": batch, "threads": 1, "steps": given.steps, "epochs": epochs}
    file = Path("results/reader_clips.json" if given.clips else "results/reader.json")
    write_json(file, facts | {"machine": machine_name(), "versions": versions()})


def open_clips_of(source: Path, size: tuple[int, int]) -> Dataset:
    """The videos of a folder in two classes by turns, which its list says."""
    rows = [f"{file.name},{number % 2}" for number, file in enumerate(sorted(source.glob("*.mp4")))]
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as named:
        named.write("\n".join(["file,label", *rows]))
        named.flush()
        return open_data(DataSpec(kind="clips", source=str(source), size=size, options={"labels": named.name}))


if __name__ == "__main__":
    main()
