"""What carries out a study's jobs: the protocol between the coordinator and processes, on this machine or others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from foveate.spec import Study

JobProgress = dict[str, Any]  # of a job at work: {"step", "steps", "loss"}


@dataclass(frozen=True)
class Job:
    """One thing to do: a training, measuring the costs of all arms, or a few steps of a training on trial. `content` is
    plain values."""

    key: str
    kind: Literal["train", "costs", "trial"]
    content: dict[str, Any]
    threads: int = 1


@dataclass(frozen=True)
class WorkerResult:
    """How a job ended: with a result, with an error that would come again, with a crash that may not, or because its
    machine was lost, which is no doing of the job's.

    result: plain values; the files of a run (weights, scores of items, pictures) are in the study's folder by then.
    """

    key: str
    result: dict[str, Any] | None = None
    error: str | None = None
    crash: str | None = None
    lost: str | None = None


class Take(Protocol):
    """Gives the next job to a free place."""

    def __call__(self, machine: str = "") -> Job | None:
        """machine: the type of the place, as `foveate.machine.machine_name`, of an executor that may have several: the
        runs of a seed are given to places of one type. None: nothing now."""


class Executor(Protocol):
    """Carries out jobs; made for a study's folder and a number of jobs at a time.

    Leaving the with block, also on an error, ends what still runs; checkpoints stay, and a job that is taken again goes
    on from its own.
    """

    @property
    def measures_costs(self) -> bool:
        """Does it take the job that measures the costs? Else they are measured on this machine."""

    def __enter__(self) -> "Executor": ...

    def __exit__(self, *error: object) -> None: ...

    def prepare(self, study: Study) -> int:
        """Check that jobs of this study can be carried out; the number of jobs at a time.

        Raises: ValueError: they cannot be, and why; nothing has begun.
        """

    def finished(self, key: str) -> dict[str, Any] | None:
        """The result that a job left behind before, whole; None: there is none."""

    def work(self, take: Take, tell: Callable[[str, JobProgress], None]) -> Iterator[WorkerResult]:
        """Yield every job's end. `take` is called when a place is free and again after an end. `tell` is called with a
        job's key and its progress, from any thread."""

    def wait_for_machines(self) -> bool:
        """Where jobs are left after `work`: wait a moment for machines that are being checked or, if all are gone, for
        new ones; False: there is nothing to wait for."""

    def clear(self, key: str) -> None:
        """The job's result is stored: what is needed only to go on with it may be deleted."""


ExecutorFactory = Callable[[Path, int | None], Executor]  # of the study's folder and the most jobs at a time
