"""Run a study in its folder: plan, measure the costs, train what is not trained yet, keep the rows.

The coordinator alone writes the database. A study killed at any moment goes on: finished runs are never run again, and
the others continue from their checkpoints.
"""

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foveate.data import open_data
from foveate.data.dataset import Dataset
from foveate.registry import nearest
from foveate.spec import Metric, Run, Study
from foveate.store import Store
from foveate.study.analyse import decided, next_look
from foveate.study.checks import check_names
from foveate.study.cluster import Cluster
from foveate.study.estimate import training_seconds
from foveate.study.executor import ExecutorFactory, Job, JobProgress, WorkerResult
from foveate.study.explained import check_explain, explain_notes
from foveate.study.folder import RESULTS, STUDY, is_paused, lock_folder, refuse_another, set_paused, write_study
from foveate.study.ledger import read_ledger, remember_look, remember_plan
from foveate.study.local import LocalProcesses
from foveate.study.measured_costs import LATENCY_BATCH, measure_costs
from foveate.study.mirror import Mirror, Mirrors
from foveate.study.placement import placement
from foveate.study.plan import Plan, make_plan, opened_data
from foveate.study.results import summarise
from foveate.study.robust import check_robustness, robustness_metrics
from foveate.study.speed import speed_notes, with_measured_speed
from foveate.study.standing import Standing
from foveate.study.start import find_start
from foveate.study.tries import Tries
from foveate.study.user_code import code_files, code_fingerprint
from foveate.study.waiting import WaitingRuns, longest_first
from foveate.study_file import study_toml
from foveate.summary import Summary, to_json
from foveate.tasks import Task, create_task
from foveate.tasks.task import MOST_CONFUSED
from foveate.training import validation_name

ATTEMPTS = 3  # of a run whose worker ends without getting further; one that says why it failed is not tried again
WORKING = "FOVEATE_WORKER"  # set in the environment of a worker


class Watcher:
    """Called as a study runs; does nothing. The command line draws its progress by overriding it."""

    def planned(self, study: Study, data: Dataset, plan: Plan, done: int) -> None:
        """The plan stands; this many of its runs are done already."""

    def placed(self, text: str) -> None:
        """How many runs go at a time on GPUs, and why."""

    def measuring(self) -> None:
        """The costs are about to be measured."""

    def estimated(self, runs: int, jobs: int, seconds: float) -> None:
        """Training begins: the number of runs, how many run at a time, and the estimated time in all."""

    def started(self, run: Run, attempt: int) -> None:
        """A run begins, or begins again."""

    def progressed(self, run: Run, step: int, steps: int) -> None:
        """A run has done this many of its steps."""

    def ended(self, run: Run, error: str | None) -> None:
        """A run is done, or has failed with this error."""

    def undecided(self, summary: Summary, seeds: int) -> None:
        """The study has no verdict on every claim yet and goes on to this many seeds."""

    def waiting(self, who: str) -> None:
        """Another process works in the folder; this one waits."""


