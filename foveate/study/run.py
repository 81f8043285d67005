"""Run a study in its folder: plan, measure the costs, train what is not trained yet, keep the rows.

The coordinator alone writes the database. A study killed at any moment goes on: finished runs are never run again, and
the others continue from their checkpoints.
"""

import contextlib
import json
import os
import shlex
import shutil
import sqlite3
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from foveate.data import ImageData, open_data
from foveate.networks import input_channels
from foveate.spec import Run, Study
from foveate.store import Store
from foveate.study.folder import RESULTS, STUDY, held, keep_study, study_toml
from foveate.study.local import Ended, LocalProcesses
from foveate.study.names import check_names
from foveate.study.plan import Plan, make_plan, settled_facts
from foveate.study.worker import write_json
from foveate.train import CHECKPOINT

ATTEMPTS = 3  # of a run whose worker was killed or crashed; one that says why it failed is not tried again
LATENCY_BATCH = 32
_OPERATIONS = (
    ("elementwise", "operations a batch"),
    ("reductions", "operations a batch"),
    ("launches", "operators a pass"),
)
_TIMES = (
    ("latency_ms", "ms a batch"),
    ("latency_ratio", "times plain"),
    ("train_step_ms", "ms a batch"),
    ("train_step_ratio", "times plain"),
)


class Watcher:
    """Told what happens while a study runs; does nothing. The command line draws its progress by overriding it."""

    def planned(self, study: Study, data: ImageData, plan: Plan, done: int) -> None:
        """The plan stands; so many of its runs were done before."""

    def measuring(self) -> None:
        """The costs are about to be measured."""

    def started(self, label: str, run: Run, attempt: int) -> None:
        """A run begins, or begins again."""

    def progressed(self, label: str, run: Run, step: int, steps: int) -> None:
        """A run has done so many of its steps."""

    def ended(self, label: str, run: Run, error: str | None) -> None:
        """A run is done, or has failed with this error."""

    def waiting(self, who: str) -> None:
        """The folder is held by somebody else; this process waits."""


def run_study(
    study: Study,
    out: Path,
    *,
    jobs: int | None = None,
    wait: bool = False,
    command: str = "",
    watcher: Watcher | None = None,
) -> bool:
    """Run the study in the folder `out`, or go on with it; True if every run is done, False if some failed.

    Args:
        jobs: runs at a time; None: cores // threads of one run (one on a GPU).
        wait: wait for another process that holds the folder, instead of an error.
        command: what a person would type to do this again, for the report.

    Raises: ValueError: bad data, network, variant or folder, before anything runs. FolderInUse (a ValueError).
        RuntimeError: the folder's disk is full or broken; the study can go on once that is mended.
    """
    watcher = watcher or Watcher()
    check_names(study)
    data = open_data(study.data)
    if not (out / STUDY).is_file():
        make_plan(study.model_copy(update={"control": "none"}), data)  # mistakes are told before anything is made
    try:
        with held(out, wait=wait, on_wait=watcher.waiting), contextlib.closing(Store(out / RESULTS)) as store:
            return _Coordinator(study, out, data, store, watcher).run(jobs or _places(study), command)
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RuntimeError(
            f"{out}: {reason}; once that is mended: foveate study resume {shlex.quote(str(out))}"
        ) from error


def _places(study: Study) -> int:
    if study.train.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // study.train.threads)


