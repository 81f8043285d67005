"""Every sentence that an answer can give, with the rows that lead to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from foveate.spec import Metric
from foveate.study.analyse import analyse, decided, next_look
from foveate.summary import (
    Arm,
    AttentionState,
    Claim,
    Cost,
    Failure,
    GateState,
    Ledger,
    Look,
    Score,
    Setting,
    SiteState,
    Summary,
    Times,
)

RATE = Metric("mIoU")
PLAIN = [0.80, 0.82, 0.81, 0.83, 0.80, 0.82, 0.81, 0.84]
GAIN = [0.012, 0.014, 0.013, 0.015, 0.012, 0.013, 0.014, 0.012]
NOISE = [0.010, -0.012, 0.003, 0.004, -0.005, 0.010, 0.0, -0.009]
NAN = float("nan")
Rows = dict[str, Sequence[float | None]]


def judged(rows: Rows, *, controls: dict[str, Sequence[float]] | None = None, **more: Any) -> Summary:
    """label → one score a seed (None: missing, nan: diverged); "none" is plain; controls: variant → its control's."""
    controls = controls or {}
    arms = [Arm(label, "plain" if label == "none" else "attention") for label in rows]
    arms += [Arm(f"wide {label}", "control", matches=(label,)) for label in controls]
    table = {**rows, **{f"wide {label}": values for label, values in controls.items()}}
    scores = [
        Score(label, seed, "mIoU", value)
        for label, values in table.items()
        for seed, value in enumerate(values)
        if value is not None
    ]
    fields = {name: more.pop(name) for name in ("matters", "compare", "overlap") if name in more}
    seeds = tuple(range(max(map(len, table.values()))))
    setting = Setting(network="net", seeds=seeds, control="size" if controls else "none", **fields)
    return analyse(setting, [RATE], arms, scores, **more)


def state_of(label: str, seed: int, *sites: SiteState) -> AttentionState:
    return AttentionState(label, seed, 20, 64, sites)


def plus(gains: Sequence[float], seeds: int = 5) -> list[float]:
    return [plain + gain for plain, gain in zip(PLAIN[:seeds], gains, strict=False)]


def plain(seeds: int = 5) -> list[float]:
    return PLAIN[:seeds]


def none_of(count: int = 5) -> list[float]:
    return plus([0.0] * count, count)


def twice(gains: Sequence[float]) -> list[float]:
    return [2 * gain for gain in gains]


