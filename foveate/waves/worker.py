"""One process of `gathers_of`: python -m foveate.waves.worker TASK.json. Ends with the process that started it."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from foveate.machine import end_with_the_parent
from foveate.waves.gathers import write_block
from foveate.waves.survey import Survey


def main(task: Path) -> None:
    """Write every block of the task."""
    end_with_the_parent()
    torch.set_num_threads(1)
    wanted = json.loads(task.read_text())
    survey, folder = Survey(**wanted["survey"]), Path(wanted["into"])
    with np.load(wanted["models"], allow_pickle=False) as blocks:
        for name in blocks.files:
            if not (folder / name).is_file():
                write_block(folder / name, blocks[name], survey)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # the watching thread sits in a read that an orderly exit would wait for
