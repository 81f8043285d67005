"""The search of `foveate advise`: made-up scores through the code that decides, and its mistakes in one line."""

import dataclasses
import random
import sys

import numpy as np
import pytest
from in_process import run, small
from made_up_scores import RATE

from foveate.data import open_data
from foveate.insertion import Site
from foveate.report import write_advice
from foveate.study.advise import (
    Record,
    Space,
    Studies,
    given_mechanisms,
    largest_schedule,
    latency_budget,
    places_of,
    require_optuna,
    schedule,
    search,
)
from foveate.study.advise.halving import survivors
from foveate.study.advise.space import propose
from foveate.study.analyse import analyse
from foveate.study_file import read_study
from foveate.summary import Arm, Cost, Score, Setting, Times
from foveate.variant import Variant

SPACE = Space({"se": ({}, {"reduction": 4}), "eca": ({},)}, {"at every block": "block", "at every stage": "stage"})
SEED_SD, ITEM_SD = 0.01, 0.01  # of a score over seeds, which pairs share, and of what is left


class MadeUp:
    """Scores of networks whose true gains are known; validation and test have draws of their own."""

    metric, network = RATE, "made up"

    def __init__(self, gains=(), ratios=(), seed=0, later_ratio=None):
        self.gains, self.ratios, self.later_ratio = dict(gains), dict(ratios), later_ratio
        self.rng = np.random.default_rng(seed)
        self.rungs, self.confirmed, self.measured = [], None, []

    def latencies(self, variants):
        self.measured += [variant.label for variant in variants]
        found = {"none": (Times(1, 1, 1), Times(10, 9, 11))}
        for variant in variants:
            ratio = self.ratios.get(variant.label, 1.0)
            if isinstance(ratio, str):
                found[variant.label] = ratio
            else:
                found[variant.label] = Times(ratio, ratio, ratio), Times(10 * ratio, 9 * ratio, 11 * ratio)
        return found

    def scores(self, labels, seeds):
        common = {seed: 0.3 + SEED_SD * self.rng.standard_normal() for seed in seeds}
        return {
            label: {s: common[s] + self.gains.get(label, 0) + ITEM_SD * self.rng.standard_normal() for s in seeds}
            for label in ("none", *labels)
        }

    def rung(self, number, variants, seeds):
        self.rungs.append((number, [variant.label for variant in variants], seeds))
        return self.scores([variant.label for variant in variants], seeds)

    def confirm(self, variants, seeds):
        labels = [variant.label for variant in variants]
        self.confirmed = labels, seeds
        rows = [
            Score(label, s, RATE.name, v) for label, of in self.scores(labels, seeds).items() for s, v in of.items()
        ]
        arms = [Arm("none", "plain"), *(Arm(label, "attention") for label in labels)]
        ratios = {"none": 1.0} | {label: self.later_ratio or self.ratios.get(label, 1.0) for label in labels}
        costs = {
            label: Cost(latency_ms=Times(10 * r, 9 * r, 11 * r), latency_ratio=Times(r, r, r))
            for label, r in ratios.items()
        }
        return analyse(Setting(network="made up", seeds=seeds), [RATE], arms, rows, costs=costs)


def at_random(space, told, known, count, seed):
    left = [choice for choice in space.every() if choice not in known]
    random.Random(seed).shuffle(left)
    return left[:count]


def advice(work, *, trials=6, space=SPACE, budget="+5%", record=None, ask=at_random, **numbers):
    plan = schedule(trials, **numbers)
    return search(space, latency_budget(budget), plan, work, record or Record(None, {}), ask=ask)


def test_of_searches_among_copies_of_plain_at_least_95_in_100_end_in_nothing_helped(tmp_path):
    found = [advice(MadeUp(seed=seed), space=None) for seed in range(100)]
    assert sum(one.short == "Nothing helped" for one in found) >= 95
    page = write_advice(next(one for one in found if one.confirmed is None), tmp_path).read_text(encoding="utf-8")
    assert "none went to confirmation" in page  # and copies have no latencies to draw
    best = [max(one.gain for one in of.candidates) for of in found]
    assert np.mean(best) > 0.004, "the best of a search flatters: it must not be the figure"


