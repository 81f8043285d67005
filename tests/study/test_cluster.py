"""A cluster's executor over an engine of this process: machines checked, lost and come back; flags and addresses."""

import ast
import socket
from pathlib import Path

import pytest

import foveate
from foveate.cli.cluster import cluster as from_flags
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study.claim import is_claimed
from foveate.study.cluster import Cluster, Ray, Slurm
from foveate.study.cluster import executor as executors
from foveate.study.cluster import node as nodes
from foveate.study.cluster.check import needed_files
from foveate.study.cluster.executor import CallEnd, ClusterExecutor, Place
from foveate.study.cluster.node import carry_out, describe
from foveate.study.cluster.ray_engine import RayEngine, reach
from foveate.study.cluster.slurm_engine import SlurmEngine
from foveate.study.executor import Job, WorkerResult
from foveate.study.measured_costs import carried_out


class Engine:
    """Machines are their names, with what each answers differently; a job's result says where it ran."""

    processes_stay = True

    def __init__(self, **machines):
        self.machines, self.ended, self.needs, self.lose, self.called = machines, [], [], {}, 0

    def connect(self):
        pass

    def close(self):
        pass

    def run_needs(self, cpus, gpus):
        self.needs.append((cpus, gpus))

    def places(self):
        return [Place(name, 1) for name in self.machines]

    def place(self, name):
        return Place(name, 1)

    def call(self, function, arguments, place, *, needs="a run"):
        self.called += 1
        if function is describe:
            answer = {"machine": "one type"} | self.machines[place.name]
            ended = CallEnd(self.called, value=describe(*arguments) | answer)
        else:
            job = arguments[1]
            lost = self.lose.pop(job["key"], None)
            self.needs.append((place.name, needs))
            ended = (
                CallEnd(self.called, lost=lost) if lost else CallEnd(self.called, value={"result": {"on": place.name}})
            )
            if lost:
                self.machines.pop(place.name)
        self.ended.append(ended)
        return self.called

    def wait(self, handles, seconds):
        ended, self.ended = [one for one in self.ended if one.handle in handles], []
        return ended


def executor(folder, engine, jobs=None, **options):
    return ClusterExecutor(folder, jobs, Cluster(**options), engine, 5.0)


def study(**values):
    return Study(variants=(Variant.model_validate("se"),), seeds=(0, 1), **values)


def work(working, jobs):
    """Ends by job, and the type of machine that each was taken for."""
    waiting, taken = list(jobs), []

    def take(machine=""):
        taken.append(machine)
        return waiting.pop(0) if waiting else None

    return list(working.work(take, lambda key, news: None)), taken


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"versions": {"foveate": "9.9"}}, "^b has foveate 9.9, this machine "),
        ({"folder": False}, "^b does not see .*that the machines share"),
        ({"missing": ["/data/photos"]}, "^b does not see /data/photos; put it where"),
        ({"other": ["/code/my.py"]}, "^b has another content in /code/my.py"),
        ({"device": False}, "^b: train.device: there is no 'cpu' for a run"),
    ],
)
def test_a_machine_that_cannot_is_named_before_anything_starts(tmp_path, answer, message):
    with executor(tmp_path / "s", Engine(a={}, b=answer)) as working, pytest.raises(ValueError, match=message):
        working.prepare(study())
    assert not list((tmp_path / "s").glob(".check*")), "nothing stays of the check"


def test_the_folder_that_machines_share_is_written_and_read_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.study.cluster.check.SEEN_S", 0.3)
    monkeypatch.setattr("foveate.study.cluster.node.ANSWER", "elsewhere")  # what the machine writes does not come back
    with executor(tmp_path / "s", Engine(a={})) as working, pytest.raises(ValueError, match="a does not see"):
        working.prepare(study())


