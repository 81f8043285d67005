"""Runs on this machine: one process a run, as many at a time as there are cores for."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its folder, its exit status (negative: the signal that killed it), the end of its log."""

    folder: Path
    status: int
    log: str


class LocalProcesses:
    """An executor: `work(take)` starts a worker for every folder taken, `jobs` at a time, and yields each as it ends.

    Closing it (or leaving the with block, also on error) kills what still runs; the checkpoints stay.
    """

    def __init__(self, jobs: int, threads: int, on_progress: Callable[[Path, dict[str, Any]], None]) -> None:
        self.jobs, self.threads, self.on_progress = max(1, jobs), threads, on_progress
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._ended: queue.Queue[Ended] = queue.Queue()

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._running.values()):
            process.kill()
            process.wait()
        self._running.clear()

    def work(self, take: Callable[[], Path | None]) -> Iterator[Ended]:
        """Yield every folder's end. `take` is asked when a place is free, and again after an end; None: nothing now."""
        while True:
            while len(self._running) < self.jobs and (folder := take()) is not None:
                self._start(folder)
            if not self._running:
                return
            ended = self._ended.get()
            self._running.pop(ended.folder)
            yield ended

    def _start(self, folder: Path) -> None:
        threads = str(self.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        with open(folder / "log.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "foveate.study.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
            )
        self._running[folder] = process
        threading.Thread(target=self._follow, args=(folder, process), daemon=True).start()

    def _follow(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self.on_progress(folder, json.loads(line))
            except ValueError:
                continue  # something a library printed
        status = process.wait()
        assert process.stdin is not None
        process.stdin.close()
        process.stdout.close()
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        self._ended.put(Ended(folder, status, "\n".join(tail)))