BETTER, WORSE = plus(GAIN), plus([-gain for gain in GAIN])
SAME = plus([0.0004, -0.0003, 0.0001, 0.0002, -0.0004])
OPEN = plus(NOISE)
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "better": (
        {"rows": {"none": plain(), "se": BETTER}},
        "Yes",
        "se beats the plain network by +1.3 points (95 % interval +1.2 to +1.5).",
    ),
    "better than its control and plain": (
        {"rows": {"none": plain(), "se": BETTER}, "controls": {"se": SAME}},
        "Yes",
        "se beats a plain network of equal cost by +1.3 points (95 % interval +1.2 to +1.5), and the plain network by "
        "+1.3 points (95 % interval +1.2 to +1.5).",
    ),
    "better than plain, not than its control": (
        {"rows": {"none": plain(), "se": BETTER}, "controls": {"se": plus([0.013, 0.02, 0.01, 0.005, 0.016])}},
        "Not detectably",
        "se is not distinguishably better than a plain network of equal cost: +0.04 points (95 % interval −0.75 to "
        "+0.83); it beats the plain network by +1.3 points (95 % interval +1.2 to +1.5), so the gain may be mere size.",
    ),
    "better than plain, equal to its control": (
        {"rows": {"none": plain(), "se": BETTER}, "controls": {"se": plus([0.0125, 0.0138, 0.0133, 0.0147, 0.0122])}},
        "Equivalent",
        "se is no better than a plain network of equal cost: −0.01 points (95 % interval −0.05 to +0.03); it beats "
        "the plain network by +1.3 points (95 % interval +1.2 to +1.5), so the gain may be mere size.",
    ),
    "better than plain, worse than its control": (
        {"rows": {"none": plain(), "se": BETTER}, "controls": {"se": plus([0.032, 0.034, 0.031, 0.034, 0.033])}},
        "No",
        "se is worse than a plain network of equal cost: −2.0 points (95 % interval −2.1 to −1.8); it beats the plain "
        "network by +1.3 points (95 % interval +1.2 to +1.5), so the gain may be mere size.",
    ),
    "worse": (
        {"rows": {"none": plain(), "se": WORSE}},
        "No",
        "se is worse than the plain network: −1.3 points (95 % interval −1.5 to −1.2).",
    ),
    "two worse": (
        {"rows": {"none": plain(), "se": WORSE, "eca": plus(twice([-gain for gain in GAIN]))}},
        "No",
        "eca and se are worse than the plain network, eca most: −2.6 points (95 % interval −3.0 to −2.3).",
    ),
    "equivalent": (
        {"rows": {"none": plain(), "se": SAME}},
        "Equivalent",
        "se is as good as the plain network to within 0.5 points: 0.00 points (95 % interval −0.04 to +0.04).",
    ),
    "equal by a hair": (
        {"rows": {"none": plain(8), "se": plus([0.0001] * 7 + [0.00011], 8)}},
        "Equivalent",
        "se is as good as the plain network to within 0.5 points: +0.01 points (95 % interval +0.01 to +0.01).",
    ),
    "one image of 10,000 in each of seven seeds": (
        {"rows": {"none": plain(7), "se": plus([0.0001] * 7, 7)}},
        "Equivalent",
        "se is as good as the plain network to within 0.5 points: +0.01 points.",
    ),
    "all equal": (
        {"rows": {"none": plain(), "se": plain()}},
        "Not detectably",
        "se does not differ detectably from the plain network.",
    ),
    "less than matters": (
        {"rows": {"none": plain(8), "se": plus([g / 4 for g in GAIN], 8)}, "matters": 0.34},
        "Undecided",
        "se differs from the plain network by +0.3 points (95 % interval +0.3 to +0.4), but that is less than the "
        "0.3 points that matters; none is established as better. With 8 seeds differences under about 0.05 points "
        "usually go unseen.",
    ),
    "open": (
        {"rows": {"none": plain(), "se": OPEN}},
        "Not detectably",
        "se does not differ detectably from the plain network. With 5 seeds differences under about 2.4 points "
        "usually go "
        "unseen. A difference of 0.5 points takes about 27 to 62 seeds to be found in 4 studies of 5, by the spread of "
        "these 5 seeds.",
    ),
    "open and worse": (
        {"rows": {"none": plain(), "se": WORSE, "eca": OPEN}},
        "Not detectably",
        "se is worse than the plain network: −1.3 points (95 % interval −1.5 to −1.2). No other variant is detectably "
        "better.",
    ),
    "diverged": (
        {"rows": {"none": plain(), "se": [NAN, 0.83, NAN, 0.84, NAN]}},
        "Undecided",
        "se diverged in 3 of 5 seeds.",
    ),
    "diverged in almost all": (
        {"rows": {"none": plain(8), "se": [*[NAN] * 7, 0.85]}},
        "No",
        "se is worse than the plain network: +1.0 points in the 1 of 8 seeds that finished on both sides. se diverged "
        "in "
        "7 of 8 seeds.",
    ),
    "diverged in all": (
        {"rows": {"none": plain(), "se": [NAN] * 5}},
        "Undecided",
        "No seed has finished both on a variant and on the plain network: there is nothing to judge. se diverged in 5 "
        "of "
        "5 seeds.",
    ),
    "plain fails too": (
        {"rows": {"none": [NAN, *plain()[1:]], "se": BETTER}},
        "Undecided",
        "The plain network diverged in 1 of 5 seeds.",
    ),
    "both fail, at other seeds": (
        {"rows": {"none": [NAN, NAN, *plain()[2:4]], "se": [*BETTER[:2], NAN, NAN]}},
        "Undecided",
        "No seed has finished both on a variant and on the plain network: there is nothing to judge. The plain network "
        "diverged in 2 of 4 seeds. se diverged in 2 of 4 seeds.",
    ),
    "two seeds": (
        {"rows": {"none": plain(2), "se": plus([0.01, 0.02], 2)}},
        "Too few seeds",
        "A verdict takes 3 seeds; there are 2. In them se differs from the plain network by +1.5 points, which new "
        "seeds "
        "may turn round.",
    ),
    "one seed": (
        {"rows": {"none": plain(1), "se": plus([0.01], 1)}},
        "Too few seeds",
        "One seed shows nothing about seeds. In it se differs from the plain network by +1.0 points, which a new seed "
        "may "
        "turn round.",
    ),
    "nothing finished": (
        {"rows": {"none": [None] * 3, "se": [None] * 3}},
        "Too few seeds",
        "No seed has finished both on a variant and on the plain network.",
    ),
    "unfinished": (
        {"rows": {"none": plain(), "se": [*BETTER[:3], None, None]}, "pending": [("se", 3), ("se", 4)]},
        "Undecided",
        "Unfinished: 8 of 10 runs are done; still to do: se at seeds 3 and 4. There is no verdict before all are.",
    ),
    "missing pairs": (
        {"rows": {"none": plain(), "se": [*BETTER[:4], None]}},
        "Yes",
        "se beats the plain network by +1.4 points (95 % interval +1.1 to +1.6). The pair of se and the plain network "
        "lacks seed 4.",
    ),
    "many runs missing": (
        {
            "rows": {"none": plain(3), "se": BETTER[:3]},
            "pending": [*(("none", seed) for seed in range(3, 12)), ("se", 3)],
        },
        "Undecided",
        "Unfinished: 6 of 16 runs are done; still to do: none at seeds 3, 4, 5, 6, 7 and 4 more, se at seed 3. There "
        "is no verdict before all are.",
    ),
    "seeds that differ": (
        {"rows": {"none": [*plain(3), None, None, None], "se": [None, None, None, *BETTER[:3]]}},
        "Too few seeds",
        "Differences are paired by seed, and se and the plain network have no seed in common.",
    ),
    "no variant": (
        {"rows": {"none": plain()}},
        "Undecided",
        "This study has no variant to compare with the plain network.",
    ),
    "the largest of several": (
        {"rows": {"none": plain(), "se": BETTER, "eca": plus(twice(GAIN)), "cbam": OPEN}},
        "Yes",
        "2 of the 3 variants beat the plain network; the largest gain is eca's, +2.6 points (95 % interval +2.3 to "
        "+3.0); "
        "as the largest of 3 it lies in +2.1 to +3.1 points.",
    ),
    "dropped arms": (
        {
            "rows": {"none": plain(), "se": BETTER},
            "ledger": Ledger(("se against plain", "eca against plain"), (0, 1, 2, 3, 4)),
        },
        "Yes",
        "se beats the plain network by +1.3 points (95 % interval +1.2 to +1.5). Planned once and dropped since: eca "
        "against plain; the correction still counts it.",
    ),
    "the largest without spread": (
        {"rows": {"none": plain(8), "se": plus([0.03] * 8, 8), "eca": plus(GAIN, 8)}},
        "Yes",
        "Both variants beat the plain network; the largest gain is se's, +3.0 points.",
    ),
    "nothing finished of what compare names": (
        {"rows": {"none": plain(), "se": BETTER, "eca": [None] * 5}, "compare": (Claim("se", "eca"),)},
        "Undecided",
        "Nothing that this study asks has a finished pair of runs. Se against eca, mIoU: no finished pair.",
    ),
    "named in compare": (
        {"rows": {"none": plain(), "se": BETTER, "eca": OPEN}, "compare": (Claim("se", "eca"),)},
        "Yes",
        "Se against eca, mIoU: better than eca: +1.3 points (95 % interval +0.2 to +2.4).",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_answer(name: str) -> None:
    given, short, text = CASES[name]
    answer = judged(**given).answer
    assert (answer.short, answer.text) == (short, text)


def test_no_short_answer_is_without_a_case() -> None:
    shorts = {short for _, short, _ in CASES.values()}
    assert shorts == {"Yes", "No", "Not detectably", "Equivalent", "Undecided", "Too few seeds"}


def test_a_cheaper_arm_that_is_as_good_is_told() -> None:
    times = Times(2.0, 1.9, 2.1)
    costs = {"none": Cost(latency_ms=times), "se": Cost(latency_ms=Times(1.0, 0.9, 1.1))}
    assert judged({"none": plain(), "se": SAME}, costs=costs).answer.text.endswith(". se is faster.")


def test_a_variant_that_helps_has_its_price_told() -> None:
    rows: Rows = {"none": plain(), "se": BETTER}
    costs = {
        "none": Cost(100, 100_000, latency_ratio=Times(1.0, 1.0, 1.0), latency_ms=Times(5.0, 4.9, 5.1)),
        "se": Cost(110, 100_020, latency_ratio=Times(1.2, 1.1, 1.3), latency_ms=Times(6.0, 5.9, 6.1)),
    }
    assert judged(rows, costs=costs).answer.text.endswith(
        "se costs less than 0.1 % more multiply-adds and 1.20 times the latency."
    )
    costs["se"] = Cost(110, 103_000, latency_ratio=Times(1.02, 0.98, 1.06), latency_ms=Times(5.1, 4.9, 5.3))
    assert judged(rows, costs=costs).answer.text.endswith(
        "se costs +3.0 % multiply-adds and 1.02 times the latency (not distinguishable from plain)."
    )


@pytest.mark.parametrize(
    ("gains", "control", "short"),
    [
        (GAIN, GAIN, "identical against control"),
        (GAIN, NOISE, "better than control"),
        (NOISE, GAIN, "worse than control"),
        ([0.0004, -0.0003, 0.0001, 0.0002, -0.0004], [0.0] * 5, "equivalent to control"),
        (NOISE, [0.0] * 5, "undecided against control"),
    ],
)
def test_where_the_control_alone_is_a_claim_the_short_form_says_so(
    gains: list[float], control: list[float], short: str
) -> None:
    summary = judged(
        {"none": plain(), "se": plus(gains)}, controls={"se": plus(control)}, compare=(Claim("se", "control"),)
    )
    assert summary.arm("se").verdict.short == short


def test_the_risk_line_follows_the_number_of_runs() -> None:
    assert "in up to 45 % of its runs is not excluded" in judged({"none": plain(), "se": BETTER}).answer.risk
    assert "in up to 31 % of" in judged({"none": plain(8), "se": plus(GAIN, 8)}).answer.risk
    lost = judged({"none": plain(), "se": [NAN, *BETTER[1:]]}).answer.risk
    assert lost == "Of 5 runs of se 1 failed: up to 66 % of its runs may fail (95 % bound)."


# -- one family, one error rate over looks ----------------------------------------------------------------------------


def test_dropping_arms_does_not_shrink_the_family() -> None:
    gains = [0.010, 0.002, 0.008, 0.009, 0.004]
    many = {f"v{number}": plus([g * (number + 1) / 9 for g in NOISE]) for number in range(11)}
    before = judged({"none": plain(), "se": plus(gains), **many})
    assert before.claims == 12
    ledger = Ledger(tuple(f"{arm.label} against plain" for arm in before.arms[1:]), tuple(range(5)))
    after = judged({"none": plain(), "se": plus(gains)}, ledger=ledger)
    assert after.claims == 12
    assert after.arm("se").verdict.word == before.arm("se").verdict.word == "undecided"
    assert after.arm("se").against_plain.p_holm == before.arm("se").against_plain.p_holm  # type: ignore[union-attr]
    assert judged({"none": plain(), "se": plus(gains)}).arm("se").verdict.word == "better"  # alone and never others


def test_a_later_look_takes_more_evidence_and_the_same_look_again_does_not() -> None:
    gains = [0.010, 0.002, 0.008, 0.009, 0.004]
    rows: Rows = {"none": plain(), "se": plus(gains)}
    first = judged(rows)
    later = judged(rows, ledger=Ledger(("se against plain",), (), (Look(3, 1),)))
    again = judged(rows, ledger=Ledger(("se against plain",), (), (Look(5, 1),)))
    assert (first.look, later.look, again.look) == (1, 2, 1)
    assert [one.arm("se").verdict.word for one in (first, later, again)] == ["better", "undecided", "better"]
    assert later.weight == pytest.approx(0.1)


def test_what_compare_leaves_out_is_described() -> None:
    summary = judged({"none": plain(), "se": BETTER, "eca": WORSE}, compare=(Claim("se"),))
    assert summary.claims == 1
    assert summary.arm("se").verdict.word == "better"
    assert summary.arm("eca").verdict.word == "descriptive"
    assert summary.arm("eca").verdict.text.startswith("described, not judged: −1.3 points")
    assert summary.arm("eca").against_plain.p_holm is None  # type: ignore[union-attr]
    only = judged({"none": plain(), "se": BETTER}, controls={"se": SAME}, compare=(Claim("se", "control"),))
    assert (only.arm("se").verdict.word, only.arm("se").verdict.short) == ("better", "better than control")
    assert only.answer.text.startswith("se beats a plain network of equal cost by +1.3 points")


def test_controls_against_plain_are_no_claim() -> None:
    summary = judged({"none": plain(), "se": SAME}, controls={"se": BETTER})
    assert summary.claims == 2
    assert summary.arm("wide se").verdict.word == "descriptive"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (Claim("sa"), "compare names the arm 'sa', which is not in this study"),
        (Claim("se", "wide"), "compare names the arm 'wide'"),
        (Claim("se", "control"), "'se' has no equal-cost control"),
        (Claim("se", "plain", "mIou"), "no metric 'mIou' was measured; did you mean 'mIoU'"),
        (Claim("none", "plain"), "against itself"),
    ],
)
def test_compare_names_what_is_there(claim: Claim, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        judged({"none": plain(), "se": BETTER}, compare=(claim,))


def test_a_difference_that_matters_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"matters: wanted a difference of 0 or more; got -0\.5"):
        judged({"none": plain(), "se": BETTER}, matters=-0.5)


