"""Slurm as an engine, by submitit: each call is a job of its own in the queue."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate.machine import cores
from foveate.registry import nearest
from foveate.study.cluster.executor import CallEnd, Place

LOGS = "slurm"  # folder in the study's: scripts and output of jobs
LOST = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"}  # states of jobs that ended through no doing of theirs
QUEUED = 64  # jobs at a time, unless the study says otherwise
MINUTES = 240  # of a job, unless the option `time` says otherwise; a run that takes longer goes on in a further job


class SlurmEngine:
    """An `Engine`.

    Args:
        folder: of the study.
        cluster: "slurm", or "local" for processes of this machine in its place.
        options: of sbatch, such as {"partition": "gpu"}, as submitit names them.
        kinds: values of the option `constraint`, each a type of machine; (): one type.
        jobs: in the queue at a time, of each type; None: 64, or as many as this machine has cores for.
    """

    processes_stay = False

    def __init__(
        self,
        folder: Path,
        cluster: str,
        options: Mapping[str, Any],
        kinds: tuple[str, ...],
        jobs: int | None,
    ) -> None:
        self.folder, self.cluster, self.cpus, self.gpus = folder, cluster, 1, 0
        self.options, self.kinds, self.jobs = dict(options), kinds, jobs
        self._executors: dict[tuple[str, str], Any] = {}
        self._jobs: list[Any] = []

    def connect(self) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise ValueError("--slurm: submitit is not installed; pip install 'foveate[cluster]'") from None
        self._executor(self.places()[0], "nothing")

    def close(self) -> None:
        for job in self._jobs:
            if not job.done():
                job.cancel()
        self._jobs.clear()

    def run_needs(self, cpus: int, gpus: float) -> None:
        self.cpus, self.gpus = cpus, int(gpus)
        self._executors.clear()

    def places(self) -> list[Place]:
        jobs = self.jobs or (QUEUED if self.cluster == "slurm" else max(1, cores() // self.cpus))
        return [Place(kind, jobs) for kind in self.kinds or (self.cluster,)]

    def place(self, name: str) -> Place:
        return next((one for one in self.places() if one.name == name), Place(name, 1))  # else a machine's name

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], place: Place, *, needs: str = "a run"
    ) -> Any:
        job = self._executor(place, needs).submit(function, *arguments)
        self._jobs.append(job)
        return job

    def _executor(self, place: Place, needs: str) -> Any:
        from submitit import AutoExecutor

        if (place.name, needs) in self._executors:
            return self._executors[place.name, needs]
        try:
            executor = AutoExecutor(folder=self.folder.absolute() / LOGS, cluster=self.cluster)
        except RuntimeError as error:
            raise ValueError(f"--slurm: {error}; is this a machine from which jobs are submitted?") from None
        options = dict(self.options)
        if place.name in self.kinds:
            options["constraint"] = place.name
        elif place.name != self.cluster:
            options["nodelist"] = place.name
        if needs == "all":
            options["exclusive"] = True
        named = {f"slurm_{name}": value for name, value in options.items() if name != "time"}
        try:
            executor.update_parameters(
                name="foveate",
                timeout_min=int(options.get("time", MINUTES)),
                nodes=1,
                tasks_per_node=1,
                cpus_per_task=1 if needs == "nothing" else self.cpus,
                gpus_per_node=0 if needs == "nothing" else self.gpus,
                **named,
            )
        except (NameError, ValueError, TypeError) as error:
            raise ValueError(f"--slurm-option: {str(error).splitlines()[0]}; {_known(options)}") from None
        self._executors[place.name, needs] = executor
        return executor

    def wait(self, handles: list[Any], seconds: float) -> list[CallEnd]:
        until = time.monotonic() + seconds
        while True:
            ended = [self._end(job) for job in handles if job.done()]
            if ended or time.monotonic() > until:
                return ended
            time.sleep(0.2)

    def _end(self, job: Any) -> CallEnd:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        self._jobs.remove(job)
        try:
            return CallEnd(job, value=job.result())
        except FailedJobError as error:  # the function raised
            return CallEnd(job, crash=str(error).strip().splitlines()[-1])
        except UncompletedJobError:
            state = str(job.state).partition(" ")[0]
            text = f"job {job.job_id} ended without a result ({state.lower()}); {job.paths.stderr}"
            return CallEnd(job, lost=text) if state in LOST else CallEnd(job, crash=text)


def _known(options: Mapping[str, Any]) -> str:
    """The nearest names for the first unknown option."""
    from submitit import SlurmExecutor

    known = sorted(SlurmExecutor._valid_parameters())
    unknown = [name for name in options if name not in known]
    return nearest(unknown[0], known) if unknown else "see the manual of sbatch"
