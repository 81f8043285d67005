"""bfloat16, channels-last and torch.compile by measured choice (`fast = true`): one for all arms, once for a study.

A few steps of the plain network's training are timed in turns in each setting, on this machine and on the study's data.
The choice and the times stand in speed.json and in the study's results, and a study that goes on keeps its choice.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.data.dataset import Dataset
from foveate.files import write_json
from foveate.spec import Study
from foveate.store import Store
from foveate.study.executor import Job
from foveate.study.folder import refuse_another
from foveate.study.local import run_alone
from foveate.study.plan import Planner
from foveate.tasks import Task
from foveate.train.schedule import batches_an_epoch
from foveate.variant import Variant

CHOSEN = ("amp", "channels_last", "compile")
SPEED = "speed"  # key of the job and name of what is remembered
EAGER: tuple[dict[str, bool], ...] = (
    {"amp": False, "channels_last": False},
    {"amp": False, "channels_last": True},
    {"amp": True, "channels_last": False},
    {"amp": True, "channels_last": True},
)
SETTINGS = tuple({**one, "compile": compiled} for compiled in (False, True) for one in EAGER)


def with_measured_speed(study: Study, out: Path, store: Store, data: Dataset, task: Task) -> Study:
    """The study with the settings that were measured to be the fastest; as it is, where it is not `fast`.

    Raises: ValueError: it is fast and names a setting as well, or the folder has another study. RuntimeError: nothing
        can be measured.
    """
    if not study.fast:
        return study
    found = store.get_meta(SPEED)
    if found is None:
        refuse_another(out, study)
        if study.trainer is not None:
            raise ValueError("fast goes with the library's training; got a trainer of one's own")
        if given := [name for name in CHOSEN if getattr(study.train, name)]:
            raise ValueError(f"fast chooses {', '.join(CHOSEN)} by time; got train.{given[0]} = true as well")
        found = _measured(study, out, data, task)
        store.set_meta(SPEED, found)
        write_json(out / "speed.json", found)
    return study.model_copy(update={"train": study.train.model_copy(update=found["chosen"])})


def speed_notes(study: Study, store: Store) -> list[str]:
    """What was chosen and how the others compare, for the report; [] where nothing was."""
    found = store.get_meta(SPEED) if study.fast else None
    return [] if found is None else [in_words(found["rows"], found["chosen"])]


def choose(rows: Sequence[dict[str, Any]], steps: int) -> dict[str, bool]:
    """The setting with the shortest time for a run of this many steps; the first one where none is certainly faster.

    A row is certainly faster where the interval of its ratio lies below 1. What its first step took beyond the others'
    counts against it: compiling is paid once a run.
    """
    first = rows[0]
    best, least = first["setting"], _seconds(first, steps)
    for row in rows[1:]:
        if row["ratio"] is not None and row["ratio"]["high"] < 1 and _seconds(row, steps) < least:
            best, least = row["setting"], _seconds(row, steps)
    return dict(best)


def in_words(rows: Sequence[dict[str, Any]], chosen: dict[str, bool]) -> str:
    """ "training steps run with bfloat16 and channels-last in every arm, chosen by …"."""
    parts = []
    for row in rows[1:]:
        ratio = row["ratio"]
        time = (
            f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else f"failed: {row['error']}"
        )
        parts.append(f"{_name(row['setting'])} {time}")
    return (
        f"every arm trains with {_name(chosen)}, chosen by the time of a step of the plain network on this machine; in "
        f"times that of float32 as it is: {'; '.join(parts)}"
    )


def _name(setting: dict[str, bool]) -> str:
    words = {"amp": "bfloat16", "channels_last": "channels-last", "compile": "torch.compile"}
    return " + ".join(word for name, word in words.items() if setting.get(name)) or "float32 as it is"


def _seconds(row: dict[str, Any], steps: int) -> float:
    step = row["ms"]["median"] / 1000
    compiling = max(0.0, row["first_s"] - step) if row["setting"]["compile"] else 0.0
    return float(compiling + steps * step)


def _measured(study: Study, out: Path, data: Dataset, task: Task) -> dict[str, Any]:
    run = Planner(study, data, task).run(Variant())
    content = {"run": run.model_dump(mode="json"), "settings": [dict(one) for one in SETTINGS]}
    job = Job(SPEED, "trial", content, study.train.threads)
    found = run_alone(out, job, "fast: the settings could not be timed")
    rows = found["rows"]
    steps = run.train.epochs * batches_an_epoch(len(data.train), run.train.batch_size)
    when = time.strftime("%Y-%m-%d")
    return {
        "chosen": choose(rows, steps),
        "rows": rows,
        "steps": steps,
        "machine": found["machine"],
        "when": when,
    }
