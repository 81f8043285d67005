"""What a study costs beside its training steps, and what a second worker brings.

    python benchmarks/executors.py --out results/executors/executors.json     (on an idle machine of two cores or more)

Speed-up: the same study with one worker and with two, in turns; the time from the first run's start to the last one's
end. Beside it what the machine gives: two loops of the same steps at once against one. Overhead: each size of run as a
study with one worker, and as a loop of the same steps and evaluations after each epoch in one process, with the same
settings of glibc's memory: no checkpoint, no process, no pictures, no database. Planning, costs and the report, which a
study has once, are left out of both.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from foveate.data import open_data
from foveate.machine import cores, machine_name, versions
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study import Watcher, run_study
from foveate.study.build import build_variant_for
from foveate.study.local import KEPT_MEMORY
from foveate.study.plan import make_plan
from foveate.tasks import create_task
from foveate.train import epoch_order, evaluate, evenly
from foveate.train.loop import batches_of, parts_for_evaluation
from foveate.train.optimizer import make_optimizer
from foveate.train.schedule import batches_an_epoch, learning_rate

SIZES = {"small": (300, 10), "medium": (1000, 8)}  # training images, epochs of one run


def study(size, seeds):
    items, epochs = SIZES[size]
    return Study(
        variants=tuple(Variant.model_validate(name) for name in ("none", "se")),
        seeds=tuple(range(seeds)),
        data=DataSpec(train_items=items, test_items=200),
        train=Training(epochs=epochs, batch_size=50, threads=1),
        control="none",
    )


class Clock(Watcher):
    """Seconds from the first run's start to the last one's end."""

    began = ended_at = None

    def started(self, run, attempt):
        self.began = self.began or time.perf_counter()

    def ended(self, run, error):
        if error:
            raise RuntimeError(error)
        self.ended_at = time.perf_counter()


def as_study(size, seeds, jobs):
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run_study(study(size, seeds), folder, jobs=jobs, watcher=clock)
    return clock.ended_at - clock.began


def as_steps(size, seeds):
    """The plain loop over the same runs."""
    planned = study(size, seeds)
    data = open_data(planned.data)
    task = create_task(planned.task, data)
    runs = make_plan(planned, data, task).runs
    torch.set_num_threads(1)
    began = time.perf_counter()
    for run in runs:
        model = build_variant_for(run, data, task.outputs)
        optimizer = make_optimizer(model, run.train, None)
        batches = batches_an_epoch(len(data.train), run.train.batch_size)
        step, steps, cpu = 0, batches * run.train.epochs, torch.device("cpu")
        for epoch in range(run.train.epochs):
            model.train()
            parts = evenly(epoch_order(list(range(len(data.train))), run.seed, epoch), batches)
            for batch in batches_of(data.train, parts, (run.seed, epoch), run, cpu):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, steps, batches, run.train, group["highest_lr"])
                loss = task.loss(model, batch)["loss"]
                loss.item()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
            test = parts_for_evaluation(task, data, data.test, range(len(data.test)), run.train.batch_size)
            evaluate(model, task, batches_of(data.test, test, None, run, cpu))
    return time.perf_counter() - began


def loops(size, seeds, count=1):
    """Seconds of the slowest of `count` loops at once, each in a process of its own."""
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        return max(pool.map(as_steps, [size] * count, [seeds] * count))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4, help="two runs each")
    given = parser.parse_args()
    os.environ.update(KEPT_MEMORY)
    found = {"runs": 2 * given.seeds, "machine": machine_name(), "versions": versions(), "load": os.getloadavg()[0]}
    if cores() < 2:
        raise SystemExit("wanted two cores for the speed-up; this process may use one")
    pairs = []
    for _ in range(given.rounds):
        one, two = as_study("medium", given.seeds, 1), as_study("medium", given.seeds, 2)
        pairs.append({"one_s": round(one, 1), "two_s": round(two, 1), "speed_up": round(one / two, 3)})
        pairs[-1]["two_loops_at_once"] = round(2 * loops("small", 1) / loops("small", 1, 2), 3)
        print("workers", pairs[-1], flush=True)
    found["speed_up"] = {"median": median(pair["speed_up"] for pair in pairs), "rounds": pairs}
    found["overhead"] = {}
    for size, (items, epochs) in SIZES.items():
        rounds = []
        for _ in range(given.rounds):
            whole, steps = as_study(size, given.seeds, 1), loops(size, given.seeds)
            rounds.append(
                {"study_s": round(whole, 2), "steps_s": round(steps, 2), "share": round(1 - steps / whole, 4)}
            )
            print(size, rounds[-1], flush=True)
        about = {"train_images": items, "epochs": epochs, "run_s": round(rounds[0]["steps_s"] / 2 / given.seeds, 2)}
        found["overhead"][size] = about | {"median": median(one["share"] for one in rounds), "rounds": rounds}
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