def run_study(
    study: Study,
    out: Path | str,
    *,
    jobs: int | None = None,
    wait: bool = False,
    command: str = "",
    watcher: Watcher | None = None,
    executor: ExecutorFactory = LocalProcesses,
    mirrors: Sequence[Mirror] = (),
) -> Summary:
    """Run the study in the folder `out`, or go on with it, and analyse it.

    A script that calls this and registers what the study names (a mechanism, network, task, kind of data) is run again
    in every worker: put the call under `if __name__ == "__main__":`.

    Args:
        jobs: runs at a time; None: cores // threads of one run, on GPUs as many as their measured memory allows.
        wait: wait for another process that works in the folder, instead of an error.
        command: what a person would type to do this again, for the report.
        watcher: is called as the study runs.
        executor: carries out the runs: processes of this machine, or a `foveate.study.cluster.Cluster`. Costs are
            measured on this machine, or on the one that a cluster names.
        mirrors: are given the rows of each run that is done from now on; one that fails is left out from then on.

    With `study.until`, seeds are added and the study is judged again until every claim has its verdict or `max_seeds`
    have been run.

    Returns: the summary; `summary.failed` has the runs that failed.
    Raises: ValueError: bad data, network, variant, task or folder, before anything runs. FolderInUse (a ValueError).
        RuntimeError: if the folder's disk is full or broken; the study can go on once that is mended.
    """
    if WORKING in os.environ:
        raise RuntimeError(
            'run_study was called while a worker reads this script; put the call under: if __name__ == "__main__":'
        )
    watcher, out, kept_mirrors = watcher or Watcher(), Path(out), Mirrors(mirrors)
    elsewhere = isinstance(executor, Cluster)
    study = check_names(study.resolved(Path.cwd()), device=not elsewhere)
    data = open_data(opened_data(study, study.seeds[0]))  # what cannot be divided is refused before a folder is made
    task = create_task(study.task, data, **study.task_options)
    metrics = study_metrics(study, task)
    if study.robustness is not None:
        check_robustness(study.robustness, task, data)
    if study.explain is not None:
        check_explain(study.explain, task, data)
    if isinstance(executor, Cluster):
        executor.check(study)
    if study.train.listed and metrics[0] not in task.metrics:
        raise ValueError(
            f"train.{study.train.listed[0]}: a list is chosen from by the task's metrics on the validation part; "
            f"{metrics[0].name!r} is measured by the trainer alone"
        )
    if not (out / STUDY).is_file():
        # mistakes end here, before a folder is made
        make_plan(study.model_copy(update={"control": "none", "seeds": study.seeds[:1]}), data, task)
    try:
        with (
            lock_folder(out, wait=wait, on_wait=watcher.waiting) as check_lock,
            contextlib.closing(Store(out / RESULTS)) as store,
        ):
            set_paused(out, False)
            study = with_measured_speed(with_seeds_added_before(study, store), out, store, data, task)
            again: tuple[str, ...] = ("running", "failed")
            while True:
                coordinator = _Coordinator(study, out, data, task, metrics, store, watcher, kept_mirrors, check_lock)
                coordinator.run(executor, jobs, command, again)
                summary = summarise(out)
                if is_paused(out):
                    return summary
                further = next_look(len(study.seeds), study.max_seeds) if study.max_seeds else None
                if further is None or decided(summary, study.max_seeds):
                    return summary
                watcher.undecided(summary, further)
                study, again = study.with_seeds(further), ("running",)
    except (OSError, sqlite3.OperationalError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RuntimeError(
            f"{out}: {reason}; once that is mended: foveate study resume {shlex.quote(str(out))}"
        ) from error


def with_seeds_added_before(study: Study, store: Store) -> Study:
    """A study that adds seeds by itself goes on with those that its folder has."""
    if study.until is None:
        return study
    return study.model_copy(update={"seeds": tuple(dict.fromkeys([*study.seeds, *read_ledger(store).seeds]))})


def study_metrics(study: Study, task: Task) -> tuple[Metric, ...]:
    """The task's metrics, and a trainer's own; the one that the verdict is about comes first.

    Raises: ValueError: if the study names a metric that nothing gives, or one that cannot be judged.
    """
    metrics = task.metrics
    if study.robustness is not None:
        metrics += robustness_metrics(task)
    if study.explain is not None:
        metrics += study.explain.metrics(detects=task.detects)
    if isinstance(study.metric, Metric):
        if study.trainer is None and study.metric not in metrics:
            known = ", ".join(f"{one.name} ({one.better} is better)" for one in metrics)
            raise ValueError(f"metric: the task {study.task!r} gives {known}; got {study.metric.name!r}")
        metrics = (study.metric, *(one for one in metrics if one.name != study.metric.name))
    elif study.metric is not None:
        first = next((one for one in metrics if one.name == study.metric), None)
        if first is None:
            hint = nearest(study.metric, [one.name for one in metrics])
            more = '; a trainer\'s own: metric = { name = "…", better = "higher" }' if study.trainer else ""
            raise ValueError(f"metric: the task {study.task!r} gives no {study.metric!r}; {hint}{more}")
        metrics = (first, *(one for one in metrics if one is not first))
    if metrics[0].better == "neither":
        raise ValueError(f"metric: {metrics[0].name!r} has no better direction; wanted one to judge by")
    return metrics


def _without_later(study: dict[str, Any]) -> dict[str, Any]:
    """A study's values without those that change no network: its controls are kept, which measured times may choose."""
    later = {"name", "seeds", "until", "max_seeds", "matters", "compare"}
    return {key: value for key, value in study.items() if key not in later}


class _Coordinator:
    def __init__(
        self,
        study: Study,
        out: Path,
        data: Dataset,
        task: Task,
        metrics: tuple[Metric, ...],
        store: Store,
        watcher: Watcher,
        mirrors: Mirrors,
        check_lock: Callable[[], None],
    ) -> None:
        self.study, self.out, self.data, self.task = study, out, data, task
        self.metrics, self.store, self.watcher, self.mirrors = metrics, store, watcher, mirrors
        self.check_lock = check_lock
        weights = "+".join(dict.fromkeys(find_start(study, name).fingerprint for name in study.networks()))
        content = {"data": data.fingerprint, "weights": weights, "code": code_fingerprint(study)}
        before = store.get_meta("plan")
        planned = before and Study.model_validate({key: of for key, of in before["study"].items() if key != "content"})
        refuse_another(out, study, planned)
        self._refuse_changes(content)
        given = study.model_dump(mode="json") | {"content": content}
        same = before is not None and _without_later(before["study"]) == _without_later(given)
        if not (out / STUDY).is_file():
            write_study(out, study)  # planning may measure latencies; killed meanwhile, the study can go on
        self.plan = make_plan(study, data, task, before["plan"] if same else None)
        self.by_key = {run.key: run for run in self.plan.runs}
        self.tries = Tries(ATTEMPTS)
        self.standing = Standing(out)
        write_study(out, study)
        store.set_meta("plan", {"study": given, "plan": self.plan.to_json()})
        store.set_meta("content", content)
        store.set_meta("metrics", [metric.model_dump() for metric in metrics])
        store.set_meta("arms", [to_json(arm.summary()) for arm in self.plan.arms])
        store.set_meta("runs", list(self.by_key))
        remember_plan(store, study, [arm.summary() for arm in self.plan.arms], study.max_seeds)

    def _refuse_changes(self, content: dict[str, str]) -> None:
        """Raise ValueError where finished runs were of other data, weights or code, or a metric's direction changed."""
        if not any(run["state"] == "done" for run in self.store.runs()):
            return
        before = self.store.get_meta("content") or content
        whats = {
            "data": f"the data in {self.study.data.source}",
            "weights": f"the weights, {self.study.weights},",
            "code": ", ".join(file.name for file in code_files(self.study)) or "code",
        }
        for part, what in whats.items():
            if before[part] != content[part]:
                raise ValueError(f"{self.out} holds another study ({what} changed since its runs); use another --out")
        known = {metric["name"]: Metric(**metric) for metric in self.store.get_meta("metrics") or []}
        for metric in self.metrics:
            old = known.get(metric.name, metric)
            if (old.better, old.unit) != (metric.better, metric.unit):
                raise ValueError(
                    f"{self.out} holds another study (metric {old.name!r}: {old.better} is better, in {old.unit!r} "
                    f"there; {metric.better}, in {metric.unit!r} now); use another --out"
                )

    def run(self, executor: ExecutorFactory, jobs: int | None, command: str, again: tuple[str, ...]) -> None:
        """Carry out the runs that are to do, and those in the states `again`."""
        self.store.plan(self.plan.runs)
        self.store.reset(again)
        self._set_about(command)
        jobs = jobs or (None if isinstance(executor, Cluster) else self._jobs())
        with self.standing, executor(self.out, jobs) as working:
            places = working.prepare(self.study)
            for key, state in self.store.states().items():
                if key in self.by_key and state != "done" and (result := working.finished(key)) is not None:
                    # the coordinator was killed between a run's end and its row
                    if (error := self._finish(key, result)) is not None:
                        self.store.fail(key, error)
                    working.clear(key)
            states = self.store.states()
            done = sum(states[key] == "done" for key in self.by_key)
            self.watcher.planned(self.study, self.data, self.plan, done)
            if {row["arm"] for row in self.store.costs()} != {arm.label for arm in self.plan.arms}:
                self.watcher.measuring()
                measure_costs(self.plan, self.study.train, self.out, self.store, working)
            costs = self._costs()
            todo = longest_first([run for key, run in self.by_key.items() if states[key] == "todo"], costs)
            self._estimate(todo, places, costs)
            waiting = WaitingRuns(todo, self.store.machines())
            while waiting and not is_paused(self.out):
                for ended in working.work(lambda machine="": self._begin(waiting, machine), self._progress):
                    if self._end(ended):
                        waiting.put(self.by_key[ended.key])
                    elif ended.result is not None:
                        working.clear(ended.key)
                if waiting and not working.wait_for_machines():
                    waiting.release()  # those that are left began on a type of machine that is gone
        if not is_paused(self.out):
            remember_look(self.store, self.study)

    def _jobs(self) -> int:
        states = self.store.states()
        waiting = [run for key, run in self.by_key.items() if states[key] == "todo"]
        if not waiting:
            return 1
        found = placement(self.study, self.out, waiting, self.store)
        if found.a_gpu:
            self.watcher.placed(found.text)
        return found.jobs

    def _costs(self) -> dict[str, dict[str, float]]:
        """Arm → cost → value."""
        costs: dict[str, dict[str, float]] = {arm.label: {} for arm in self.plan.arms}
        for row in self.store.costs():
            costs.setdefault(row["arm"], {})[row["metric"]] = row["value"]
        return costs

    def _estimate(self, runs: list[Run], jobs: int, costs: dict[str, dict[str, float]]) -> None:
        batch = (self.store.get_meta("latency") or {}).get("batch_size", LATENCY_BATCH)
        seconds = training_seconds(self.study, self.data, runs, costs, batch, min(jobs, max(len(runs), 1)))
        if runs and seconds is not None:
            self.watcher.estimated(len(runs), jobs, seconds)

    def _begin(self, waiting: WaitingRuns, machine: str) -> Job | None:
        self.check_lock()
        run = None if is_paused(self.out) else waiting.take(machine)
        if run is None:
            return None
        key = run.key
        attempt = self.store.start(key, machine)
        self.tries.begin(key)
        self.standing.begin(key)
        self.watcher.started(run, attempt)
        return Job(key, "train", run.model_dump(mode="json"), self.study.train.threads)

    def _progress(self, key: str, news: JobProgress) -> None:
        run = self.by_key.get(key)
        if run is not None and "step" in news:
            self.tries.reached(key, news["step"])
            self.standing.reached(key, news["step"], news["steps"])
            self.watcher.progressed(run, news["step"], news["steps"])

    def _end(self, ended: WorkerResult) -> bool:
        """Store what the worker left; True if the run is to be tried again."""
        self.check_lock()
        key, error = ended.key, ended.error
        self.standing.end(key)
        if ended.result is not None:
            error = self._finish(key, ended.result)
        elif error is None:
            if ended.lost is not None:
                self.tries.forgive(key)
            if self.tries.left(key) or is_paused(self.out):
                self.store.put_back(key)
                return True
            error = f"the worker ended {ATTEMPTS} times without a result ({ended.crash})"
        if error is not None:
            self.store.fail(key, error)
        self.watcher.ended(self.by_key[key], error)
        return False

    def _finish(self, key: str, result: dict[str, Any]) -> str | None:
        """Store a result; the reason if it cannot stand beside the others'."""
        on_validation = {validation_name(metric.name) for metric in self.metrics}
        names = [one["name"] for one in result["metrics"] if one["name"] not in on_validation]
        before = self.store.get_meta("measured")
        if before is None:
            self.store.set_meta("measured", names)
        elif set(before) != set(names):
            other = sorted(set(before) ^ set(names))[0]
            state = "is missing" if other in before else "is new"
            return (
                f"metric {other!r} {state}: other runs of this study gave {', '.join(before)}; got {', '.join(names)}"
            )
        self.store.finish(key, result)
        self.mirrors.write(self.by_key[key], result)
        return None

    def _set_about(self, command: str) -> None:
        classes = getattr(self.task, "classes", ())
        baseline, chance = self.task.baseline()
        about = {
            "name": self.data.name,
            "data": self.data.description,
            "classes": len(classes) or None,
            "baseline": baseline,
            "chance": chance,
            "further_baselines": self.task.further_baselines(),
            "class_names": list(classes) if len(classes) <= MOST_CONFUSED else [],
            "train_items": len(self.data.train),
            "validation_items": None if self.data.validation is None else len(self.data.validation),
            "test_items": len(self.data.test),
            "size": list(self.data.inputs[1:]),
            "network": self.study.network,
            "task": self.study.task,
            "command": command,
            "toml": study_toml(self.study),
            "notes": [
                *self.data.notes,
                *self.task.notes,
                *self.plan.notes,
                *speed_notes(self.study, self.store),
                *explain_notes(self.study, self.data),
            ],
            "when": time.strftime("%Y-%m-%d"),
        }
        self.store.set_meta("about", about)