def test_files_of_another_content_and_missing_ones_are_found(tmp_path):
    (tmp_path / "question").write_bytes(b"?")
    (tmp_path / "code.py").write_text("x = 1")
    found = describe(str(tmp_path), "a", {str(tmp_path / "code.py"): "another", "/not/there": None}, "cuda:77")
    assert found["missing"] == ["/not/there"]
    assert found["other"] == [str(tmp_path / "code.py")]
    assert not found["device"]
    assert (tmp_path / "answer-a").read_bytes() == b"?"


def test_every_file_of_a_study_is_looked_for(tmp_path):
    (tmp_path / "my.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "masks").mkdir()
    named = study(
        data=DataSpec(kind="folder", source=str(tmp_path), options={"masks": str(tmp_path / "masks")}),
        trainer=f"{tmp_path / 'my.py'}:train",
    )
    assert set(needed_files(named)) == {tmp_path, tmp_path / "my.py", tmp_path / "beside.py", tmp_path / "masks"}


def test_costs_are_measured_on_the_machine_that_is_named_where_there_are_several_types(tmp_path):
    engine = Engine(a={"machine": "small"}, b={"machine": "large"})
    with executor(tmp_path / "s", engine) as working, pytest.raises(ValueError, match="--costs-on.*a: small; b: large"):
        working.prepare(study())
    with executor(tmp_path / "s", engine, costs_on="b") as working:
        assert working.prepare(study()) == 2
        assert working.measures_costs
        (ended,), _ = work(working, [Job("costs", "costs", {})])
    assert ended.result == {"on": "b", "where": "b"}
    assert engine.needs[-1] == ("b", "all")
    with executor(tmp_path / "s", engine, costs_on="here") as working:
        working.prepare(study())
        assert not working.measures_costs


def test_jobs_are_taken_for_the_type_of_machine_where_there_are_several(tmp_path):
    jobs = [Job(str(number), "train", {}) for number in range(4)]
    with executor(tmp_path / "s", Engine(a={"machine": "small"}, b={"machine": "large"}), costs_on="a") as working:
        working.prepare(study())
        ended, taken = work(working, jobs)
    assert {one.result["on"] for one in ended} == {"a", "b"}
    assert set(taken) == {"small", "large"}
    with executor(tmp_path / "s", Engine(a={}, b={}), jobs=1) as working:
        assert working.prepare(study()) == 1
        _, taken = work(working, jobs)
    assert set(taken) == {"one type"}


def test_the_seeds_of_a_lost_machine_wait_for_it_while_it_is_checked_and_no_longer(tmp_path):
    engine = Engine(a={"machine": "small"}, b={"machine": "large"})
    with executor(tmp_path / "s", engine, costs_on="here") as working:
        working.prepare(study())

        def lose_a(back):
            engine.machines["a"] = {"machine": "small"}
            waiting, ends = [Job("x", "train", {})], []
            engine.lose["x"] = "the machine is gone"
            while waiting:
                for ended in working.work(
                    lambda machine="": waiting.pop() if waiting and machine == "small" else None, lambda *_: None
                ):
                    ends.append(ended)
                    if ended.lost:
                        waiting.append(Job("x", "train", {}))
                        engine.machines |= {"a": {"machine": "small"}} if back else {}
                if not working.wait_for_machines():
                    break
            return ends, waiting

        (lost, done), left = lose_a(back=True)
        assert (lost.lost, done.result, left) == ("the machine is gone", {"on": "a"}, [])
        (lost,), left = lose_a(back=False)
        assert (lost.lost, len(left)) == ("the machine is gone", 1), "b was asked, and a is not there"


def test_costs_are_measured_again_where_their_machine_is_lost(tmp_path):
    engine = Engine(a={}, b={})
    engine.lose["costs"] = "the machine is gone"
    with executor(tmp_path / "s", engine) as working:
        working.prepare(study())
        assert carried_out(Job("costs", "costs", {}), working).result == {"on": "b", "where": "b"}
        engine.lose["costs"] = "this one as well"
        engine.machines["late"] = {}
        assert carried_out(Job("costs", "costs", {}), working).result == {"on": "late", "where": "late"}


def test_the_run_of_a_lost_machine_comes_back_and_the_machine_is_used_again_when_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "MACHINES_S", 0.0)
    engine = Engine(a={}, b={})
    engine.lose["x"] = "the machine is gone"
    with executor(tmp_path / "s", engine) as working:
        working.prepare(study())
        waiting = [Job("x", "train", {}), Job("y", "train", {})]
        ends = []

        def take(machine="", waiting=waiting):
            return waiting.pop(0) if waiting else None

        for ended in working.work(take, lambda key, news: None):
            ends.append(ended)
            if ended.lost:
                engine.machines["a"] = {}
                waiting += [Job("x", "train", {}), Job("z", "train", {}), Job("w", "train", {})]
    assert sorted((one.key, bool(one.lost)) for one in ends) == [
        ("w", False), ("x", False), ("x", True), ("y", False), ("z", False),
    ]  # fmt: skip
    assert ("a", "a run") in engine.needs[3:], "the machine that came back has been given a run"


