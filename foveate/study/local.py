"""Jobs on this machine: one process each, in the folder runs/KEY of the study."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from foveate.files import read_json, write_json
from foveate.spec import Study
from foveate.study.executor import Job, JobProgress, Take, WorkerResult
from foveate.study.forking import Forked, ForkServer, can_fork
from foveate.study.worker import STOPPED
from foveate.train import CHECKPOINT

FILE_OF = {"train": "run.json", "costs": "costs.json", "trial": "trial.json"}
# Limits of glibc, in bytes: by default it returns what a step frees to the kernel and faults it in again in the next, a
# twentieth of the time of small runs.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
Process = subprocess.Popen[bytes] | Forked


class LocalProcesses:
    """An `Executor`: a process for each job, `jobs` at a time.

    A worker's progress is its standard output, and it ends when its standard input does: with this process.
    """

    measures_costs = True

    def __init__(self, folder: Path, jobs: int | None = None, *, fork: bool = True) -> None:
        """fork: of a process that stays for further jobs, where that can be; False: a new process for each."""
        self.folder, self.jobs, self.fork = folder, max(1, jobs or 1), fork
        self._running: dict[str, Process] = {}
        self._gpu_of: dict[str, str] = {}  # of a running job, where there are several GPUs to choose from
        self._server: ForkServer | None = None
        self._ended: queue.Queue[WorkerResult] = queue.Queue()

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._running.values()):
            process.kill()
            process.wait()
        self._running.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def prepare(self, study: Study) -> int:
        return self.jobs

    def finished(self, key: str) -> dict[str, Any] | None:
        path = self._place(key) / "result.json"
        try:
            result = read_json(path)
        except FileNotFoundError:
            return None
        except ValueError:
            path.unlink()  # cut short; the job is done again
            return None
        return result if isinstance(result, dict) else None

    def work(self, take: Take, tell: Callable[[str, JobProgress], None]) -> Iterator[WorkerResult]:
        while True:
            while len(self._running) < self.jobs and (job := take()) is not None:
                self._start(job, tell)
            if not self._running:
                return
            ended = self._ended.get()
            self._running.pop(ended.key)
            self._gpu_of.pop(ended.key, None)
            yield ended

    def wait_for_machines(self) -> bool:
        return False

    def clear(self, key: str) -> None:
        (self._place(key) / CHECKPOINT).unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        return self.folder / "runs" / key

    def _start(self, job: Job, tell: Callable[[str, JobProgress], None]) -> None:
        place = self._place(job.key)
        if job.kind != "train":
            shutil.rmtree(place, ignore_errors=True)  # measured anew, all in one process
        place.mkdir(parents=True, exist_ok=True)
        for old in ("error.json", "result.json"):
            (place / old).unlink(missing_ok=True)
        write_json(place / FILE_OF[job.kind], job.content)
        with open(place / "log.txt", "ab") as log:
            process = self._process(job, place, log)
        self._running[job.key] = process
        threading.Thread(target=self._follow, args=(job.key, process, tell), daemon=True).start()

    def _process(self, job: Job, place: Path, log: IO[bytes]) -> Process:
        threads = str(job.threads)
        environment = KEPT_MEMORY | os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONUNBUFFERED"] = "1"
        gpus = visible_gpus() if job.kind == "train" and _device(job) == "cuda" else []
        if len(gpus) > 1:
            self._gpu_of[job.key] = least_used(gpus, self._gpu_of.values())
            environment["CUDA_VISIBLE_DEVICES"] = self._gpu_of[job.key]
        if not (self.fork and can_fork()):
            return subprocess.Popen(
                [sys.executable, "-m", "foveate.study.worker", str(place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
            )
        if self._server is not None:
            with contextlib.suppress(OSError):  # it was killed
                return self._server.start(place, log)
            self._server.close()
        self._server = ForkServer(self.folder, environment, _library(job), log)
        return self._server.start(place, log)

    def _follow(self, key: str, process: Process, tell: Callable[[str, JobProgress], None]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                with contextlib.suppress(ValueError):  # something a library printed
                    tell(key, json.loads(line))
        except BaseException:
            process.kill()  # nobody reads its progress any more
            raise
        finally:
            status = process.wait()
            process.stdin.close()
            process.stdout.close()
            self._ended.put(self._result(key, status))

    def _result(self, key: str, status: int) -> WorkerResult:
        try:
            return self._left_behind(key, status)
        except OSError as error:  # its folder is gone, or cannot be read
            return WorkerResult(key, crash=str(error))

    def _left_behind(self, key: str, status: int) -> WorkerResult:
        """What the files in the job's folder say. Raises: OSError: they cannot be read."""
        place = self._place(key)
        if (result := self.finished(key)) is not None:  # also of one whose exit status is lost
            return WorkerResult(key, result=result)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return WorkerResult(key, error=str(read_json(place / "error.json")["error"]))
        if status == STOPPED:
            return WorkerResult(key, crash="the study was paused")
        lines = (place / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return WorkerResult(key, crash=f"{how}: {lines[-1] if lines else 'no log'}")


def run_alone(folder: Path, job: Job, failed: str) -> dict[str, Any]:
    """The result of one job in a process of its own.

    Raises: RuntimeError: it has none; `failed` says what that means, the reason follows.
    """
    jobs = [job]
    with LocalProcesses(folder) as here:
        ended = next(here.work(lambda machine="": jobs.pop() if jobs else None, lambda key, news: None))
    if ended.result is None:
        raise RuntimeError(f"{failed}: {ended.error or ended.crash}")
    return ended.result


def visible_gpus() -> list[str]:
    """This process's GPUs as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def least_used(gpus: Sequence[str], used: Iterable[str]) -> str:
    """The GPU with the fewest runs on it, the first of equal ones."""
    counts = Counter(used)
    return min(gpus, key=lambda gpu: counts[gpu])


def _device(job: Job) -> str:
    """That the training names; "" where its content is damaged, which the worker says."""
    return str(job.content.get("train", {}).get("device", ""))


def _library(job: Job) -> str:
    """Of the job's network."""
    several = job.content.get("runs")
    run = next(iter(several.values())) if several else job.content.get("run", job.content)
    return str(run["network"]).partition(":")[0]