# -- the stopping rule ------------------------------------------------------------------------------------------------


def test_a_study_is_decided_when_every_claim_is_or_the_seeds_are_spent() -> None:
    assert decided(judged({"none": plain(), "se": BETTER}))
    assert decided(judged({"none": plain(), "se": SAME, "eca": WORSE}))
    still = judged({"none": plain(), "se": BETTER, "eca": OPEN})
    assert not decided(still)
    assert not decided(still, most=6)
    assert decided(still, most=5)
    assert not decided(judged({"none": plain(2), "se": plus(GAIN, 2)}))
    assert not decided(judged({"none": plain(), "se": BETTER}, pending=[("se", 5)]), most=5)
    assert not decided(judged({"none": plain(), "se": BETTER, "eca": [NAN] * 5}))
    assert decided(judged({"none": plain(), "se": BETTER, "eca": OPEN}, compare=(Claim("se"),)))


def test_looks_go_up_the_ladder() -> None:
    assert [next_look(seeds, 30) for seeds in (0, 3, 4, 8, 20, 26, 30)] == [3, 5, 5, 10, 26, 30, None]
    assert next_look(5, 6) == 6


# -- items ------------------------------------------------------------------------------------------------------------


def items_of(draw: np.random.Generator, seeds: int, items: int, own: float) -> dict[str, dict[int, Any]]:
    names = [f"{number}.png" for number in range(items)]
    shift = {"none": np.zeros(items), "se": draw.normal(0, own, items) + 0.05}
    return {
        label: {seed: (names, 0.5 + shift[label] + draw.normal(0, 0.02, items)) for seed in range(seeds)}
        for label in shift
    }


