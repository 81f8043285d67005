"""Studies on real engines: workers, processes of the engine and machines are killed at random, twenty times in all."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study import Watcher, run_study, status
from foveate.study.cluster import Ray, Slurm

ON_RAY, ON_SLURM = 12, 8  # kills

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are its own


def study():
    return Study(
        variants=tuple(Variant.model_validate(name) for name in ("none", "se")),
        seeds=(0, 1, 2),
        data=DataSpec(train_items=128, test_items=50),
        train=Training(epochs=60, batch_size=16),
        control="none",
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert run_study(study(), folder, jobs=2).failed == ()
    return folder


def ledger(folder):
    """Everything of the results that does not measure time, and the runs' states."""
    with contextlib.closing(sqlite3.connect(folder / "results.db")) as db:
        rows = "SELECT run, seed, metric, value FROM results WHERE metric != 'seconds' ORDER BY 1, 3"
        return [
            db.execute(query).fetchall()
            for query in (
                rows, "SELECT * FROM history ORDER BY 1, 2, 3", "SELECT key, state, machine FROM runs ORDER BY 1",
            )
        ]  # fmt: skip


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("runs/*/model.safetensors")}


def processes(*patterns):
    found = [
        subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split()
        for pattern in patterns
    ]
    return [int(pid) for pids in found for pid in pids if int(pid) != os.getpid()]


class Killer(Watcher):
    """Calls one of `ways` at random when a run has got further, `most` times. On a cluster a watcher is called in the
    main thread, where Ray starts machines."""

    def __init__(self, most, *ways):
        self.most, self.ways, self.random = most, ways, random.Random(20)
        self.kills, self.seen, self.next = [], {}, 0.0

    def progressed(self, run, step, steps):
        further = self.seen.get(run.key) != step
        self.seen[run.key] = step
        if further and 0 < step < steps and len(self.kills) < self.most and time.monotonic() > self.next:
            name = self.random.choice(self.ways)()
            if name:
                self.kills.append(name)
                self.next = time.monotonic() + self.random.uniform(0, 2)


def kill_one(name, pick, *patterns):
    """A function that kills a random process whose command line matches; its name if there was one."""

    def kill():
        pids = processes(*patterns)
        if not pids:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pick.choice(pids), signal.SIGKILL)
            return name
        return None

    return kill


def three_machines():
    """A cluster of Ray's, its head for the coordinator alone; a machine under load may fail to start it."""
    from ray.cluster_utils import Cluster as Nodes

    for attempt in range(4):
        nodes = None
        try:
            nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
            return nodes, [nodes.add_node(num_cpus=1) for _ in range(2)]
        except Exception:
            if nodes is not None:
                nodes.shutdown()
            if attempt == 3:
                raise
            time.sleep(5)
    raise AssertionError


def compare(folder, unbroken):
    assert ledger(folder) == ledger(unbroken)
    assert weights(folder) == weights(unbroken)
    assert status(folder)["states"]["done"] == 6


def test_on_ray_nothing_is_lost_or_counted_twice_and_the_weights_are_those_of_one_machine(
    tmp_path, unbroken, monkeypatch
):
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_USAGE_STATS_ENABLED", "0")):
        monkeypatch.setenv(name, value)
    import ray

    nodes, there = three_machines()
    try:
        pick = random.Random(7)

        def lose_a_machine():
            gone = there.pop(pick.randrange(len(there)))
            nodes.remove_node(gone, allow_graceful=False)
            there.append(nodes.add_node(num_cpus=1))
            return "machine"

        ways = (
            lose_a_machine,
            kill_one("worker", pick, f"foveate.study.forking {tmp_path}"),
            kill_one("process of the engine", pick, "^ray::carry_out"),
        )
        killer = Killer(ON_RAY, *ways)
        summary = run_study(study(), tmp_path, executor=Ray(nodes.address), watcher=killer)
        print(killer.kills)  # noqa: T201
        assert summary.failed == ()
        assert len(killer.kills) == ON_RAY
        assert len(set(killer.kills)) == 3, "every sort of kill"
        compare(tmp_path, unbroken)
        assert sum(run["attempts"] for run in status(tmp_path)["runs"]) > 6
    finally:
        ray.shutdown()
        nodes.shutdown()


def test_on_submitit_nothing_is_lost_or_counted_twice_and_the_weights_are_those_of_one_machine(tmp_path, unbroken):
    pick = random.Random(8)
    ways = (
        kill_one("worker", pick, f"foveate.study.worker {tmp_path}"),
        kill_one("process of the engine", pick, f"submitit.core._submit {tmp_path}"),
    )
    killer = Killer(ON_SLURM, *ways)
    summary = run_study(study(), tmp_path, executor=Slurm(cluster="local"), jobs=2, watcher=killer)
    print(killer.kills)  # noqa: T201
    assert summary.failed == ()
    assert len(killer.kills) == ON_SLURM
    assert len(set(killer.kills)) == 2, "every sort of kill"
    compare(tmp_path, unbroken)
    assert not processes(f"submitit.core._submit {tmp_path}"), "no process stays"
