"""The thresholds of the networks that a study of bearing vibrations trained, against the noise.

python studies/cwru_thresholds.py FOLDER [OUT]
"""

import csv
import sys
from pathlib import Path

import numpy as np

import foveate
from foveate.data import open_data
from foveate.explain.experiments import ThresholdByNoise, threshold_by_noise
from foveate.files import write_whole
from foveate.report.drawing import Drawing, scale
from foveate.study_file import read_study

ARMS = {"DRSN-CS": "attention", "DRSN-CW": "control"}  # and the colour of each
LEVELS = (5.0, 0.0, -5.0, -10.0)
NAMES = ("clean", "5", "0", "−5", "−10")
WIDTH, PANEL, GAP, LEFT, TOP, HEAD, FOOT = 960.0, 150.0, 24.0, 54.0, 30.0, 24.0, 30.0
Found = dict[tuple[str, int], list[ThresholdByNoise]]  # by arm and seed


def main(folder: Path, out: Path) -> None:
    """Write thresholds.csv, a row for each network and module, and thresholds.png and .svg into `out`."""
    study = read_study(folder / "study.toml")
    clean = {name: value for name, value in study.data.options.items() if name not in ("noise", "snr_db", "noise_in")}
    data = open_data(study.data.model_copy(update={"options": clean}))
    batches = [data.test.batch(range(at, min(at + 64, len(data.test))), None) for at in range(0, len(data.test), 64)]
    found = {
        (arm, seed): threshold_by_noise(
            foveate.load(folder, arm=arm, seed=seed), [batch.inputs for batch in batches], LEVELS, rescaled=True
        )
        for arm in ARMS
        for seed in study.seeds
    }
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "thresholds.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        trend = ["rank correlation with noise", "low", "high"]
        writer.writerow(
            [
                "network",
                "seed",
                "module",
                "threshold, clean",
                *(f"threshold at {name} dB" for name in NAMES[1:]),
                *trend,
            ]
        )
        for (arm, seed), modules in found.items():
            for one in modules:
                values = [*one.thresholds, *one.trend]
                writer.writerow([arm, seed, one.site, *(f"{value:.4g}" for value in values)])
    drawing = drawn(found)
    write_whole(out / "thresholds.svg", drawing.standalone().encode())
    write_whole(out / "thresholds.png", drawing.png())


def drawn(found: Found) -> Drawing:
    """A panel a module: mean threshold over seeds against the noise, with the range from lowest to highest seed."""
    sites = [one.site for one in next(iter(found.values()))]
    columns = min(3, len(sites))
    rows = -(-len(sites) // columns)
    height = TOP + rows * (HEAD + PANEL + FOOT) + 16
    drawing = Drawing("thresholds", WIDTH, height, "Thresholds against noise")
    drawing.description = f"Of {len(sites)} modules, of {' and '.join(ARMS)}."
    wide = (WIDTH - LEFT - GAP * columns) / columns
    for number, (arm, role) in enumerate(ARMS.items()):
        drawing.line(LEFT + 120 * number, 14, LEFT + 24 + 120 * number, 14, f"{role} curve")
        drawing.text(LEFT + 30 + 120 * number, 18, arm, style=role)
    for place, site in enumerate(sites):
        left = LEFT + (place % columns) * (wide + GAP)
        top = TOP + (place // columns) * (HEAD + PANEL + FOOT) + HEAD
        lines = {
            arm: np.stack([those[place].thresholds for (name, _), those in found.items() if name == arm])
            for arm in ARMS
        }
        highest = max(float(line.max()) for line in lines.values())
        y = scale(0.0, 1.08 * highest, top + PANEL, top, 4)
        x = scale(0, len(NAMES) - 1, left + 10, left + wide - 10, len(NAMES))
        drawing.text(left, top - 8, site, style="muted")
        for tick in y.ticks:
            drawing.line(left, y(tick), left + wide, y(tick), "grid")
            drawing.text(left - 6, y(tick) + 4, y.label(tick), size=11, anchor="end", style="muted")
        for tick, name in enumerate(NAMES):
            drawing.text(x(tick), top + PANEL + 16, name, size=11, anchor="middle", style="muted")
        for arm, line in lines.items():
            upper = [(x(tick), y(value)) for tick, value in enumerate(line.max(0).tolist())]
            lower = [(x(tick), y(value)) for tick, value in enumerate(line.min(0).tolist())]
            drawing.path(upper + lower[::-1], f"{ARMS[arm]} band", closed=True)
            drawing.path(
                [(x(tick), y(value)) for tick, value in enumerate(line.mean(0).tolist())], f"{ARMS[arm]} curve"
            )
    foot = "Signal to noise in dB; mean threshold over windows and channels. Line: mean over seeds; band: their range."
    drawing.text(WIDTH - GAP, height - 8, foot, anchor="end", style="muted")
    return drawing


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(sys.argv[1]))
