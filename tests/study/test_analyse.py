"""Verdicts against their own rules, in the unit and direction of any metric."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.items import write_items
from foveate.spec import Metric
from foveate.study.analyse import analyse, what_seeds_can_show
from foveate.summary import Arm, ArmSummary, Cost, CurvePoint, Failure, Logged, Score, Setting, Summary, Times, to_json

PLAIN = [0.80, 0.82, 0.81, 0.83, 0.80, 0.82, 0.81, 0.84]
RATE = Metric("mIoU")
ERROR = Metric("error", unit="px", better="lower")
SPEED = Metric("speed", unit="m/s", better="higher")


def arm(label: str, kind: str, matches: tuple[str, ...] = ()) -> Arm:
    return Arm(label, kind, {} if kind != "attention" else {"attention": "se"}, matches=matches)  # type: ignore[arg-type]


def cost(latency: float, parameters: int = 1000, spread: float = 0.02) -> Cost:
    times = Times(latency, latency * (1 - spread), latency * (1 + spread))
    return Cost(parameters=parameters, macs=10 * parameters, latency_ms=times)


@dataclass
class Found:
    summary: Summary

    def __getitem__(self, label: str) -> ArmSummary:
        return self.summary.arm(label)


def study_of(
    scores: dict[str, Sequence[float | None]],
    control: Sequence[float | None] | None = None,
    metric: Metric = RATE,
    **about: Any,
) -> Found:
    """Analyse scores given as label → one value a seed (None: that run is missing); "none" is plain."""
    names = [label for label in scores if label != "none"]
    arms = [arm("none", "plain"), *(arm(label, "attention") for label in names)]
    table = dict(scores)
    if control is not None:
        arms.append(arm("wide", "control", tuple(names)))
        table["wide"] = list(control)
    rows = [
        Score(label, seed, metric.name, value)
        for label, values in table.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    seeds = tuple(range(max(map(len, table.values()))))
    setting = Setting(network="net", seeds=seeds, control="size" if control else "none")
    summary = analyse(setting, [metric], arms, rows, about=about)
    json.dumps(to_json(summary), allow_nan=False)
    return Found(summary)


def plus(gains: Sequence[float], scale: float = 1.0) -> list[float]:
    return [scale * (plain + gain) for plain, gain in zip(PLAIN, gains, strict=False)]


def test_better_and_the_clause_against_the_control() -> None:
    gains = [0.012, 0.014, 0.013, 0.015, 0.012]
    same, below = plus([g + d for g, d in zip(gains, [0.001, -0.001, 0, 0.001, -0.001], strict=True)]), plus([0.0] * 5)
    told = study_of({"none": PLAIN[:5], "se": plus(gains)}, control=same)["se"].verdict
    assert (told.word, told.short) == ("better", "better, equivalent to control")
    assert told.text.startswith(
        "better than plain: +1.3 points (95 % interval +1.2 to +1.5); but equivalent to a plain"
    )
    apart = plus([0.013, 0.02, 0.01, 0.005, 0.016])
    told = study_of({"none": PLAIN[:5], "se": plus(gains)}, control=apart)["se"].verdict
    assert told.text.endswith(
        "; but not distinguishable from a plain network widened to the same cost (+0.04 points, −0.75 to +0.83)"
    )
    told = study_of({"none": PLAIN[:5], "se": plus(gains)}, control=below)["se"].verdict
    assert "; and better than a plain network widened to the same cost (+1.3 points, +1.2 to +1.5)" in told.text
    assert told.short == "better, also better than control"


def test_worse() -> None:
    found = study_of({"none": PLAIN[:5], "se": plus([-0.012, -0.014, -0.013, -0.015, -0.012])})
    assert found["se"].verdict.text == "worse than plain: −1.3 points (95 % interval −1.5 to −1.2)"
    assert found.summary.answer.short == "No"
    assert found.summary.answer.text == "se is worse than the plain network: −1.3 points (95 % interval −1.5 to −1.2)."


def test_an_error_that_is_halved_is_better() -> None:
    plain = [8.1, 7.9, 8.3, 8.0, 8.2]
    halved = [4.0, 4.1, 4.2, 3.9, 4.05]
    found = study_of({"none": plain, "se": halved}, metric=ERROR)
    one = found["se"]
    assert one.against_plain is not None
    assert one.against_plain.mean == pytest.approx(-4.05)
    assert one.against_plain.gain == pytest.approx(4.05)
    assert one.verdict.word == "better"
    assert one.verdict.text == "better than plain: −4.05 px (95 % interval −4.23 to −3.87; lower is better)"
    assert found.summary.answer.short == "Yes"
    assert found.summary.answer.text.startswith(
        "se beats the plain network by 4.05 px (difference −4.05, 95 % interval −4.23 to −3.87; lower is better)."
    )
    back = study_of({"none": halved, "se": plain}, metric=ERROR)
    assert back.summary.answer.short == "No"
    assert "se is worse than the plain network: +4.05 px (95 % interval" in back.summary.answer.text


def test_the_control_of_an_error_is_judged_in_the_same_direction() -> None:
    plain, half = [8.1, 7.9, 8.3, 8.0, 8.2], [4.0, 4.1, 4.2, 3.9, 4.05]
    found = study_of({"none": plain, "se": half}, control=[6.0, 6.2, 6.1, 5.8, 6.05], metric=ERROR)
    assert found["se"].verdict.short == "better, also better than control"
    assert found.summary.answer.short == "Yes"
    assert found.summary.answer.text.startswith("se beats a plain network of equal cost by 1.98 px (difference −1.98")
    found = study_of({"none": plain, "se": half}, control=[2.0, 2.2, 2.1, 1.8, 2.05], metric=ERROR)
    assert found["se"].verdict.short == "better, but worse than control"
    assert found.summary.answer.short == "No"
    assert found.summary.answer.text.startswith("se is worse than a plain network of equal cost: +2.02 px (95 % ")
    assert "it beats the plain network by 4.05 px" in found.summary.answer.text


def test_metres_a_second_are_a_metric_like_any_other() -> None:
    found = study_of({"none": [1510.0, 1490.0, 1500.0], "se": [1530.0, 1511.0, 1519.5]}, metric=SPEED)
    assert found["se"].verdict.text == "better than plain: +20.2 m/s (95 % interval +18.3 to +22.1)"
    assert found["se"].score is not None
    assert found["se"].score.mean == pytest.approx(1520.1667)


def test_differences_are_judged_on_the_scale_of_the_values() -> None:
    tiny = Metric("residual", unit="m", better="lower")
    found = study_of({"none": [3e-9, 3.1e-9, 2.9e-9], "se": [2.5e-9, 2.61e-9, 2.4e-9]}, metric=tiny)
    assert found["se"].verdict.word == "better"
    assert "−4.97e−10 m (95 % interval −5.11e−10 to −4.82e−10" in found["se"].verdict.text
    rounded = study_of({"none": [0.1 + 0.2, 0.7, 0.8], "se": [0.3, 0.7, 0.8]})["se"]
    assert rounded.verdict.word == "identical"
    loss = Metric("loss", unit="nats", better="lower")
    huge = study_of({"none": [2e9, 2.1e9, 2.2e9], "se": [2e9 + 1, 2.1e9 + 2, 2.2e9 + 3]}, metric=loss)["se"]
    assert huge.verdict.word != "identical"


def test_a_metric_without_a_direction_is_not_judged() -> None:
    count = Metric("epochs", unit="epochs", better="neither")
    with pytest.raises(ValueError, match=r"^metric 'epochs' cannot be judged: wanted .*; mIoU can be judged$"):
        analyse(Setting(), [count, RATE], [arm("none", "plain")], [])
    assert analyse(Setting(), [count, RATE], [arm("none", "plain")], [], metric="mIoU").metrics == (RATE, count)
    with pytest.raises(ValueError, match="did you mean 'mIoU'"):
        analyse(Setting(), [RATE], [arm("none", "plain")], [], metric="mIou")


def test_every_metric_of_a_run_is_in_the_summary_and_the_first_is_judged() -> None:
    seconds = Metric("seconds", unit="s", better="neither")
    arms = [arm("none", "plain"), arm("se", "attention")]
    rows = [Score("none", seed, "mIoU", value) for seed, value in enumerate([0.5, 0.52, 0.51])]
    rows += [Score("se", seed, "mIoU", value) for seed, value in enumerate([0.5, 0.51, 0.52])]
    rows += [
        Score(label, seed, "error", 9.0 + seed - 4 * (label == "se")) for label in ("none", "se") for seed in (0, 1)
    ]
    rows += [Score("se", 0, "seconds", 12.5), Score("se", 1, "seconds", float("nan"))]
    summary = analyse(Setting(seeds=(0, 1, 2)), [RATE, ERROR, seconds], arms, rows)
    se = summary.arm("se")
    assert set(se.estimates) == {"mIoU", "error", "seconds"}
    assert se.estimates["error"].mean == pytest.approx(5.5)
    assert se.descriptive["error"].gain == 4
    assert se.descriptive["error"].text == "−4.00"
    assert se.descriptive["error"].p_holm is None
    assert "seconds" not in se.descriptive  # plain has none
    assert summary.about["notes"] == ["seconds of se, seed 1, is nan and left out"]
    assert (se.verdict.word, summary.failed) == ("undecided", ())
    assert [one["name"] for one in to_json(summary)["metrics"]] == ["mIoU", "error", "seconds"]


def test_copies_of_the_plain_network_are_compared_like_variants() -> None:
    arms = [Arm("none", "plain"), Arm("copy 1", "attention"), Arm("copy 2", "attention")]
    table = {"none": PLAIN[:3], "copy 1": plus([0.001, -0.002, 0.0015]), "copy 2": plus([-0.001, 0.002, 0.0])}
    rows = [Score(label, seed, "mIoU", value) for label, values in table.items() for seed, value in enumerate(values)]
    summary = analyse(Setting(seeds=(0, 1, 2)), [RATE], arms, rows)
    assert [one.verdict.word for one in summary.arms] == ["plain", "undecided", "undecided"]
    assert summary.answer.short == "Not detectably"
    assert summary.arm("copy 1").against_plain.comparisons == 2  # type: ignore[union-attr]


def test_no_detectable_difference_says_what_goes_unseen() -> None:
    verdict = study_of({"none": PLAIN[:3], "se": plus([0.004, -0.003, 0.002])})["se"].verdict
    assert verdict.word == "undecided"
    assert "with 3 seeds differences under about 2.8 points usually go unseen" in verdict.text
    scaled = study_of({"none": PLAIN[:3], "se": plus([0.004, -0.003, 0.002])}, metric=ERROR)["se"].verdict
    assert "with 3 seeds differences under about 0.028 px usually go unseen" in scaled.text


def test_suggestive_where_the_interval_excludes_zero_and_holm_does_not() -> None:
    gains = [0.010, 0.002, 0.006, 0.009, 0.003]
    alone = study_of({"none": PLAIN[:5], "se": plus(gains)})
    assert alone["se"].verdict.word == "better"
    noise = {f"v{i}": plus([0.003 * (-1) ** (i + k) + 0.0003 * i * k for k in range(5)]) for i in range(4)}
    among = study_of({"none": PLAIN[:5], "se": plus(gains), **noise})
    assert (among["se"].verdict.word, among["se"].verdict.short) == ("undecided", "suggestive only")
    assert "does not survive the correction for 5 comparisons" in among["se"].verdict.text
    assert among.summary.answer.short == "Undecided"


def test_one_worse_among_others_is_no_detectable_help() -> None:
    worse = plus([-0.052, -0.054, -0.053, -0.055, -0.052])
    found = study_of({"none": PLAIN[:5], "se": worse, "eca": plus([0.01, -0.01, 0.02, 0.0, -0.02])}).summary.answer
    assert found.short == "Not detectably"
    assert found.text.startswith("se is worse than the plain network: −5.3 points")
    assert found.text.endswith("No variant is detectably better.")


@pytest.mark.parametrize("metric", [RATE, ERROR], ids=["higher", "lower"])
def test_word_and_interval_never_contradict(metric: Metric) -> None:
    draw = random.Random(3)
    words = set()
    for _ in range(150):
        seeds, variants = draw.choice([2, 3, 5, 8]), draw.choice([1, 2, 6])
        plain = [draw.gauss(0.8, 0.01) for _ in range(seeds)]
        gains = [draw.choice([0, 0.005, -0.02]) for _ in range(variants)]
        scores = {f"v{i}": [p + g + draw.gauss(0, 0.004) for p in plain] for i, g in enumerate(gains)}
        summary = study_of({"none": plain, **scores}, [p + draw.gauss(0, 0.004) for p in plain], metric).summary
        for one in summary.arms:
            if one.kind != "attention":
                continue
            found, word = one.against_plain, one.verdict.word
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            assert found.p_holm is not None
            assert found.comparisons == 2 * variants  # with plain and with the control
            words.add(word)
            excludes = found.low * found.high > 0
            better, worse = (found.low > 0, found.high < 0) if metric is RATE else (found.high < 0, found.low > 0)
            margin = summary.margin.value
            assert margin is not None
            if word in {"better", "worse"}:
                assert found.p_holm < 0.05
                assert abs(found.gain) >= margin
            if word == "equivalent":
                assert found.claim_low is not None
                assert found.claim_high is not None
                assert -margin < found.claim_low < found.low < found.high < found.claim_high < margin
            if word == "undecided":
                assert found.p_holm >= 0.05 or abs(found.gain) < margin
            assert word != "better" or better
            assert word != "worse" or worse
            assert one.verdict.short.startswith("suggestive only") == (word == "undecided" and excludes)
            shown = found.text.split("(")[1].split(" to ")[0]
            assert not excludes or shown.strip("+−0.") or "0.000" in shown  # rounding never turns an end into 0
    assert words == {"better", "worse", "undecided", "too few seeds", "equivalent"}


def test_one_seed_shows_nothing_about_seeds() -> None:
    found = study_of({"none": [0.8], "se": [0.82]}, control=[0.79])
    one = found["se"]
    assert one.score is not None
    assert one.score.low is None
    assert one.against_plain is not None
    assert one.against_plain.p is None
    assert one.verdict.text == "one seed shows nothing about seeds: +2.0 points; a verdict takes 3 seeds"
    assert found.summary.answer.short == "Too few seeds"
    assert "which a new seed may turn round" in found.summary.answer.text


def test_identical_runs() -> None:
    one = study_of({"none": PLAIN[:4], "se": PLAIN[:4]}, control=PLAIN[:4])["se"]
    assert one.against_plain is not None
    assert one.against_plain.low == one.against_plain.high == 0
    assert one.verdict.word == "identical"
    assert one.verdict.text.startswith("identical to plain in each of 4 seeds")


@pytest.mark.parametrize(("seeds", "word"), [(2, "too few seeds"), (5, "undecided"), (6, "better")])
def test_equal_differences_have_no_t_interval_and_fall_to_the_exact_test(seeds: int, word: str) -> None:
    one = study_of({"none": PLAIN[:seeds], "se": plus([0.01] * seeds)})["se"]
    assert one.against_plain is not None
    assert (one.against_plain.low, one.against_plain.test) == (None, "exact sign flip")
    assert one.verdict.word == word
    exactly = f"exactly +1.0 points in each of {seeds} seeds (without spread there is no interval"
    assert (exactly in one.verdict.text) == (seeds > 2)


def test_missing_seeds_are_left_out_of_the_pairs() -> None:
    found = study_of({"none": [0.80, None, 0.82, 0.81], "se": [0.81, 0.99, None, 0.83], "eca": [None] * 4})
    one = found["se"]
    assert one.against_plain is not None
    assert one.against_plain.seeds == (0, 3)
    assert one.against_plain.mean == pytest.approx(0.015)
    assert one.score is not None
    assert one.score.seeds == (0, 1, 3)
    assert one.against_plain.missing == (1, 2)
    assert found["eca"].verdict.word == "no runs"
    assert one.against_plain.comparisons == 2  # eca was planned: it stays in the family
    assert one.verdict.word == "too few seeds"
    told = study_of({"none": [0.80, None, 0.82, 0.81, 0.82], "se": [0.81, 0.99, None, 0.83, 0.85], "eca": [None] * 5})
    assert "The pair of se and the plain network lacks seeds 1, 2." in told.summary.answer.text
    assert "eca cannot be judged: no finished run." in told.summary.answer.text


def test_a_run_that_ended_in_nan_is_a_failed_run() -> None:
    summary = study_of({"none": [0.8, 0.81], "se": [float("nan"), 0.82]}, machine=float("inf")).summary
    assert summary.failed == (Failure("se", 0, "ended with mIoU nan"),)
    assert summary.arm("se").failed == (0,)
    assert to_json(summary)["about"]["machine"] is None


def test_nothing_finished() -> None:
    answer = study_of({"none": [None, None], "se": [None, None]}).summary.answer
    assert (answer.short, answer.text) == (
        "Too few seeds",
        "No seed has finished both on a variant and on the plain network.",
    )


def test_costs_latency_and_curves() -> None:
    arms = [arm("none", "plain"), arm("se", "attention"), arm("far", "attention"), arm("wide", "control", ("se",))]
    costs = {"none": cost(1.0), "se": cost(1.03, 1100), "far": cost(2.0, 1000), "wide": cost(1.02, 1090)}
    curves = [
        Logged("se", seed, epoch, "test_mIoU", 0.1 * epoch + 0.02 * seed) for seed in (0, 1) for epoch in (1, 2)
    ] + [Logged("se", 0, 3, "train_loss", float("nan"))]
    summary = analyse(Setting(), [RATE], arms, [], curves=curves, costs=costs)
    json.dumps(to_json(summary), allow_nan=False)
    se, far = summary.arm("se"), summary.arm("far")
    assert se.cost_change.parameters == 100
    assert se.cost_change.macs_percent == pytest.approx(10)
    assert se.cost_change.latency is not None
    assert not se.cost_change.latency.distinguishable
    assert far.cost_change.latency is not None
    assert far.cost_change.latency.distinguishable
    assert far.cost_change.latency.low == pytest.approx(1.96 / 1.02)
    assert se.control == "wide"
    assert se.control_cost is not None
    assert se.control_cost.parameters == -10
    first = summary.curves["se"]["test_mIoU"][0]
    assert first == CurvePoint(1, pytest.approx(0.11), 0.1, pytest.approx(0.12), 2)


def test_items_are_compared_one_by_one(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    files: dict[str, dict[int, Path]] = {}
    for label, table in {"none": [[4, 4, 4, 4], [6, 4, 4, 4]], "se": [[3, 5, 4, 4], [3, 5, 4, 4]]}.items():
        for seed, values in enumerate(table):
            files.setdefault(label, {})[seed] = tmp_path / f"{label}-{seed}.npz"
            order = names if label == "none" else names[::-1]
            write_items(files[label][seed], order, {"error": np.array(values if label == "none" else values[::-1])})
    files["se"][2] = tmp_path / "no such file.npz"
    arms = [arm("none", "plain"), arm("se", "attention"), arm("eca", "attention")]
    summary = analyse(Setting(), [ERROR], arms, [], items=files)
    items = summary.arm("se").items
    assert items is not None
    assert (items.items, items.seeds, items.better, items.worse, items.equal) == (4, (0, 1), 1, 1, 2)
    assert summary.arm("eca").items is None
    assert analyse(Setting(), [RATE], arms, [], items=files).arm("se").items is None  # the files have no mIoU


def test_what_cannot_be_is_said_with_the_nearest() -> None:
    setting, arms = Setting(), [arm("none", "plain"), arm("cbam", "attention")]
    row = Score("cbem", 0, "mIoU", 0.5)
    with pytest.raises(ValueError, match="did you mean 'cbam'"):
        analyse(setting, [RATE], arms, [row])
    row = Score("cbam", 0, "mIoU", 0.5)
    with pytest.raises(ValueError, match="got two for 'cbam', seed 0"):
        analyse(setting, [RATE], arms, [row, row])
    with pytest.raises(ValueError, match=r"a fraction, 0 to 1; got 83\.1"):
        analyse(setting, [RATE], arms, [Score("cbam", 0, "mIoU", 83.1)])
    with pytest.raises(ValueError, match=r"the metric 'mIou', which was not declared; did you mean 'mIoU'"):
        analyse(setting, [RATE], arms, [Score("cbam", 0, "mIou", 0.5)])
    with pytest.raises(ValueError, match="exactly one plain arm"):
        analyse(setting, [RATE], arms[1:], [])
    with pytest.raises(ValueError, match="'none' twice"):
        analyse(setting, [RATE], [arms[0], arms[0]], [])
    with pytest.raises(ValueError, match="at most one control"):
        analyse(setting, [RATE], [*arms, arm("a", "control", ("cbam",)), arm("b", "control", ("cbam",))], [])
    with pytest.raises(ValueError, match="got 'contrl'"):
        analyse(setting, [RATE], [*arms, arm("a", "contrl")], [])
    with pytest.raises(ValueError, match="got 'mIoU' twice"):
        analyse(setting, [RATE, RATE], arms, [])
    with pytest.raises(ValueError, match="wanted one metric or more"):
        analyse(setting, [], arms, [])


def test_seeds_that_could_only_show_what_no_fraction_can_differ_by_show_nothing() -> None:
    plan = what_seeds_can_show(2, 4, sd=0.03, metric=RATE)
    assert plan.sd_high is None  # two seeds do not tell the spread
    assert plan.smallest is not None
    assert plan.smallest > 1
    assert not plan.useful
    assert "2 seeds can show nothing useful here. With 3 it would be about" in plan.text
    assert what_seeds_can_show(2, 4, sd=0.03, metric=ERROR).useful  # pixels have no such bound
    gains = [0.15, -0.15, 0.15]
    told = study_of({"none": PLAIN[:3], **{f"v{i}": plus(gains) for i in range(4)}})
    for text in (told["v0"].verdict.text, told.summary.answer.text):
        assert "ith 3 seeds that vary so much nothing useful can be seen" in text
        assert "usually go unseen" not in text
