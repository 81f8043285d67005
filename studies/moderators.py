"""When not to add attention: six studies, of narrow and wide networks on few images, on more, and with wrong labels.

python studies/moderators.py FOLDER; then, in FOLDER, foveate study report */ --out report
"""

import itertools
import sys
from pathlib import Path

from foveate import run_study
from foveate.study_file import read_study

WIDTHS = {"narrow": [8, 16, 32], "wide": [16, 32, 64]}
SETS = {"few": (250, 12, 0.0), "more": (1000, 5, 0.0), "wrong": (1000, 5, 0.4)}  # items, epochs, share of mixed labels


def main(folder: Path) -> None:
    """Run the study of each cell into a folder of its own; finished runs are not run again."""
    base = read_study(Path(__file__).with_suffix(".toml"))
    for width, of_set in itertools.product(WIDTHS, SETS):
        items, epochs, share = SETS[of_set]
        noise = {"kind": "shuffled_labels", "options": {"share": share}} if share else {}
        study = base.model_copy(
            update={
                "name": f"{width}-{of_set}",
                "network_options": {"widths": WIDTHS[width]},
                "data": base.data.model_copy(update={"train_items": items, **noise}),
                "train": base.train.model_copy(update={"epochs": epochs}),
            }
        )
        summary = run_study(study, folder / study.name, jobs=1)
        sys.stdout.write(f"{study.name}: {summary.answer.text}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("wanted a folder: python studies/moderators.py FOLDER")
    main(Path(sys.argv[1]))
