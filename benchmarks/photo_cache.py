"""What an epoch over photos takes with decoded photos kept on the disk, and without: reading alone, and a training of
ResNet-18 with its reader beside it.

python benchmarks/photo_cache.py ../shared/data/imagenet_sample/images [--photos 200]   writes results/photo_cache.json

The photos (500×375 pixels at the median) are put into two class folders, in a cache folder of its own. Epochs with and
without are run in turns, since the machine may be busy; the first epoch with an empty cache, which writes it, stands
apart. Batches are compared bit for bit.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from foveate.data import open_data
from foveate.data.dataset import Dataset
from foveate.data.pixel_cache import OFF
from foveate.data.reading import read_ahead
from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.networks import build_network
from foveate.spec import DataSpec

SIZE, BATCH, ROUNDS, STEPS = 224, 20, 3, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("results/photo_cache.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["FOVEATE_CACHE"] = f"{temporary}/cache"
        source = Path(temporary) / "photos"
        for number, photo in enumerate(sorted(arguments.folder.iterdir())[: arguments.photos]):
            place = source / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, place / photo.name)
        found = measured(source)
        kept = sum(path.stat().st_size for path in Path(f"{temporary}/cache").glob("pixels-*/pixels"))
    found |= {"cache_mib": kept / 2**20, "machine": machine_name(), "versions": versions()}
    for name, value in found.items():
        print(name, value)
    write_json(arguments.out, found)


def opened(source: Path, cache: str) -> Dataset:
    os.environ[OFF] = cache
    return open_data(DataSpec(source=str(source), size=SIZE))


def measured(source: Path) -> dict[str, Any]:
    opened(source, "off")  # checks every file once
    empty, _ = epoch(opened(source, "on"), 0)
    times: dict[str, list[float]] = {"off": [], "on": []}
    waits: dict[str, list[float]] = {"off": [], "on": []}
    sums: dict[str, list[list[float]]] = {"off": [], "on": []}
    for turn in range(ROUNDS):
        for cache in ("off", "on") if turn % 2 else ("on", "off"):
            data = opened(source, cache)
            seconds, contents = epoch(data, turn + 1)
            times[cache].append(seconds)
            sums[cache].append(contents)
            waits[cache].append(training_wait(data, turn + 1))
    assert sums["on"] == sums["off"], "batches differ"
    without, kept = (statistics.median(times[name]) for name in ("off", "on"))
    return {
        "photos": len(opened(source, "on").train),
        "size": SIZE,
        "epoch_s_without": without,
        "epoch_s_with": kept,
        "epoch_ratio": kept / without,
        "first_epoch_ratio": empty / without,
        "training_wait_share_without": statistics.median(waits["off"]),
        "training_wait_share_with": statistics.median(waits["on"]),
        "bit_equal": True,
    }


def epoch(data: Dataset, number: int) -> tuple[float, list[float]]:
    """CPU seconds of reading the training photos once, augmented, and the sum of every batch."""
    sums = []
    began = time.process_time()
    for first in range(0, len(data.train), BATCH):
        items = range(first, min(first + BATCH, len(data.train)))
        sums.append(float(data.train.batch(items, (0, number)).inputs.double().sum()))
    return time.process_time() - began, sums


def training_wait(data: Dataset, number: int) -> float:
    """The share of a training of ResNet-18 in which it waits for its next batch."""
    model = build_network("torchvision:resnet18", num_classes=2).train()
    parts = [range(first, first + BATCH) for first in range(0, STEPS * BATCH, BATCH)]
    batches, waits, works = read_ahead(data.train, parts, (0, number)), [], []
    for _ in parts:
        began = time.perf_counter()
        batch = next(batches)
        there = time.perf_counter()
        torch.nn.functional.cross_entropy(model(batch.inputs), batch.targets["label"]).backward()
        waits.append(there - began)
        works.append(time.perf_counter() - there)
    return sum(waits[1:]) / sum(waits[1:] + works[1:])


if __name__ == "__main__":
    main()
