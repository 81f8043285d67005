"""The way of a newcomer, by the README's commands alone: 200 photos, trained weights, a study, a picture, a prediction.

python benchmarks/newcomer.py ../shared   writes results/newcomer.json

The photos are real ones of steel surfaces (NEU-DET) in two classes of 100; the network is ResNet-20 with weights of
CIFAR-10. Two further photos are predicted at the end.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CLASSES = {"rough": ("crazing", "pitted_surface", "rolled-in_scale"), "cut": ("inclusion", "patches", "scratches")}
EACH = (34, 33, 33)  # photos of each kind of surface in a class


def make_photos(shared: Path, folder: Path) -> None:
    """folder/photos/<class>/*.jpg, 100 of each, and folder/new/*.jpg, one of each class that is in no study."""
    images = shared / "data" / "det_neu" / "images"
    for name, kinds in CLASSES.items():
        (folder / "photos" / name).mkdir(parents=True)
        (folder / "new").mkdir(exist_ok=True)
        for kind, count in zip(kinds, EACH, strict=True):
            files = sorted(images.glob(f"{kind}_*.jpg"))
            for file in files[:count]:
                shutil.copy(file, folder / "photos" / name)
        shutil.copy(files[-1], folder / "new")


def commands(weights: Path) -> dict[str, list[str]]:
    """Each step, as a newcomer types it after `foveate`."""
    return {
        "weights": ["convert", str(weights), "--source", "akamaster/pytorch_resnet_cifar10", "--cls", "resnet20",
                    "--out", "resnet20.safetensors"],
        "check": ["data", "check", "photos", "--json"],
        "sites": ["sites", "foveate:resnet20"],
        "study": ["study", "run", "--data", "photos", "--network", "foveate:resnet20", "--weights",
                  "resnet20.safetensors", "--attention", "none,se,cbam", "--init", "identity", "--seeds", "3",
                  "--image-size", "64", "--epochs", "6", "--batch-size", "16", "--lr", "0.01", "--control", "none",
                  "--out", "my-study"],
        "summary": ["study", "report", "my-study", "--json"],
        "predict": ["predict", "new", "--run", "my-study:se", "--out", "predictions.csv"],
        "evaluate": ["evaluate", "--run", "my-study:se", "--json"],
    }  # fmt: skip


def walk(shared: Path, folder: Path) -> dict[str, Any]:
    """Every step in an empty folder, and what it took: {"steps": {step: {"seconds", "cpu_seconds"}}, …}.

    Raises: RuntimeError: a step ended with an error, whose last lines are given.
    """
    make_photos(shared, folder)
    weights = shared / "data" / "weights" / "cifar10_resnet20-12fca82f.th"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    steps: dict[str, dict[str, Any]] = {}
    printed: dict[str, str] = {}
    lines: list[str] = []
    for step, words in commands(weights).items():
        before, began = _cpu_seconds(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "foveate", *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{step} ended with {done.returncode}: {done.stderr[-2000:]}")
        printed[step] = done.stdout
        steps[step] = {
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(_cpu_seconds() - before, 1),
        }
        if step == "study":
            lines = [line for line in done.stderr.splitlines() if line.startswith("training ") and ": about " in line]
    summary = json.loads(printed["summary"])
    return {
        "estimate": lines[0],
        "steps": steps,
        "seconds": round(sum(one["seconds"] for one in steps.values()), 1),
        "cpu_seconds": round(sum(one["cpu_seconds"] for one in steps.values()), 1),
        "answer": summary["answer"]["text"],
        "notes": summary["about"]["notes"],
        "accuracy": {arm["label"]: arm["score"]["values"] for arm in summary["arms"]},
        "predictions": (folder / "predictions.csv").read_text().splitlines(),
        "report": sorted(path.name for path in (folder / "my-study" / "report").iterdir()),
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", type=Path, help="the folder of data: data/det_neu and data/weights in it")
    with tempfile.TemporaryDirectory() as place:
        found = walk(parser.parse_args().shared.resolve(), Path(place))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (ROOT / "results" / "newcomer.json").write_text(text + "\n", encoding="utf-8")
    print(text)
