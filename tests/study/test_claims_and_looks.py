"""What a study claims: one family and one error rate, whatever is dropped, added or looked at; and when it may stop."""

import pytest
from made_up_scores import BETTER, GAIN, NAN, NOISE, OPEN, SAME, WORSE, Rows, judged, plain, plus

from foveate.study.analyse import decided, next_look
from foveate.summary import Claim, Ledger, Look

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
