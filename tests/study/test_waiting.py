"""Which run is next, and for how long one is tried."""

from types import SimpleNamespace

from foveate.spec import DRAWS
from foveate.study.standing import Standing, progress_of
from foveate.study.tries import Tries
from foveate.study.waiting import WaitingRuns, longest_first


class Made:
    """As much of a run as matters here."""

    def __init__(self, arm, seed):
        self.arm, self.seed = arm, seed

    def __repr__(self):
        return f"{self.arm}{self.seed}"


def runs(arms="ab", seeds=(0, 1, 2)):
    return [Made(arm, seed) for seed in seeds for arm in arms]


def taken(waiting, *machines):
    return [repr(waiting.take(machine)) for machine in machines]


def test_runs_come_in_the_order_planned_and_the_last_one_once():
    waiting = WaitingRuns(runs())
    assert taken(waiting, *[""] * 7) == ["a0", "b0", "a1", "b1", "a2", "b2", "None"]
    assert not waiting


def test_of_each_seed_the_longest_run_comes_first():
    planned = runs("abc", seeds=(1, 0))
    for run in planned:
        run.train = SimpleNamespace(epochs=2 if run.arm == "b" else 1)
    costs = {"a": {"train_step_ms": 5.0}, "b": {"train_step_ms": 4.0}, "c": {}}
    assert list(map(repr, longest_first(planned, costs))) == ["b1", "a1", "c1", "b0", "a0", "c0"]


def test_the_runs_of_a_seed_stay_on_one_type_of_machine():
    waiting = WaitingRuns(runs())
    assert taken(waiting, "x", "y", "y", "x", "y", "y", "y") == ["a0", "a1", "b1", "b0", "a2", "b2", "None"]


def test_a_seed_that_has_begun_goes_on_where_it_began_and_elsewhere_if_that_is_gone():
    waiting = WaitingRuns(runs(seeds=(0, 1)), {0: "gone"})
    assert taken(waiting, "x", "x", "x") == ["a1", "b1", "None"]
    assert len(waiting) == 2
    assert waiting.release() == [0]
    assert taken(waiting, "x", "x", "x") == ["a0", "b0", "None"]


def test_a_run_that_came_back_waits_for_the_machine_of_its_seed():
    waiting = WaitingRuns(runs(seeds=(0,)))
    first = waiting.take("x")
    waiting.put(first)
    assert taken(waiting, "y", "x", "x") == ["None", "b0", "a0"]


def test_with_one_type_of_machine_begun_seeds_are_taken_as_well():
    waiting = WaitingRuns(runs(seeds=(0, 1)), {1: "x"})
    assert sorted(taken(waiting, "", "", "", "")) == ["a0", "a1", "b0", "b1"]


def test_the_arms_of_a_null_check_are_kept_together_by_the_seed_that_pairs_them():
    waiting = WaitingRuns([Made("a", 0), Made("b", DRAWS), Made("a", 1), Made("b", 1 + DRAWS)])
    assert taken(waiting, "x", "y", "y", "x") == ["a0", "a1", f"b{1 + DRAWS}", f"b{DRAWS}"]


def test_a_run_is_tried_while_it_gets_further():
    tries = Tries(3)
    for start in range(10):
        tries.begin("run")
        tries.reached("run", 5 * start)
        tries.reached("run", 5 * start + 3)
        assert tries.left("run")
    for _ in range(2):
        tries.begin("run")
        tries.reached("run", 45)
    assert not tries.left("run"), "three starts from the same step"


def test_a_lost_machine_is_no_doing_of_the_run():
    tries = Tries(3)
    for _ in range(5):
        tries.begin("run")
        tries.forgive("run")
    assert tries.left("run")
    for _ in range(3):
        tries.begin("run")
    assert not tries.left("run")


def test_how_far_runs_are_can_be_read_while_they_run(tmp_path):
    with Standing(tmp_path) as standing:
        standing.begin("a")
        standing.reached("a", 3, 10)
        assert progress_of(tmp_path) == {"a": (3, 10)}
        standing.end("a")
        standing.reached("a", 4, 10)  # told by a thread that was late
    assert progress_of(tmp_path) == {}
    (tmp_path / "progress.json").write_text('{"a": [3')
    assert progress_of(tmp_path) == {}
