"""Studies of many runs: a plan of 100,000 carried out by a simulated executor, and 10,000 stored runs opened and
reported.

    python benchmarks/many_runs.py --out results/many_runs/many_runs.json

The simulated executor has 1,000 workers in a time of its own; a tenth of them die at random moments, and the run that
each was at is lost. Nothing is trained: results are made up. Everything else is the library's: the plan builds every
network, the coordinator keeps every row in its database.
"""

import argparse
import heapq
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from foveate.items import ITEMS, write_items
from foveate.machine import machine_name, versions
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.store import Store
from foveate.study import Watcher, run_study, status, summarise
from foveate.study.executor import WorkerResult
from foveate.study.folder import RESULTS

NAMES = ("se", "eca", "cbam", "cse", "sse", "scse", "ca", "bam", "gc", "ese")
TEST_ITEMS = 200


def study(arms: int, seeds: int) -> Study:
    """A study of classification with this many arms, plain included."""
    variants = [
        Variant.model_validate({"label": f"{name} at {at}, {init}", "attention": name, "at": at, "init": init})
        for init in ("paper", "identity")
        for at in ("block", "stage")
        for name in NAMES
    ]
    if arms - 1 > len(variants):
        raise ValueError(f"wanted at most {len(variants) + 1} arms; got {arms}")
    return Study(
        variants=(Variant(), *variants[: arms - 1]),
        seeds=tuple(range(seeds)),
        data=DataSpec(train_items=200, test_items=TEST_ITEMS),
        train=Training(epochs=5, batch_size=20),
        control="none",
    )


class Simulated:
    """An `Executor` of workers in a time of its own, a tenth of which die once at random moments and are replaced.

    Attributes:
        given, ended: how often each run was given to a worker, and came back done.
        deaths: of workers with a run.
    """

    measures_costs = True
    workers = 1000
    span = 100.0  # in which the deaths lie; a run takes about 1
    items = False  # write each run's scores of the test items
    given: ClassVar[Counter] = Counter()
    ended: ClassVar[Counter] = Counter()
    deaths = 0

    def __init__(self, folder, jobs):
        self.folder, self.random, self.now = folder, random.Random(0), 0.0
        self.dies = {
            worker: self.random.uniform(0, self.span) if worker % 10 == 0 else float("inf")
            for worker in range(self.workers)
        }
        self.free, self.events = list(range(self.workers)), []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def prepare(self, study):
        return self.workers

    def finished(self, key):
        return None

    def wait_for_machines(self):
        return False

    def clear(self, key):
        pass

    def work(self, take, tell):
        while True:
            while self.free and (job := take()) is not None:
                if job.kind == "costs":
                    yield WorkerResult(job.key, result=made_costs(job.content["runs"]))
                    continue
                worker = self.free.pop()
                self.given.update([job.key])
                end = self.now + self.random.uniform(0.5, 1.5)
                dies = self.dies[worker] < end
                heapq.heappush(self.events, (self.dies[worker] if dies else end, job.key, dies, worker, job))
            if not self.events:
                return
            when, key, dies, worker, job = heapq.heappop(self.events)
            self.now = max(self.now, when)
            self.free.append(worker)
            if dies:
                self.dies[worker] = float("inf")  # a new one in its place
                type(self).deaths += 1
                yield WorkerResult(key, lost="the worker died")
                continue
            self.ended.update([key])
            yield WorkerResult(key, result=made_result(self.folder / "runs" / key if self.items else None, job.content))


def made_result(place, run):
    """Scores around 0.8, and the same curve for every run; items of the score where there is a place for them."""
    drawn = random.Random(f"{run['arm']} {run['seed']}")
    score = 0.8 + drawn.gauss(0, 0.01)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        right = np.arange(TEST_ITEMS) < round(score * TEST_ITEMS)
        names = [str(number) for number in range(TEST_ITEMS)]
        write_items(place / ITEMS, names, {"accuracy": right.astype(float)})
        score = float(right.mean())
    rows = (("accuracy", "fraction", "higher", score), ("loss", "nats", "lower", 1 - score))
    rows += (("top5", "fraction", "higher", 1.0), ("epochs", "epochs", "neither", 5), ("seconds", "s", "neither", 1.0))
    metrics = [dict(zip(("name", "unit", "better", "value"), row, strict=True)) for row in rows]
    history = [{"epoch": epoch, "train_loss": 1 / epoch, "test_accuracy": score} for epoch in range(1, 6)]
    return {"metrics": metrics, "history": history, "machine": "made up", "versions": {}}