def test_a_machine_that_came_later_and_cannot_is_left_out_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "MACHINES_S", 0.0)
    engine = Engine(a={})
    with executor(tmp_path / "s", engine) as working:
        working.prepare(study())
        engine.machines["late"] = {"versions": {"torch": "1.0"}}
        with pytest.warns(UserWarning, match="left out: late has foveate None"):
            ended, _ = work(working, [Job(str(number), "train", {}) for number in range(4)])
    assert {one.result["on"] for one in ended} == {"a"}


def test_what_a_run_is_given_fits_it(monkeypatch):
    def refused(cluster, message, **train):
        with pytest.raises(ValueError, match=message):
            cluster.check(study(train=Training(**train)))

    refused(Cluster(cpus_per_run=2), "--cpus-per-run: wanted at least the 4 threads", threads=4)
    refused(Cluster(gpus_per_run=1), "--gpus-per-run: the runs are on the CPU", device="cpu")
    refused(Cluster(gpus_per_run=0), "--gpus-per-run: the runs are on 'cuda'", device="cuda")
    refused(Slurm(gpus_per_run=0.5, costs_on="n1"), "Slurm gives whole GPUs; got 0.5", device="cuda")
    monkeypatch.setattr("shutil.which", lambda name: name)
    refused(Slurm(), "--costs-on NODE or here")
    with pytest.raises(ValueError, match="--costs-on here"):
        Cluster().check(study(control="latency"))
    assert Cluster().gpus(study(train=Training(device="cuda"))) == 1
    assert (Cluster().cpus(study()), Cluster().gpus(study())) == (1, 0)


def test_a_cluster_without_what_a_run_needs_says_so(tmp_path):
    engine = Engine()
    with executor(tmp_path / "s", engine, cpus_per_run=64) as working, pytest.raises(ValueError, match="64 CPU cores"):
        working.prepare(study())


def test_an_address_where_nobody_answers_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for address, message in (
        (f"127.0.0.1:{port}", "no cluster answers .*is it up"),
        ("here", "wanted auto or HOST:PORT"),
        ("ray://head:10001", "wanted auto or HOST:PORT"),
    ):
        with pytest.raises(ValueError, match=message) as told:
            reach(address)
        assert len(str(told.value).splitlines()) == 1


