"""Every sentence that an answer can give, with the rows that lead to it."""

from typing import Any

import pytest
from made_up_scores import BETTER, GAIN, NAN, NOISE, OPEN, SAME, WORSE, Rows, judged, plain, plus, twice

from foveate.summary import AttentionState, Claim, Cost, Failure, GateState, Ledger, SiteState, Times

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
        "se is worse than the plain network: −1.3 points (95 % interval −1.5 to −1.2). No variant is detectably "
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


def state_of(label: str, seed: int, *sites: SiteState) -> AttentionState:
    return AttentionState(label, seed, 20, 64, sites)


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
