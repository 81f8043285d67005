"""Intervals, tests and the planner against scipy; verdicts against their own rules."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from foveate.spec import Study
from foveate.study.analyse import analyse, holm, paired, sign_flip_p, t_interval, what_seeds_can_show
from foveate.study.analyse.planner import smallest_in_sd

PLAIN = [0.80, 0.82, 0.81, 0.83, 0.80, 0.82, 0.81, 0.84]


def arm(label: str, kind: str, matches: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"label": label, "kind": kind, "attention": "se", "options": {}, "at": "block", "matches": list(matches)}


def cost(latency: float, parameters: int = 1000, spread: float = 0.02) -> dict[str, Any]:
    times = {"median": latency, "low": latency * (1 - spread), "high": latency * (1 + spread)}
    return {"parameters": parameters, "macs": 10 * parameters, "latency_ms": times}


def study_of(
    scores: dict[str, list[float | None]], control: list[float] | None = None, **about: Any
) -> dict[str, dict[str, Any]]:
    """Analyse accuracies given as label → one value a seed (None: that run is missing); "none" is plain."""
    names = [label for label in scores if label != "none"]
    arms = [arm("none", "plain"), *(arm(label, "attention") for label in names)]
    table: dict[str, list[float | None]] = dict(scores)
    if control is not None:
        arms.append(arm("wide", "control", tuple(names)))
        table["wide"] = list(control)
    results = [
        {"label": label, "seed": seed, "metric": "accuracy", "value": value, "unit": "fraction", "state": "done"}
        for label, values in table.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    study = Study(seeds=tuple(range(max(map(len, table.values())))), control="size" if control else "none")
    summary = analyse(study, arms, results, [], {}, {"failed": [], **about})
    json.dumps(summary, allow_nan=False)
    return {**summary, "by": {one["label"]: one for one in summary["arms"]}}


def plus(gains: list[float]) -> list[float | None]:
    return [plain + gain for plain, gain in zip(PLAIN, gains, strict=False)]


# -- intervals and tests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 10, 25])
def test_paired_is_scipys(n: int) -> None:
    draw = np.random.default_rng(n)
    ours, theirs = draw.normal(0.8, 0.01, n), draw.normal(0.79, 0.01, n)
    found = paired(dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist())))
    assert found is not None
    wanted = stats.ttest_rel(ours, theirs)
    interval = wanted.confidence_interval(0.95)
    assert found["p"] == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found["p_exact_floor"] == 2 / 2**n


@pytest.mark.parametrize("n", [2, 3, 6, 9, 12])
def test_sign_flip_is_scipys_exact_permutation_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    wanted = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**n, vectorized=False)
    assert sign_flip_p(values.tolist()) == pytest.approx(wanted.pvalue, abs=1e-12)


def test_sign_flip_of_many_seeds_is_close_to_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    assert sign_flip_p(values.tolist()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


@pytest.mark.parametrize("n", range(1, 13))
def test_sign_flip_reaches_its_floor_and_no_lower(n: int) -> None:
    assert sign_flip_p([0.01] * n) == min(1.0, 2 / 2**n)
    assert sign_flip_p([0.0] * n) == 1.0


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as statsmodels gives
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_controls_the_family() -> None:
    draw = np.random.default_rng(1)
    families = [holm(draw.uniform(size=5).tolist()) for _ in range(2000)]
    assert np.mean([min(family) < 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers(n: int) -> None:
    draw = np.random.default_rng(n)
    intervals = [t_interval(draw.normal(0.5, 0.02, n).tolist()) or (0, 0) for _ in range(1500)]
    assert np.mean([low < 0.5 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


# -- planner ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "allowed"), [(3, 0), (5, 0), (6, 1), (7, 3), (8, 6), (9, 12), (10, 25)])
def test_planner_counts_what_an_exact_test_allows(n: int, allowed: int) -> None:
    plan = what_seeds_can_show(n, 1)
    assert plan["holm_allows"] == allowed
    assert plan["exact_can_reach"] == (allowed > 0)
    assert plan["seeds_for_exact"] == 6


def test_planner_says_so() -> None:
    text = what_seeds_can_show(5, 3)["text"]
    assert "2/2^5 = 0.0625" in text
    assert "with 5 seeds an exact test can never reach 0.05 (it takes 7 for 3 comparisons)" in text
    assert "One seed shows nothing about seeds" in what_seeds_can_show(1, 3)["text"]
    assert "3 comparisons take 7 seeds" in what_seeds_can_show(6, 3)["text"]


@pytest.mark.parametrize(("n", "comparisons"), [(3, 1), (5, 1), (5, 4), (10, 12), (30, 1)])
def test_smallest_difference_has_eighty_percent_power(n: int, comparisons: int) -> None:
    size = smallest_in_sd(n, comparisons)
    assert size is not None
    critical, shift = stats.t.ppf(1 - 0.025 / comparisons, n - 1), size * math.sqrt(n)
    power = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert power == pytest.approx(0.8, abs=0.002)


def test_planner_in_points_and_its_limits() -> None:
    plan = what_seeds_can_show(5, 2, sd=0.004)
    assert plan["smallest_points"] == pytest.approx(0.4 * plan["smallest_sd"])
    assert "smaller differences usually go unseen" in plan["text"]
    assert what_seeds_can_show(3, 0)["comparisons"] == 0
    assert what_seeds_can_show(3, 2, sd=0.0)["smallest_points"] is None
    assert all(step["smallest_sd"] > 0 for step in what_seeds_can_show(2, 50)["ladder"])
    for seeds, comparisons, sd in ((0, 1, None), (3, -1, None), (3, 1, float("nan")), (3, 1, -0.1)):
        with pytest.raises(ValueError, match=r"wanted .* got"):
            what_seeds_can_show(seeds, comparisons, sd)


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_better_and_the_clause_against_the_control() -> None:
    gains = [0.012, 0.014, 0.013, 0.015, 0.012]
    same, below = plus([g + d for g, d in zip(gains, [0.001, -0.001, 0, 0.001, -0.001], strict=True)]), plus([0.0] * 5)
    told = study_of({"none": PLAIN[:5], "se": plus(gains)}, control=same)["by"]["se"]["verdict"]
    assert told["word"] == "better"
    assert told["text"].startswith("better than plain: +1.3 points (95 % interval +1.2 to +1.5); but not disting")
    told = study_of({"none": PLAIN[:5], "se": plus(gains)}, control=below)["by"]["se"]["verdict"]
    assert "; and better than a plain network widened to the same cost (+1.3 points" in told["text"]
    assert told["short"] == "better, also better than control"


def test_worse() -> None:
    summary = study_of({"none": PLAIN[:5], "se": plus([-0.012, -0.014, -0.013, -0.015, -0.012])})
    assert summary["by"]["se"]["verdict"]["text"] == "worse than plain: −1.3 points (95 % interval −1.5 to −1.2)"
    assert summary["answer"]["short"] == "No"


def test_no_detectable_difference_says_what_goes_unseen() -> None:
    verdict = study_of({"none": PLAIN[:3], "se": plus([0.004, -0.003, 0.002])})["by"]["se"]["verdict"]
    assert verdict["word"] == "none"
    assert "with 3 seeds differences under about 1.2 points usually go unseen" in verdict["text"]


def test_suggestive_where_the_interval_excludes_zero_and_holm_does_not() -> None:
    gains = [0.010, 0.002, 0.006, 0.009, 0.003]
    alone = study_of({"none": PLAIN[:5], "se": plus(gains)})
    assert alone["by"]["se"]["verdict"]["word"] == "better"
    noise = {f"v{i}": plus([0.003 * (-1) ** (i + k) + 0.0003 * i * k for k in range(5)]) for i in range(4)}
    among = study_of({"none": PLAIN[:5], "se": plus(gains), **noise})
    assert among["by"]["se"]["verdict"]["word"] == "suggestive"
    assert "does not survive the correction for 5 comparisons" in among["by"]["se"]["verdict"]["text"]
    assert among["answer"]["short"] == "Not settled"


def test_word_and_interval_never_contradict() -> None:
    draw = random.Random(3)
    words = set()
    for _ in range(150):
        seeds, variants = draw.choice([2, 3, 5, 8]), draw.choice([1, 2, 6])
        plain = [draw.gauss(0.8, 0.01) for _ in range(seeds)]
        gains = [draw.choice([0, 0.005, -0.02]) for _ in range(variants)]
        scores = {f"v{i}": [p + g + draw.gauss(0, 0.004) for p in plain] for i, g in enumerate(gains)}
        summary = study_of({"none": plain, **scores}, control=[p + draw.gauss(0, 0.004) for p in plain])
        for one in summary["arms"]:
            if one["kind"] == "plain":
                continue
            found, word = one["against_plain"], one["verdict"]["word"]
            words.add(word)
            excludes = found["low"] * found["high"] > 0
            assert (word in {"better", "worse"}) == (found["p_holm"] < 0.05)
            assert (word in {"better", "worse", "suggestive"}) == excludes
            assert word != "better" or found["low"] > 0
            assert word != "worse" or found["high"] < 0
            shown = found["text"].split("(")[1].split(" to ")[0]
            assert not excludes or shown.strip("+−0.") or "0.000" in shown  # rounding never turns an end into 0
    assert words == {"better", "worse", "suggestive", "none"}


def test_one_seed_shows_nothing_about_seeds() -> None:
    summary = study_of({"none": [0.8], "se": [0.82]}, control=[0.79])
    one = summary["by"]["se"]
    assert one["accuracy"]["low"] is None
    assert one["against_plain"]["p"] is None
    assert one["verdict"]["text"] == "one seed shows nothing about seeds: +2.0 points in seed 0"
    assert summary["answer"]["short"] == "One seed cannot say"


def test_identical_runs() -> None:
    one = study_of({"none": PLAIN[:4], "se": PLAIN[:4]}, control=PLAIN[:4])["by"]["se"]
    assert one["against_plain"]["low"] == one["against_plain"]["high"] == 0
    assert one["verdict"]["word"] == "identical"
    assert one["verdict"]["text"].startswith("identical to plain in each of 4 seeds")


@pytest.mark.parametrize(("seeds", "word"), [(2, "none"), (5, "none"), (6, "better")])
def test_equal_differences_have_no_t_interval_and_fall_to_the_exact_test(seeds: int, word: str) -> None:
    one = study_of({"none": PLAIN[:seeds], "se": plus([0.01] * seeds)})["by"]["se"]
    assert (one["against_plain"]["low"], one["against_plain"]["test"]) == (None, "exact sign flip")
    assert one["verdict"]["word"] == word
    assert (
        f"exactly +1.0 points in each of {seeds} seeds (without spread there is no t interval" in one["verdict"]["text"]
    )


def test_missing_seeds_are_left_out_of_the_pairs() -> None:
    summary = study_of({"none": [0.80, None, 0.82, 0.81], "se": [0.81, 0.99, None, 0.83], "eca": [None] * 4})
    assert summary["by"]["se"]["against_plain"]["seeds"] == [0, 3]
    assert summary["by"]["se"]["against_plain"]["mean"] == pytest.approx(0.015)
    assert summary["by"]["se"]["accuracy"]["seeds"] == [0, 1, 3]
    assert summary["by"]["eca"]["verdict"]["word"] == "no runs"
    assert summary["by"]["se"]["against_plain"]["comparisons"] == 1
    assert "eca cannot be judged" in summary["answer"]["text"]


def test_a_run_that_ended_in_nan_is_a_failed_run() -> None:
    summary = study_of({"none": [0.8, 0.81], "se": [float("nan"), 0.82]}, machine=float("inf"))
    assert summary["failed"] == [{"label": "se", "seed": 0, "error": "ended with accuracy nan"}]
    assert summary["about"]["machine"] is None


def test_nothing_finished() -> None:
    summary = study_of({"none": [None, None], "se": [None, None]})
    assert summary["answer"]["short"] == "Not known yet"


def test_costs_latency_and_curves() -> None:
    arms = [arm("none", "plain"), arm("se", "attention"), arm("far", "attention"), arm("wide", "control", ("se",))]
    costs = {"none": cost(1.0), "se": cost(1.03, 1100), "far": cost(2.0, 1000), "wide": cost(1.02, 1090)}
    curves = [
        {"label": "se", "seed": seed, "epoch": epoch, "metric": "test_accuracy", "value": 0.1 * epoch + 0.02 * seed}
        for seed in (0, 1)
        for epoch in (1, 2)
    ] + [{"label": "se", "seed": 0, "epoch": 3, "metric": "train_loss", "value": float("nan")}]
    summary = analyse(Study(), arms, [], curves, costs, {"failed": []})
    json.dumps(summary, allow_nan=False)
    by = {one["label"]: one for one in summary["arms"]}
    assert by["se"]["cost_change"]["parameters"] == 100
    assert by["se"]["cost_change"]["macs_percent"] == pytest.approx(10)
    assert not by["se"]["cost_change"]["latency"]["told_apart"]
    assert by["far"]["cost_change"]["latency"]["told_apart"]
    assert by["far"]["cost_change"]["latency"]["low"] == pytest.approx(1.96 / 1.02)
    assert by["se"]["control"] == "wide"
    assert by["se"]["control_cost"]["parameters"] == -10
    first = summary["curves"]["se"]["test_accuracy"][0]
    assert first == {"epoch": 1, "mean": pytest.approx(0.11), "low": 0.1, "high": pytest.approx(0.12), "seeds": 2}


def test_what_cannot_be_is_said_with_the_nearest() -> None:
    arms = [arm("none", "plain"), arm("cbam", "attention")]
    row = {"label": "cbem", "seed": 0, "metric": "accuracy", "value": 0.5, "state": "done"}
    with pytest.raises(ValueError, match="did you mean 'cbam'"):
        analyse(Study(), arms, [row], [], {}, {})
    row["label"] = "cbam"
    with pytest.raises(ValueError, match="got two for 'cbam', seed 0"):
        analyse(Study(), arms, [row, row], [], {}, {})
    with pytest.raises(ValueError, match=r"a fraction, 0 to 1; got 83\.1"):
        analyse(Study(), arms, [{**row, "value": 83.1}], [], {}, {})
    with pytest.raises(ValueError, match="exactly one plain arm"):
        analyse(Study(), arms[1:], [], [], {}, {})
    with pytest.raises(ValueError, match="'none' twice"):
        analyse(Study(), [arms[0], arms[0]], [], [], {}, {})
    with pytest.raises(ValueError, match="at most one control"):
        analyse(Study(), [*arms, arm("a", "control", ("cbam",)), arm("b", "control", ("cbam",))], [], [], {}, {})
    with pytest.raises(ValueError, match="got 'contrl'"):
        analyse(Study(), [*arms, arm("a", "contrl")], [], [], {}, {})