def test_new_items_widen_the_interval_and_may_take_the_verdict() -> None:
    items = items_of(np.random.default_rng(4), 8, 60, 0.2)
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    alone, both = judged(rows), judged(rows, items=items)
    assert alone.arm("se").verdict.word in {"better", "worse"}
    assert both.arm("se").verdict.word == "undecided"
    found = both.arm("se").against_plain
    assert found is not None
    assert found.test == "seeds and items"
    assert found.items == 60
    assert found.item_share is not None
    assert found.item_share > 0.9
    before = alone.arm("se").against_plain
    assert before is not None
    assert (found.seeds_only.low, found.seeds_only.high) == pytest.approx((before.low, before.high))
    assert "comes from seeds" in both.answer.about
    assert "% from the 60 items" in both.answer.about
    assert "there are no scores of single items" in alone.answer.about


def test_groups_of_items_are_resampled_whole() -> None:
    draw = np.random.default_rng(1)
    items = items_of(draw, 5, 60, 0.0)
    whose = {f"{number}.png": f"subject {number // 10}" for number in range(60)}
    step = np.repeat(draw.normal(0, 0.1, 6), 10)
    items["se"] = {seed: (names, values + step) for seed, (names, values) in items["se"].items()}
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    single = judged(rows, items=items).arm("se").against_plain
    whole = judged(rows, items=items, groups=whose).arm("se").against_plain
    assert single is not None
    assert whole is not None
    assert (single.items, whole.items) == (60, 6)
    assert whole.item_variance > 4 * single.item_variance
    about = judged(rows, items=items, groups=whose).answer.about
    assert "new seeds and new groups of test items alike" in about
    assert "% from the 6 groups of items" in about