def test_what_helps_is_found_and_its_figure_is_that_of_fresh_seeds_on_the_test_part():
    label = "se (reduction=4) at every stage"
    found = [advice(MadeUp({label: 0.03}, seed=seed), trials=12) for seed in range(20)]
    chosen = [one for one in found if one.chosen == label]
    assert len(chosen) >= 15
    assert np.mean([one.found.mean for one in chosen]) == pytest.approx(0.03, abs=0.003)
    one = chosen[0]
    assert one.text.startswith(f"Insert {label}: mIoU +")
    assert "8 fresh paired seeds on the test part" in one.text
    assert "1.00 times its latency" in one.text
    used = {seed for rung in one.rungs for seed in rung.seeds}
    assert used.isdisjoint(one.confirming)
    assert one.candidates != ()


def test_rungs_have_seeds_of_their_own_and_the_best_go_on():
    work = MadeUp({"eca at every block": 0.5, "eca (identity) at every stage": 0.4})
    advice(work, trials=12, finalists=2)
    numbers, labels, seeds = zip(*work.rungs, strict=True)
    assert numbers == (1, 1, 1, 1, 2)
    assert [len(one) for one in labels] == [6, 8, 10, 12, 4]
    assert seeds[-1] == (2, 3, 4, 5, 6, 7)
    assert labels[-1][:2] == ["eca at every block", "eca (identity) at every stage"]
    assert work.confirmed == (["eca at every block", "eca (identity) at every stage"], tuple(range(8, 16)))


def test_candidates_over_the_budget_are_named_replaced_and_never_trained():
    slow = {SPACE.variant(choice).label: 1.3 for choice in SPACE.every() if choice.attention == "se"}
    work = MadeUp(ratios=slow | {"eca at every block": "its map has no blocks"})
    found = advice(work, trials=4)
    dropped = {one.label: one.dropped for one in found.candidates if one.dropped}
    trained = {label for _, labels, _ in work.rungs for label in labels}
    assert set(dropped) == {*slow, "eca at every block"}
    assert trained == {one.label for one in found.candidates if not one.dropped}
    assert trained <= {"eca (identity) at every block", "eca at every stage", "eca (identity) at every stage"}
    assert dropped["eca at every block"] == "cannot be inserted: its map has no blocks"
    assert all("over the budget: 1.300 times" in why for label, why in dropped.items() if label in slow)
    nothing = advice(MadeUp(ratios={SPACE.variant(choice).label: 2.0 for choice in SPACE.every()}))
    assert nothing.text.startswith("Nothing helped: none of the 12 candidates could be tried, 12 of them are over")


def test_a_finalist_that_is_over_the_budget_when_it_is_measured_again_is_not_advised():
    found = advice(MadeUp({SPACE.variant(choice).label: 0.2 for choice in SPACE.every()}, later_ratio=1.4))
    assert found.short == "Nothing helped"
    assert found.chosen is None
    assert "in the confirmation it is over the latency budget of +5 %, 1.40 times" in found.text


def test_failed_runs_put_a_candidate_last_and_nothing_above_plain_needs_no_confirmation():
    assert survivors({"a": {0: 0.1, 1: -np.inf}, "b": {0: -0.1, 1: 0.0}, "c": {0: 0.2}}, 3) == ["c", "b"]
    work = MadeUp({SPACE.variant(choice).label: -0.2 for choice in SPACE.every()})
    found = advice(work)
    assert work.confirmed is None
    assert "scored above the plain network on the validation part" in found.text
    assert found.confirming == ()


def test_a_search_that_goes_on_proposes_and_measures_nothing_twice(tmp_path):
    path, asked = tmp_path / "search.json", {"plan": schedule(6), "budget": "+5 %"}
    whole = advice(MadeUp(), record=Record(path, asked))

    class Stopped(MadeUp):
        def rung(self, number, variants, seeds):
            if len(variants) > 3:
                raise KeyboardInterrupt
            return super().rung(number, variants, seeds)

    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        advice(Stopped(), record=Record(path, asked))
    again = MadeUp()
    found = advice(again, record=Record(path, asked))
    assert [one.label for one in found.candidates] == [one.label for one in whole.candidates]
    assert len(again.measured) == 2, "the first two waves were measured before"
    with pytest.raises(ValueError, match="holds another search .budget: '.5 %' there, '.9 %' now.; use another --out"):
        Record(path, asked | {"budget": "+9 %"})


