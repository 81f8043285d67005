"""What detection's data and measures cost: what training waits for its reader, and the evaluation of 500 images.

python benchmarks/detection_data.py ../shared/data/det_bccd [--steps 8]   writes results/detection_data.json

The reader: SSDLite at 320, one thread beside the one that computes. The evaluation: 100 detections in each of 500
images (the annotated ones repeated, detections drawn around their boxes), ours and pycocotools in turns in one run.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data import open_data
from foveate.data.annotation import Annotation
from foveate.data.reading import read_ahead
from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.networks import build_network
from foveate.spec import DataSpec
from foveate.tasks import create_task
from foveate.tasks.detection_scores import DetectionScores

NETWORK, SIDE, BATCH = "torchvision:ssdlite320_mobilenet_v3_large", 320, 8
IMAGES, DETECTIONS, ROUNDS = 500, 100, 5


def reader(source: Path, steps: int) -> dict[str, float]:
    """The share of the wait in all of the time, the first batch aside, and a batch read alone."""
    torch.set_num_threads(1)
    data = open_data(DataSpec(source=str(source), size=(SIDE, SIDE)))
    task = create_task("detection", data)
    model = build_network(NETWORK, num_classes=task.outputs).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    parts = [list(range(first, first + BATCH)) for first in range(0, (steps + 1) * BATCH, BATCH)]
    batches, waits, works = read_ahead(data.train, parts, (0, 0)), [], []
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
    data.train.batch(parts[0], (0, 1))
    alone = time.perf_counter() - began
    waits, works = waits[1:], works[1:]
    return {
        "wait_share": sum(waits) / sum(waits + works),
        "step_ms": 1e3 * sum(works) / len(works),
        "read_batch_alone_ms": 1e3 * alone,
    }


def detections(annotations: list[Annotation], classes: int) -> list[dict[str, np.ndarray]]:
    """For each image 40 boxes near its own and 60 anywhere, with scores."""
    draw = np.random.default_rng(0)
    found = []
    for one in annotations:
        places = draw.integers(0, len(one), 40)
        near = one.boxes[places] + draw.normal(0, 8, (40, 4)) * draw.random((40, 1))
        corner = draw.random((60, 2)) * 300
        boxes = np.concatenate([np.sort(near.reshape(-1, 2, 2), 1).reshape(-1, 4), np.tile(corner, 2)])
        boxes[40:, 2:] += 20
        labels = np.concatenate([one.labels[places], draw.integers(0, classes, 60)])
        scores = draw.random(DETECTIONS).astype(np.float32)
        found.append({"boxes": boxes.astype(np.float32), "labels": labels, "scores": scores})
    return found


def by_pycocotools(scores: DetectionScores) -> float:
    """mAP of the same detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sets: list[list[dict[str, Any]]] = [[], []]
    for image, both in enumerate(zip(scores.boxes, scores.detections, strict=True), 1):
        for place, found in enumerate(both):
            for number, (side, label) in enumerate(zip(found.sides.tolist(), found.labels.tolist(), strict=True)):
                row: dict[str, Any] = {"image_id": image, "category_id": label + 1, "bbox": side}
                if place == 0:
                    row |= {"id": len(sets[0]) + 1, "area": float(found.area[number]), "iscrowd": 0}
                else:
                    row |= {"score": float(found.scores[number])}
                sets[place].append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(1, len(scores.boxes) + 1)],
            "categories": [{"id": label + 1} for label in range(len(scores.classes))],
            "annotations": sets[0],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(sets[1]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def evaluation(source: Path) -> dict[str, float]:
    """Seconds of this process and by the clock, the least of five rounds, and the difference in mAP."""
    data = open_data(DataSpec(source=str(source), size=(SIDE, SIDE)))
    classes = data.targets["boxes"].names
    known = [one for one in data.test.annotations or () if len(one)]
    chosen = [known[number % len(known)] for number in range(IMAGES)]
    given = detections(chosen, len(classes))
    targets = [{name: getattr(one, name) for name in ("boxes", "labels", "crowd", "area")} for one in chosen]
    made: dict[str, Any] = {}

    def ours() -> None:
        scores = DetectionScores(classes)
        scores.add(given, targets)
        made["values"], made["scores"] = scores.scores().values, scores

    def theirs() -> None:
        made["pycocotools"] = by_pycocotools(made["scores"])

    def resampled() -> None:
        weights = np.random.default_rng(0).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=1000)
        made["scores"].matches().mean(weights)

    least: dict[str, list[float]] = {}
    work: dict[str, Callable[[], None]] = {"ours": ours, "pycocotools": theirs, "1000 resamples": resampled}
    for _ in range(ROUNDS):
        for name, one in work.items():
            began, spent = time.perf_counter(), time.process_time()
            one()
            times = least.setdefault(name, [np.inf, np.inf])
            times[0] = min(times[0], time.perf_counter() - began)
            times[1] = min(times[1], time.process_time() - spent)
    found = {f"{name}, s": clock for name, (clock, _) in least.items()}
    found |= {f"{name}, s of the processor": spent for name, (_, spent) in least.items()}
    return found | {"difference in mAP": made["values"]["mAP"] - made["pycocotools"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="BCCD in COCO's form")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("results/detection_data.json"))
    given = parser.parse_args()
    found = {"reader": reader(given.source, given.steps), "evaluation": evaluation(given.source)}
    for part, row in found.items():
        print(part, ", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    setting = {"network": NETWORK, "image_size": SIDE, "batch_size": BATCH, "images": IMAGES, "detections": DETECTIONS}
    write_json(given.out, {"setting": setting, **found, "machine": machine_name(), "versions": versions()})


if __name__ == "__main__":
    main()
