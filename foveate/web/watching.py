"""A study while it runs: where its runs stand, their curves so far, and the time left. Only reads."""

import json
import struct
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from foveate.report.forest import forest
from foveate.report.learning import learning_curves, logged_names
from foveate.report.page import page
from foveate.report.scatter import score_latency
from foveate.store import Store
from foveate.study.folder import RESULTS, is_locked
from foveate.study.gallery import read_gallery
from foveate.study.results import runs_of_the_plan, status, summarise
from foveate.summary import Summary
from foveate.train.checkpoint import CHECKPOINT

MOST_HEADER = 50_000_000  # bytes of a checkpoint's header


def standing(folder: Path) -> dict[str, Any]:
    """{"states", "runs": [{"arm", "seed", "state", "epoch", "error", "key"}], "seconds_left", "working"}.

    seconds_left: by the time that finished runs took, for those that are to do; None while none is finished or nobody
    works in the folder.

    Raises: ValueError: the folder holds no study that can be read yet.
    """
    found = status(folder)
    store = Store(folder / RESULTS, read_only=True)
    try:
        rows = runs_of_the_plan(store)
    finally:
        store.close()
    took = [row["finished"] - row["started"] for row in rows.values() if row["state"] == "done" and row["finished"]]
    working = is_locked(folder)
    left, running = 0.0, 0
    shown = []
    for run in found["runs"]:
        history = history_so_far(folder, run["key"]) if run["state"] == "running" else []
        shown.append({**run, "epoch": len(history)})
        if run["state"] == "running":
            running += 1
            started = rows[run["key"]]["started"]
            spent = max(0.0, time.time() - started) if started else 0.0
            left += max(0.0, median(took) - spent) if took else 0.0
        elif run["state"] == "todo":
            left += median(took) if took else 0.0
    seconds = left / max(running, 1) if took and working else None
    return {"states": found["states"], "runs": shown, "seconds_left": seconds, "working": working}


def history_so_far(folder: Path, key: str) -> list[dict[str, float]]:
    """What a run that is not finished logged after each epoch, from its checkpoint; [] where it has none yet."""
    try:
        with open(folder / "runs" / key / CHECKPOINT, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MOST_HEADER:
                return []
            facts = json.loads(json.loads(file.read(size))["__metadata__"]["facts"])
    except (OSError, struct.error, ValueError, KeyError):  # none yet, or it is being replaced
        return []
    history: list[dict[str, float]] = facts.get("history", [])
    return history


def live_summary(folder: Path) -> Summary:
    """As `summarise`, the curves with the epochs of the runs that are not finished."""
    running = [run["key"] for run in status(folder)["runs"] if run["state"] == "running"]
    return summarise(folder, more={key: history_so_far(folder, key) for key in running})


def figures(folder: Path) -> dict[str, Any]:
    """{"answer", "figures": [{"name", "title", "svg", "reading"}]}: what can be drawn of the study by now."""
    summary = live_summary(folder)
    logged = logged_names(summary)
    drawn = {
        f"{summary.metric.name} and latency": score_latency(summary),
        "Paired differences": forest(summary),
        "Learning curves": learning_curves(summary, logged[0]) if logged else None,
    }
    return {
        "answer": f"{summary.answer.short}. {summary.answer.text}",
        "question": summary.answer.question,
        "figures": [
            {"name": one.name, "title": title, "svg": one.inline(), "reading": one.reading}
            for title, one in drawn.items()
            if one is not None
        ],
    }


def report_page(folder: Path) -> str:
    """The report of what is finished, with the cases that were drawn before; nothing is written."""
    summary = summarise(folder)
    return page(replace(summary, about=summary.about | {"gallery": read_gallery(folder)}))