def test_one_item_is_told() -> None:
    rows: Rows = {"none": plain(), "se": BETTER}
    one = {label: {seed: (["a"], np.array([v])) for seed, v in enumerate(of_arm)} for label, of_arm in rows.items()}
    assert judged(rows, items=one).answer.about == (
        "The verdict is about new seeds on this one test item: what other items would change is not known."
    )


def test_divisions_of_each_seed_are_corrected_for_their_overlap() -> None:
    items = items_of(np.random.default_rng(4), 5, 60, 0.02)
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    once, anew = judged(rows), judged(rows, items=items, overlap=0.25)
    before, found = once.arm("se").against_plain, anew.arm("se").against_plain
    assert before is not None
    assert found is not None
    assert (found.test, found.items) == ("seeds and divisions", 0)
    assert found.high - found.low == pytest.approx((before.high - before.low) * (1 + 5 * 0.25) ** 0.5)  # type: ignore[operator]
    assert anew.seeds_can_show.smallest == pytest.approx(once.seeds_can_show.smallest * 1.5)  # type: ignore[operator]
    assert anew.answer.about.startswith("The verdict is about new seeds, new divisions and new items alike")
    assert "drawn at once, " in anew.answer.about
    assert "and 56 % is added for what divisions of the same items share" in anew.answer.about
    bare = judged(rows, overlap=0.25).answer.about
    assert "44 % of the variance of its differences comes from seeds, training and test items, drawn at once" in bare