def made_costs(runs):
    times = {"median": 10.0, "low": 9.9, "high": 10.1}
    counted = dict.fromkeys(
        ("parameters", "macs", "bytes_moved", "activation_bytes", "elementwise", "reductions", "launches"), 1000
    )
    named = ("latency_ms", "latency_ratio", "train_step_ms", "train_step_ratio")
    cost = counted | dict.fromkeys(named, times)
    return {"costs": dict.fromkeys(runs, cost), "roofs": None, "machine": "made up", "versions": {}}


class Planned(Watcher):
    """When the plan stood, and the memory that the process had taken by then."""

    def __init__(self):
        self.began = time.perf_counter()

    def planned(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.peak_mib = peak_mib()


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plan_and_simulate(folder, arms, seeds, workers=1000):
    """{"runs", "plan_s", "plan_peak_mib", "all_s", "deaths", "every_run_done_once"}."""
    Simulated.given, Simulated.ended = Counter(), Counter()
    Simulated.deaths, Simulated.workers, Simulated.items = 0, workers, False
    Simulated.span = arms * seeds / workers
    before, watch, began = peak_mib(), Planned(), time.perf_counter()
    run_study(study(arms, seeds), folder, executor=Simulated, watcher=watch)
    everything = time.perf_counter() - began
    states = status(folder)["states"]
    return {
        "arms": arms,
        "runs": arms * seeds,
        "workers": workers,
        "plan_s": round(watch.seconds, 1),
        "plan_peak_mib": round(watch.peak_mib),
        "of_which_imports_mib": round(before),
        "all_s": round(everything, 1),
        "all_peak_mib": round(peak_mib()),
        "deaths": Simulated.deaths,
        "given": sum(Simulated.given.values()),
        "every_run_done_once": states["done"] == arms * seeds == len(Simulated.ended)
        and set(Simulated.ended.values()) == {1},
    }


def store_runs(folder, arms, seeds):
    """A study of finished runs, each with its scores of the test items."""
    Simulated.workers, Simulated.items = 1000, True
    run_study(study(arms, seeds), folder, executor=Simulated)


def open_and_report(folder):
    """{"runs", "open_s", "summarise_s", "report_s"}; report_s: with the page, its figures and tables."""
    from foveate.report import write_report

    began = time.perf_counter()
    store = Store(folder / RESULTS, read_only=True)
    runs = len(store.runs())
    store.close()
    status(folder)
    opened = time.perf_counter()
    summary = summarise(folder)
    summarised = time.perf_counter()
    write_report(summary, folder / "report")
    return {
        "runs": runs,
        "test_items": TEST_ITEMS,
        "open_s": round(opened - began, 2),
        "summarise_s": round(summarised - opened, 2),
        "report_s": round(time.perf_counter() - summarised, 2),
        "all_s": round(time.perf_counter() - began, 2),
    }


PARTS = {"plan": plan_and_simulate, "store": store_runs, "report": open_and_report}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", help="of this script's own processes: NAME FOLDER NUMBERS…", nargs="+")
    parser.add_argument("--planned", type=int, default=100_000)
    parser.add_argument("--stored", type=int, default=10_000)
    given = parser.parse_args()
    if given.part:
        name, folder, *numbers = given.part
        print(json.dumps(PARTS[name](Path(folder), *map(int, numbers))))
        return

    def part(name, folder, *numbers):
        command = [sys.executable, __file__, "--part", name, str(folder), *map(str, numbers)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(out.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        planned = part("plan", Path(folder) / "planned", 40, given.planned // 40)
        print(json.dumps(planned, indent=1), flush=True)
        part("store", Path(folder) / "stored", 20, given.stored // 20)
        stored = part("report", Path(folder) / "stored")
        print(json.dumps(stored, indent=1))
    found = {"planned": planned, "stored": stored, "machine": machine_name(), "versions": versions()}
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found | {"load": round(os.getloadavg()[0], 1)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
