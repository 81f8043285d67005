"""A study's jobs on a cluster: free places are filled, ended jobs come back, machines that come and go are followed.

The engine (Ray, Slurm) starts a function on a machine and says how it ended; what it returns are plain values. Files
reach the machines by a shared folder, which is checked before anything starts.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from foveate.files import read_json
from foveate.spec import Study
from foveate.study.cluster import HERE, Cluster
from foveate.study.cluster.check import Check
from foveate.study.cluster.node import PROGRESS, carry_out, package_hash
from foveate.study.executor import Job, JobProgress, Take, WorkerResult
from foveate.study.local import LocalProcesses
from foveate.train import CHECKPOINT

LOOK_S = 1.0  # between looks at running jobs
MACHINES_S = 20.0  # between looks at which machines there are


@dataclass(frozen=True)
class Place:
    """A machine of Ray's, or what a Slurm job is to run on.

    Attributes:
        name: as a person names it.
        jobs: of the study at a time.
    """

    name: str
    jobs: int


@dataclass(frozen=True)
class CallEnd:
    """How a call on a machine ended: with a value, with a crash, or because the machine was lost."""

    handle: Any
    value: Any = None
    crash: str | None = None
    lost: str | None = None


class Engine(Protocol):
    """Starts functions on machines.

    Attributes:
        processes_stay: does a process of the engine's carry out several calls?
    """

    processes_stay: bool

    def connect(self) -> None:
        """Raises: ValueError, RuntimeError: in one line, why there is no cluster; nothing has begun."""

    def run_needs(self, cpus: int, gpus: float) -> None:
        """What a run is given."""

    def close(self) -> None:
        """End what still runs."""

    def places(self) -> list[Place]:
        """Where jobs may run now."""

    def place(self, name: str) -> Place:
        """A machine by its name. Raises: ValueError: there is none; the known ones are named."""

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], place: Place, *, needs: str = "a run"
    ) -> Any:
        """Start function(*arguments) on the place; a handle that can be hashed. needs: of the machine, "nothing", what
        "a run" needs, or "all" of it."""

    def wait(self, handles: list[Any], seconds: float) -> list[CallEnd]:
        """The calls that have ended, after at most these seconds."""


class ClusterExecutor:
    """An `Executor` over an engine.

    Args:
        folder: of the study, shared with the machines.
        jobs: the most at a time; None: as many as there are places for.
        cluster: what a run is given, and the machine that costs are measured on.
        patience_s: how long machines may take to answer the check; None: as long as a queue takes.
    """

    def __init__(
        self, folder: Path, jobs: int | None, cluster: Cluster, engine: Engine, patience_s: float | None
    ) -> None:
        self.folder, self.jobs, self.cluster = folder.absolute(), jobs, cluster
        self.engine, self.patience_s, self.costs_on = engine, patience_s, cluster.costs_on
        self._own = LocalProcesses(self.folder)  # reads results
        self._machines: dict[Place, str] = {}  # checked ones, and their types
        self._refused: set[str] = set()
        self._running: dict[Any, tuple[Job, Place]] = {}
        self._answers: dict[Any, Place] = {}  # checks of machines that came later
        self._check: Check | None = None
        self._looked = time.monotonic()

    @property
    def measures_costs(self) -> bool:
        return self.costs_on != HERE

    def __enter__(self) -> "ClusterExecutor":
        self.engine.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        if self._check is not None:
            self._check.close()

    def prepare(self, study: Study) -> int:
        self._check = Check(self.folder, study)
        self.engine.run_needs(self.cluster.cpus(study), self.cluster.gpus(study))
        places = self.engine.places()
        extra = []
        if self.measures_costs and self.costs_on is not None:
            extra = [one for one in [self.engine.place(self.costs_on)] if one not in places]
        waiting = {self._ask(place): place for place in [*places, *extra]}
        until = None if self.patience_s is None else time.monotonic() + self.patience_s
        while waiting:
            for ended in self.engine.wait(list(waiting), LOOK_S):
                place = waiting.pop(ended.handle)
                self._machines[place] = self._check.machine(place.name, ended.value, ended.crash or ended.lost)
            if waiting and until is not None and time.monotonic() > until:
                names = ", ".join(place.name for place in waiting.values())
                raise RuntimeError(f"no answer within {self.patience_s:.0f} s from {names}: is the cluster overloaded?")
        kinds = sorted(set(self._machines.values()))
        if self.measures_costs and self.costs_on is None and len(kinds) > 1:
            each = "; ".join(f"{place.name}: {kind}" for place, kind in self._machines.items())
            raise ValueError(f"costs: wanted the machine to measure them on, --costs-on NAME or here; there are {each}")
        for place in extra:
            del self._machines[place]  # for costs alone
        count = sum(place.jobs for place in self._machines)
        if not count:
            raise ValueError(f"no machine of the cluster has what a run needs: {self.cluster.in_words(study)}")
        return count if self.jobs is None else min(self.jobs, count)

    def finished(self, key: str) -> dict[str, Any] | None:
        return self._own.finished(key)

    def clear(self, key: str) -> None:
        for name in (CHECKPOINT, PROGRESS):
            (self.folder / "runs" / key / name).unlink(missing_ok=True)

    def work(self, take: Take, tell: Callable[[str, JobProgress], None]) -> Iterator[WorkerResult]:
        while True:
            self._fill(take)
            if not self._running:
                return
            for ended in self.engine.wait([*self._running, *self._answers], LOOK_S):
                if ended.handle in self._answers:
                    self._open(self._answers.pop(ended.handle), ended)
                    continue
                job, place = self._running.pop(ended.handle)
                if ended.lost is not None:
                    self._machines.pop(place, None)  # checked again, if it is there
                    self._looked = -math.inf
                yield self._result(job, place, ended)
            self._look_around()
            for job, _ in self._running.values():
                with suppress(OSError, ValueError):  # none yet
                    tell(job.key, read_json(self.folder / "runs" / job.key / PROGRESS))

    def wait_for_machines(self) -> bool:
        if self._machines and not self._answers:
            return False
        if self._answers:
            for ended in self.engine.wait(list(self._answers), LOOK_S):
                self._open(self._answers.pop(ended.handle), ended)
        else:
            time.sleep(LOOK_S)
        self._look_around()
        return True

    def _fill(self, take: Take) -> None:
        """Give each free place a job, one to each machine in turn."""
        working = [place for _, place in self._running.values()]
        free = {place: place.jobs - working.count(place) for place in self._machines}
        left = (sum(free.values()) if self.jobs is None else self.jobs) - (0 if self.jobs is None else len(working))
        while left > 0 and any(count > 0 for count in free.values()):
            for place in [place for place, count in free.items() if count > 0]:
                job = take(self._machines[place]) if left > 0 else None
                if job is None:
                    free[place] = 0
                    continue
                self._start(job, place)
                free[place] -= 1
                left -= 1

    def _start(self, job: Job, place: Place) -> None:
        if job.kind == "costs" and self.costs_on is not None:
            place = self.engine.place(self.costs_on)
        (self.folder / "runs" / job.key / PROGRESS).unlink(missing_ok=True)
        needs = "all" if job.kind == "costs" else "a run"
        arguments = (str(self.folder), asdict(job), package_hash(), self.engine.processes_stay)
        handle = self.engine.call(carry_out, arguments, place, needs=needs)
        self._running[handle] = job, place

    def _result(self, job: Job, place: Place, ended: CallEnd) -> WorkerResult:
        found = ended.value
        if found is None:
            return WorkerResult(job.key, crash=ended.crash and f"{place.name}: {ended.crash}", lost=ended.lost)
        if job.kind == "costs" and found.get("result") is not None:
            found = {"result": found["result"] | {"where": place.name}}
        return WorkerResult(job.key, **found)

    def _look_around(self) -> None:
        """Ask machines that came, or came back, whether they can be used."""
        if time.monotonic() - self._looked < MACHINES_S and self._machines:
            return
        self._looked = time.monotonic()
        places = self.engine.places()
        for gone in [place for place in self._machines if place not in places]:
            del self._machines[gone]
        checked = set(self._answers.values())
        for place in places:
            if place not in self._machines and place not in checked and place.name not in self._refused:
                self._answers[self._ask(place)] = place

    def _ask(self, place: Place) -> Any:
        assert self._check is not None
        function, arguments = self._check.question(place.name)
        return self.engine.call(function, arguments, place, needs=self._check.needs)

    def _open(self, place: Place, ended: CallEnd) -> None:
        assert self._check is not None
        if ended.lost is not None:
            return
        try:
            self._machines[place] = self._check.machine(place.name, ended.value, ended.crash)
        except ValueError as error:
            self._refused.add(place.name)
            warnings.warn(f"a machine that came later is left out: {error}", stacklevel=2)
