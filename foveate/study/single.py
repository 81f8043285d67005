"""One training of one network in a folder of its own, in one process or in the ranks of torchrun."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.data import open_data
from foveate.files import read_json, write_json, write_whole
from foveate.registry import nearest
from foveate.spec import Run, Study
from foveate.study.build import build_variant_for
from foveate.study.checks import check_names
from foveate.study.folder import lock_folder
from foveate.study.plan import Planner, opened_data
from foveate.tasks import create_task
from foveate.train import join_ranks, leave_ranks, train

RUN, RESULT = "run.json", "result.json"


def train_one(
    study: Study,
    out: Path,
    *,
    arm: str | None = None,
    on_start: Callable[[Run, str, int], None] = lambda run, data, ranks: None,
    on_progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    checkpoint_s: float = 30.0,
) -> dict[str, Any]:
    """Train one variant of the study with its first seed in the folder, or go on from the checkpoint there.

    Under torchrun every rank calls this; the first one writes.

    Args:
        arm: label of the variant; None: the first that is not plain, or plain where there is no other.
        on_start: called with the run, the data in words and the number of ranks.
        on_progress: called with (steps done, steps in all, loss).

    Returns: what `foveate.train.train` gives; of a training that is finished already, what it gave.
    Raises: ValueError: the folder holds another training or is in use, or the study has what goes with several runs;
        and what `train` raises.
    """
    of_studies = {
        "a list of values": bool(study.train.listed),
        "a trainer of one's own": study.trainer is not None,
        "fast": study.fast,
        "[robustness]": study.robustness is not None,
        "[explain]": study.explain is not None,
    }
    if given := [name for name, is_given in of_studies.items() if is_given]:
        raise ValueError(
            f"train: wanted one network and the library's training; got {given[0]}, which goes with a study"
        )
    study = check_names(study)
    data = open_data(opened_data(study, study.seeds[0]))
    task = create_task(study.task, data, **study.task_options)
    planner = Planner(study, data, task)
    labels = [variant.name for variant in study.variants]
    if arm is not None and arm not in labels:
        raise ValueError(f"--arm: no variant is called {arm!r}; {nearest(arm, labels)}")
    variant = study.variants[labels.index(arm)] if arm is not None else study.variants[min(1, len(labels) - 1)]
    if variant.is_smaller:
        raise ValueError(f"{variant.name}: prune and distill go with foveate study run")
    run = planner.run(variant, arm=variant.name)
    planner.check(variant.name, run)
    ranks = join_ranks(run.train.device)
    try:
        on_start(run, data.description, ranks.count)
        with lock_folder(out) if ranks.number == 0 else contextlib.nullcontext():
            if (out / RUN).is_file() and (there := Run.model_validate(read_json(out / RUN)).key) != run.key:
                raise ValueError(f"{out} holds another training ({there}, now {run.key}); use another --out")
            if (out / RESULT).is_file():
                found: dict[str, Any] = read_json(out / RESULT)
                return found
            if ranks.number == 0:
                write_whole(out / RUN, run.model_dump_json().encode())
            result = train(
                run, build_variant_for(run, data, task.outputs), task, data, out, on_progress=on_progress,
                checkpoint_s=checkpoint_s,
            )  # fmt: skip
            if ranks.number == 0:
                write_json(out / RESULT, result)
            return result
    finally:
        leave_ranks()
