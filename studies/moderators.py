"""When not to add attention: eight studies, of narrow and wide networks, small and large sets, right and wrong labels.

python studies/moderators.py FOLDER; then, in FOLDER, foveate study report */ --out report
"""

import itertools
import sys
from pathlib import Path

from foveate import run_study
from foveate.study_file import read_study

WIDTHS = {"narrow": [8, 16, 32], "wide": [16, 32, 64]}
SETS = {"small": (250, 20), "large": (1000, 5)}  # training items and epochs: as many steps for both
WRONG = {"clean": 0.0, "noisy": 0.4}  # share of the training labels that are mixed


def main(folder: Path) -> None:
    """Run the study of each cell into a folder of its own; finished runs are not run again."""
    base = read_study(Path(__file__).with_suffix(".toml"))
    for width, size, labels in itertools.product(WIDTHS, SETS, WRONG):
        items, epochs = SETS[size]
        name, share = f"{width}-{size}-{labels}", WRONG[labels]
        noise = {"kind": "shuffled_labels", "options": {"share": share}} if share else {}
        study = base.model_copy(
            update={
                "name": name,
                "network_options": {"widths": WIDTHS[width]},
                "data": base.data.model_copy(update={"train_items": items, **noise}),
                "train": base.train.model_copy(update={"epochs": epochs}),
            }
        )
        summary = run_study(study, folder / name, jobs=1)
        sys.stdout.write(f"{name}: {summary.answer.text}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("wanted a folder: python studies/moderators.py FOLDER")
    main(Path(sys.argv[1]))