def test_machines_of_ray_have_names_that_stay(monkeypatch):
    ray = pytest.importorskip("ray")
    there = [
        {"NodeID": f"{number}" * 40, "Alive": True, "NodeManagerAddress": "10.0.0.1", "NodeManagerHostname": "n",
         "Resources": {"CPU": 4.0, "GPU": 2.0}}
        for number in range(3)
    ]  # fmt: skip
    monkeypatch.setattr(ray, "nodes", lambda: there)
    engine = RayEngine("auto")
    engine.run_needs(1, 0.5)
    names = [place.name for place in engine.places()]
    assert names == ["10.0.0.1", "10.0.0.1/11111111", "10.0.0.1/22222222"]
    assert {place.jobs for place in engine.places()} == {4}
    there[0]["Alive"] = False
    assert [place.name for place in engine.places()] == names[1:]
    engine.run_needs(3, 1)
    assert {place.jobs for place in engine.places()} == {1}
    assert engine.place("10.0.0.1/11111111").jobs == 1
    with pytest.raises(ValueError, match="--costs-on: no machine of the cluster is called 'm'; known: 10.0.0.1/1"):
        engine.place("m")


def test_without_slurm_and_with_unknown_options_one_line_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (lambda: Slurm(costs_on="n1").check(study()), SlurmEngine(tmp_path, "slurm", {}, (), None).connect):
        with pytest.raises(ValueError, match="--slurm: .*srun.*is this a machine from which jobs are submitted"):
            ask()
    with pytest.raises(ValueError, match="--slurm-option: .*did you mean 'partition'"):
        SlurmEngine(tmp_path, "local", {"partitin": "gpu"}, (), None).connect()


def test_flags_that_do_not_go_together_are_refused():
    nothing = (None, False, "slurm", None, None, None, None, None)
    assert from_flags(*nothing) is None
    assert Ray("auto", costs_on="here") == Ray(costs_on="here")

    def flags(**changed):
        names = ("ray", "slurm", "slurm_cluster", "slurm_option", "slurm_kinds", "cpus", "gpus", "costs_on")
        return from_flags(*(dict(zip(names, nothing, strict=True)) | changed).values())

    assert flags(ray="auto", gpus=0.5) == Ray(address="auto", gpus_per_run=0.5)
    assert flags(slurm=True, slurm_option=["partition=gpu", "time=60"], slurm_kinds="a,b") == Slurm(
        options={"partition": "gpu", "time": 60}, kinds=("a", "b")
    )
    for changed, message in (
        ({"ray": "auto", "slurm": True}, "wanted one of them"),
        ({"cpus": 1}, "--cpus-per-run goes with --ray or --slurm"),
        ({"costs_on": "n"}, "--costs-on goes with"),
        ({"ray": "auto", "slurm_option": ["a=b"]}, "--slurm-option goes with --slurm"),
        ({"slurm": True, "slurm_cluster": "pbs"}, "wanted slurm or local; got 'pbs'"),
    ):
        with pytest.raises(ValueError, match=message):
            flags(**changed)


def test_a_job_on_a_machine_is_done_once_and_not_with_another_foveate(tmp_path, monkeypatch):
    class Here:
        result = None

        def finished(self, key):
            return self.result

        def work(self, take, tell):
            job = take()
            (tmp_path / "runs" / job.key).mkdir(parents=True)
            tell(job.key, {"step": 1, "steps": 4})
            self.result = {"metrics": []}
            yield WorkerResult(job.key, result=self.result)

    here, job = Here(), {"key": "k", "kind": "train", "content": {}, "threads": 1}
    monkeypatch.setitem(nodes._here, str(tmp_path), here)
    assert carry_out(str(tmp_path), job, nodes.package_hash(), True) == {"result": {"metrics": []}}
    assert (tmp_path / "runs/k/progress.json").read_text() == '{"step": 1, "steps": 4}'
    monkeypatch.setattr(here, "work", None)
    assert carry_out(str(tmp_path), job, nodes.package_hash(), True) == {"result": {"metrics": []}}, "what is done, is"
    assert not is_claimed(tmp_path / ".claims" / "k" / "claim")
    assert "another foveate" in carry_out(str(tmp_path), job, "else", True)["crash"]


def test_an_engine_is_imported_where_it_is_used_alone():
    for path in Path(foveate.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body if "import ray" in text or "submitit" in text else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"ray", "submitit"}, path