def test_a_rung_is_a_study_on_the_validation_part_and_the_confirmation_one_on_the_test_part(tmp_path):
    studies = Studies(small(items=40), tmp_path, run)
    scores = studies.rung(1, [Variant.model_validate("eca")], (4,))
    assert {label: list(of) for label, of in scores.items()} == {"none": [4], "eca": [4]}
    first = read_study(tmp_path / "rung-1" / "study.toml")
    assert (first.data.tested_on, first.data.validation_fraction) == ("validation", 0.1)
    data = open_data(first.data)
    whole = open_data(small(items=40).data)
    assert (len(data.train), len(data.test)) == (30, 10)  # one of each class at least
    taken = {data.test.name_of(item) for item in range(10)}
    assert taken <= {whole.train.name_of(item) for item in range(40)}
    assert any("the test part is not read" in note for note in data.notes)
    assert studies.confirming.data.tested_on == "test"
    assert studies.places().keys() >= {"at every block", "at every stage", "at the blocks of stage 1"}


def test_optunas_sampler_learns_from_the_rows_and_gives_every_point_once():
    every = SPACE.every()
    told = [(choice, 1.0 if choice.attention == "eca" else 0.0) for choice in every[:10]]
    assert len(propose(SPACE, told, every[:10], 5, seed=0)) == 2, "the space has two points more"
    assert sorted(map(str, propose(SPACE, [], [], 12, seed=1))) == sorted(map(str, every))
    assert propose(SPACE, told[:6], every[:6], 3, seed=4) == propose(SPACE, told[:6], every[:6], 3, seed=4)
    wide = Space({"se": ({},), "eca": ({},)}, {f"at {n}": str(n) for n in range(16)})
    known = wide.every()[:10] + wide.every()[-10:]  # of se, then of eca
    rows = [(choice, float(choice.attention == "eca")) for choice in known]
    asked = [choice for seed in range(3) for choice in propose(wide, rows, known, 2, seed)]
    assert sum(choice.attention == "eca" for choice in asked) > 0.6 * len(asked)


def test_places_are_every_block_every_stage_and_the_blocks_of_each_stage():
    sites = [
        Site("a.0", "block", 8, (8, 8), 1, "a.0"),
        Site("a", "stage", 8, (8, 8), 1, "a.0"),
        Site("b.0", "block", 16, (4, 4), 2, "b.0"),
        Site("b.1", "block", 16, (4, 4), 2, "b.1", side="input"),
        Site("b", "stage", 16, (4, 4), 2, "b.1"),
    ]
    assert places_of(sites) == {
        "at every block": "block",
        "at every stage": "stage",
        "at the blocks of stage 1": ["a.0"],
        "at the blocks of stage 2": ["b.0"],
    }
    assert given_mechanisms([("eca", {"kernel_size": 5}), ("nl", {})]) == {"eca": ({"kernel_size": 5},), "nl": ({},)}


def test_a_budget_of_trainings_gives_the_largest_search_within_it():
    found = largest_schedule(80)
    assert found.runs <= 80 < schedule(found.rungs[0].candidates + 1).runs
    assert schedule(12).runs == 13 * 2 + 5 * 6 + 3 * 8
    with pytest.raises(ValueError, match="--budget: wanted 22 trainings or more, which two candidates take; got 5"):
        largest_schedule(5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", 'wanted ".5%" over plain or "12ms" a batch; got .5.'),
        ("fast", "wanted"),
        ("+3ms", "wanted"),
        ("-5%", "wanted 0 % or more over plain, which attention is added to; got .-5%."),
    ],
)
def test_a_budget_of_latency_is_a_percentage_or_milliseconds(text, message):
    with pytest.raises(ValueError, match=message):
        latency_budget(text)


def test_a_budget_below_the_plain_networks_latency_is_refused():
    with pytest.raises(ValueError, match="wanted 10 ms or more, which the plain network takes; got 9 ms"):
        advice(MadeUp(), budget="9ms")
    assert latency_budget("12 ms").keeps(2.0, 11.9)
    assert not latency_budget("12ms").keeps(1.0, 12.1)


def test_without_optuna_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'foveate\[search\]'"):
        require_optuna()


def test_the_front_has_no_candidate_that_another_beats_in_both():
    work = MadeUp({"eca at every block": 0.5}, {"eca at every stage": 1.04, "eca at every block": 1.02})
    found = advice(work, trials=12)
    front = {one.label for one in found.candidates if one.on_front}
    assert "eca at every block" in front
    assert "eca at every stage" not in front
    assert dataclasses.is_dataclass(found)