class _Coordinator:
    def __init__(self, study: Study, out: Path, data: ImageData, store: Store, watcher: Watcher) -> None:
        self.study, self.out, self.data, self.store, self.watcher = study, out, data, store, watcher
        asked = study.model_dump(mode="json") | {"fingerprint": data.fingerprint}
        before = store.kept("plan")
        same = before is not None and before["study"] == asked
        if not (out / STUDY).is_file():
            keep_study(out, study)  # planning may measure latencies; killed meanwhile, the study can be gone on with
        self.plan = make_plan(study, data, before["settled"] if same else None)
        self.labels = {run.key: self.plan.label_of(run) for run in self.plan.runs}
        self.by_key = {run.key: run for run in self.plan.runs}
        self.starts: Counter[str] = Counter()  # of each run, by this coordinator
        keep_study(out, study)
        store.keep("plan", {"study": asked, "settled": settled_facts(self.plan)})
        store.keep("arms", [arm.row() for arm in self.plan.arms])
        store.keep("labels", self.labels)

    def run(self, jobs: int, command: str) -> bool:
        self.store.plan(self.plan.runs)
        self.store.reset(("running", "failed"))
        self._keep_about(command)
        for key in self.by_key:
            if self._is_whole(key):
                self._finish(key)  # the coordinator was killed between a run's end and its row
        done = sum(self.store.state(key) == "done" for key in self.by_key)
        self.watcher.planned(self.study, self.data, self.plan, done)
        self._measure_costs()
        waiting = deque(key for key in self.by_key if self.store.state(key) == "todo")

        def take() -> Path | None:
            return self._begin(waiting.popleft()) if waiting else None

        with LocalProcesses(jobs, self.study.train.threads, self._progress) as executor:
            for ended in executor.work(take):
                if self._end(ended):
                    waiting.append(ended.folder.name)
        return all(self.store.state(key) == "done" for key in self.by_key)

    def _folder(self, key: str) -> Path:
        return self.out / "runs" / key

    def _begin(self, key: str) -> Path:
        folder, run = self._folder(key), self.by_key[key]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.json").unlink(missing_ok=True)
        write_json(folder / "run.json", run.model_dump(mode="json"))
        attempt = self.store.start(key)
        self.starts[key] += 1
        self.watcher.started(self.labels[key], run, attempt)
        return folder

    def _progress(self, folder: Path, news: dict[str, Any]) -> None:
        run = self.by_key.get(folder.name)
        if run is not None and "step" in news:
            self.watcher.progressed(self.labels[folder.name], run, news["step"], news["steps"])

    def _end(self, ended: Ended) -> bool:
        """Keep what the worker left; True if the run is to be tried again."""
        key = ended.folder.name
        if ended.status == 0 and self._is_whole(key):
            self._finish(key)
            self.watcher.ended(self.labels[key], self.by_key[key], None)
            return False
        error = _said(ended)
        if error is None and self.starts[key] < ATTEMPTS:
            return True
        if error is None:
            how = f"killed by signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
            error = f"the worker ended {ATTEMPTS} times without a result ({how}): {_last_line(ended)}"
        self.store.fail(key, error)
        self.watcher.ended(self.labels[key], self.by_key[key], error)
        return False

    def _is_whole(self, key: str) -> bool:
        """Has the run left a result? One that is cut short is thrown away, so that the run is done again."""
        path = self._folder(key) / "result.json"
        try:
            return "metrics" in json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            path.unlink()
            return False

    def _finish(self, key: str) -> None:
        folder = self._folder(key)
        if self.store.state(key) != "done":
            self.store.finish(key, json.loads((folder / "result.json").read_text(encoding="utf-8")))
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def _measure_costs(self) -> None:
        """All arms in one process, one after another in turns, while nothing else of the study runs."""
        labels = [arm.label for arm in self.plan.arms]
        if {row["arm"] for row in self.store.costs()} == set(labels):
            return
        self.watcher.measuring()
        folder = self.out / "runs" / "costs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        first = {label: next(run for run in self.plan.runs if self.labels[run.key] == label) for label in labels}
        channels = input_channels(self.study.network, self.data.channels)
        asked: dict[str, Any] = {
            "runs": {label: run.model_dump(mode="json") for label, run in first.items()},
            "shape": [min(LATENCY_BATCH, self.study.train.batch_size), channels, *self.data.image_size],
            "classes": len(self.data.classes),
            "threads": self.study.train.threads,
            "repeats": 60,
            "budget_s": 1.0 + len(labels),
        }
        write_json(folder / "costs.json", asked)
        with LocalProcesses(1, self.study.train.threads, lambda folder, news: None) as executor:
            places = deque([folder])
            ended = next(executor.work(lambda: places.popleft() if places else None))
        if ended.status != 0:
            raise RuntimeError(f"the costs could not be measured: {_said(ended) or _last_line(ended)}")
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        rows: list[tuple[str, str, float, float | None, float | None, str]] = []
        for label, cost in result["costs"].items():
            for metric, unit in (("parameters", "parameters"), ("macs", "multiply-adds an image")):
                rows.append((label, metric, cost[metric], None, None, unit))
            for metric in ("bytes_moved", "activation_bytes"):
                rows.append((label, metric, cost[metric], None, None, "bytes a batch"))
            for metric, unit in _OPERATIONS:
                rows.append((label, metric, cost[metric], None, None, unit))
            for metric, unit in _TIMES:
                if metric in cost:
                    value = cost[metric]
                    rows.append((label, metric, value["median"], value["low"], value["high"], unit))
        self.store.put_costs(rows, {"machine": result["machine"], "versions": json.dumps(result["versions"])})
        self.store.keep("latency", {"batch_size": asked["shape"][0], "threads": asked["threads"]})

    def _keep_about(self, command: str) -> None:
        about = {
            "name": self.data.name,
            "data": self.data.description,
            "classes": len(self.data.classes),
            "train_images": len(self.data.train),
            "test_images": len(self.data.test),
            "image_size": list(self.data.image_size),
            "network": self.study.network,
            "command": command,
            "toml": study_toml(self.study),
            "notes": list(self.plan.notes),
            "when": time.strftime("%Y-%m-%d"),
        }
        self.store.keep("about", about)


def _said(ended: Ended) -> str | None:
    """The error that the worker gave as its reason, if it could."""
    try:
        return str(json.loads((ended.folder / "error.json").read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError):
        return None


def _last_line(ended: Ended) -> str:
    return ended.log.splitlines()[-1] if ended.log else "no log"
