"""Gathers of many models: simulated on all cores, one thread each, in blocks that are kept; a killed run goes on.

A block is 16 models. Its file's name is a hash of their velocities and of the survey, so that nothing is simulated
twice, a longer set begins with the blocks of a shorter one, and no other parameters meet these gathers.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.files import cache_folder, write_whole
from foveate.machine import cores
from foveate.waves.propagate import require_deepwave, simulate
from foveate.waves.survey import Survey

VERSION = 1  # of what is simulated: part of the files' names
BLOCK = 16  # models
POLL_S = 0.2
WORTH = 1.5e9  # updates of cells (about 7 s), from which on starting processes takes less time than it saves
Progress = Callable[[int, int], None]


class Gathers:
    """Gathers of n models, read from their blocks when they are asked for.

    Args:
        files: of the blocks, each (16, shots, samples, receivers) float16, the last shorter.
        count: n.
    """

    def __init__(self, files: Sequence[Path], count: int) -> None:
        self.files, self.count = files, count
        self._open: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, shots, samples, receivers) of these models."""
        found = [self._block(item // BLOCK)[item % BLOCK] for item in np.asarray(items).tolist()]
        return np.stack(found).astype(np.float32)

    def _block(self, number: int) -> NDArray[Any]:
        if number not in self._open:
            self._open[number] = np.load(self.files[number], mmap_mode="r", allow_pickle=False)
        return self._open[number]


def gathers_of(
    models: NDArray[np.float32], survey: Survey, *, progress: Progress | None = None, workers: int | None = None
) -> Gathers:
    """The gathers of models, from the cache or simulated.

    Args:
        models: (n, H, W), m/s.
        survey: of all of them.
        progress: called with (models that are there, n).
        workers: processes; None: one a core, or none for a few models.

    Raises: ValueError: as `simulate`. RuntimeError: a process failed. OSError: the cache cannot be written.
    """
    folder = cache_folder() / "gathers"
    parts = [models[start : start + BLOCK] for start in range(0, len(models), BLOCK)]
    files = [folder / f"{_name(part, survey)}.npy" for part in parts]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    if missing:
        require_deepwave()
        folder.mkdir(parents=True, exist_ok=True)
        there = [len(part) for part in parts]

        def tell() -> None:
            if progress is not None:
                done = sum(count for count, file in zip(there, files, strict=True) if file.is_file())
                progress(done, len(models))

        tell()
        work = sum(map(len, (parts[n] for n in missing))) * models[0].size * survey.steps * survey.shots
        count = min((cores() if work > WORTH else 1) if workers is None else workers, len(missing))
        todo = {files[number]: parts[number] for number in missing}
        if count <= 1:
            with one_thread():
                for file, part in todo.items():
                    write_block(file, part, survey)
                    tell()
        else:
            _in_processes(todo, survey, count, tell)
    return Gathers(files, len(models))


def write_block(file: Path, models: NDArray[np.float32], survey: Survey) -> None:
    """Simulate the models and write their gathers whole, as float16."""
    with torch.inference_mode():
        found = [simulate(torch.from_numpy(np.array(model, np.float32)), survey).numpy() for model in models]
    with tempfile.TemporaryFile() as buffer:
        np.save(buffer, np.stack(found).astype(np.float16), allow_pickle=False)
        buffer.seek(0)
        write_whole(file, buffer.read())


@contextlib.contextmanager
def one_thread() -> Any:
    """torch, and with it deepwave, computes with one thread; afterwards with as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_processes(todo: dict[Path, NDArray[np.float32]], survey: Survey, count: int, tell: Callable[[], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="foveate-gathers-") as place:
        folder = Path(place)
        shares = [list(todo)[number::count] for number in range(count)]
        running = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            for number, share in enumerate(shares):
                np.savez(folder / f"{number}.npz", allow_pickle=False, **{file.name: todo[file] for file in share})
                task = {"survey": survey.plain(), "models": str(folder / f"{number}.npz"), "into": str(share[0].parent)}
                (folder / f"{number}.json").write_text(json.dumps(task))
                with open(folder / f"{number}.log", "w") as log:
                    command = [sys.executable, "-m", "foveate.waves.worker", str(folder / f"{number}.json")]
                    running.append(
                        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
                    )
            while any(process.poll() is None for process in running):
                time.sleep(POLL_S)
                tell()
        finally:
            for process in running:
                if process.poll() is None:
                    process.terminate()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        tell()
        for number, process in enumerate(running):
            if process.returncode:
                lines = (folder / f"{number}.log").read_text(errors="replace").strip().splitlines()
                raise RuntimeError(f"simulating failed: {lines[-1] if lines else f'status {process.returncode}'}")


def _name(models: NDArray[np.float32], survey: Survey) -> str:
    digest = hashlib.sha256(json.dumps({"version": VERSION, "size": models.shape, **survey.plain()}).encode())
    digest.update(np.ascontiguousarray(models, np.float32).tobytes())
    return digest.hexdigest()[:32]
