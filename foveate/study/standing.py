"""How far the runs at work are, in progress.json of the study's folder: for whoever looks while a study runs."""

import contextlib
import threading
import time
from pathlib import Path

from foveate.files import read_json, write_json

PROGRESS = "progress.json"
EVERY_S = 1.0


class Standing:
    """Written by the coordinator at most once a second, and taken away when the with block is left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS
        self._steps: dict[str, tuple[int, int]] = {}
        self._written = -EVERY_S
        self._lock = threading.Lock()

    def __enter__(self) -> "Standing":
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)

    def begin(self, key: str) -> None:
        """A run starts."""
        with self._lock:
            self._steps[key] = (0, 0)

    def end(self, key: str) -> None:
        """A run has ended."""
        with self._lock:
            self._steps.pop(key, None)

    def reached(self, key: str, step: int, steps: int) -> None:
        """A run has done this many of its steps."""
        with self._lock:
            if key not in self._steps:
                return
            self._steps[key] = (step, steps)
            now = time.monotonic()
            if now - self._written >= EVERY_S:
                self._written = now
                with contextlib.suppress(
                    OSError
                ):  # progress is no result: a full disk is reported where one is written
                    write_json(self._path, self._steps)


def progress_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Key of a run at work → (steps done, steps in all; 0: not known yet)."""
    try:
        found = read_json(folder / PROGRESS)
        return {key: (int(step), int(steps)) for key, (step, steps) in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