def test_items_that_do_not_match_leave_the_verdict_to_the_seeds() -> None:
    items = items_of(np.random.default_rng(4), 5, 60, 0.2)
    items["se"] = {seed: ([f"other {name}" for name in names], values) for seed, (names, values) in items["se"].items()}
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    assert judged(rows, items=items).arm("se").against_plain.items == 0  # type: ignore[union-attr]
    one = {label: {seed: (["a"], np.array([v])) for seed, v in enumerate(rows[label])} for label in rows}
    assert judged(rows, items=one).arm("se").against_plain.items == 0  # type: ignore[union-attr]


def test_failed_runs_are_named_once_however_they_are_told() -> None:
    lost = [Failure("se", 1, "CUDA out of memory"), Failure("se", 2, "loss is nan at step 3")]
    rows: Rows = {"none": plain(), "se": [BETTER[0], None, None, *BETTER[3:]]}
    summary = judged(rows, failed=lost)
    assert summary.answer.text == "se failed in 2 of 5 seeds."
    assert summary.arm("se").verdict.text.startswith(
        "undecided: failed in 2 of 5 seeds; the other seeds alone give no "
    )
    found = summary.arm("se").against_plain
    assert found is not None
    assert (found.failed, found.low, found.missing) == ((1, 2), None, ())


OFF = (SiteState("a", "SE", strength=0.0004, change=0.0002), SiteState("b", "SE", strength=-0.002, change=0.0019))
ON = SiteState("a", "SE", strength=0.1, change=0.05)
BLIND = SiteState("b", "SE", change=0.5, blind=True, gates={"channel": GateState(0.5, 0.0, 0.0, True)})


def test_attention_that_stayed_off_is_told_in_the_answer_and_beside_the_verdict() -> None:
    states = [state_of("se", 0, *OFF), state_of("se", 1, *OFF)]
    summary = judged({"none": plain(), "se": SAME}, attention=states)
    assert summary.answer.text.endswith(
        "The attention of se stayed off: it changes the features by less than 0.2 % at every site; its strength ends "
        "at 0.0020 at most, so it is the plain network that was compared with itself."
    )
    arm = summary.arm("se")
    assert arm.verdict.short == "equivalent; attention stayed off"
    assert arm.verdict.text.endswith(
        "; attention stayed off (it changes the features by less than 0.2 % at every site; its strength ends at 0.0020 "
        "at most)"
    )
    assert arm.attention is not None
    assert arm.attention.text == ""
    assert arm.attention.strength_text == "0.0012 (0.00040 to 0.0020)"
    assert summary.arm("none").attention is None


def test_one_site_that_works_is_enough_to_be_on() -> None:
    summary = judged({"none": plain(), "se": SAME}, attention=[state_of("se", 0, *OFF), state_of("se", 1, ON, OFF[1])])
    assert "stayed off" not in summary.answer.text
    assert summary.arm("se").verdict.short == "equivalent"


def test_gates_without_gradient_and_constant_ones_stand_beside_the_verdict() -> None:
    summary = judged({"none": plain(), "se": SAME}, attention=[state_of("se", 0, ON, BLIND), state_of("se", 1, ON, ON)])
    assert summary.arm("se").verdict.text.endswith(
        "; weights of 1 of 4 gates (2 in each of 2 seeds) got no gradient in the first 20 batches; 1 of 4 gates (2 in "
        "each of 2 seeds) is constant over the test items at the end"
    )
    assert "gates" not in summary.answer.text
    one = judged({"none": plain(), "se": SAME}, attention=[state_of("se", 0, ON, BLIND)])
    assert "; weights of 1 of 2 gates got no gradient" in one.arm("se").verdict.text
