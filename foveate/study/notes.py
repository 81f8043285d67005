"""Notes that people make on runs, beside the results: notes.jsonl in the study's folder, a line a note."""

import json
import os
import time
from pathlib import Path
from typing import Any

from foveate.registry import nearest
from foveate.store import Store
from foveate.study.folder import RESULTS, STUDY
from foveate.study_file import read_study

NOTES = "notes.jsonl"
LONGEST = 2000  # characters of a note


def add_note(folder: Path, text: str, arm: str | None = None, seed: int | None = None) -> None:
    """Note the text on the study, on an arm, or on an arm's run of a seed.

    Raises: ValueError: there is no such run, or the text is empty, too long or no one line.
    """
    text = text.strip()
    if not text or len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"note: wanted one line of 1 to {LONGEST:,} characters; got {text[:40]!r}")
    if seed is not None and arm is None:
        raise ValueError("note: a seed goes with its arm")
    store = Store(folder / RESULTS, read_only=True)
    try:
        arms = [one["label"] for one in store.get_meta("arms") or []]
    finally:
        store.close()
    if arm is not None and arm not in arms:
        raise ValueError(f"note: no arm of this study is called {arm!r}; {nearest(arm, arms)}")
    seeds = read_study(folder / STUDY).seeds
    if seed is not None and seed not in seeds:
        raise ValueError(f"note: this study has no seed {seed}; {nearest(str(seed), map(str, seeds))}")
    line = {"when": time.strftime("%Y-%m-%d"), "arm": arm, "seed": seed, "text": text}
    handle = os.open(folder / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(handle, "wb") as file:  # a short line is appended whole, whoever else does so
        file.write(json.dumps(line).encode() + b"\n")


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """[{"when", "arm", "seed", "text"}], oldest first; of a line that was cut short nothing."""
    try:
        lines = (folder / NOTES).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            one = json.loads(line)
            found.append({name: one[name] for name in ("when", "arm", "seed", "text")})
        except (ValueError, KeyError, TypeError):
            continue
    return found


def in_words(note: dict[str, Any]) -> str:
    """A note as a line of the report."""
    seed = "" if note["seed"] is None else f", seed {note['seed']}"
    where = "" if note["arm"] is None else f" on {note['arm']}{seed}"
    return f"noted {note['when']}{where}: {note['text']}"
