"""What is said of controls: how near their cost is, what they are, and which of them a variant is judged against."""

import pytest

from foveate.spec import Metric
from foveate.study.analyse import analyse
from foveate.summary import Arm, Claim, Cost, Score, Setting, Summary, Times

PLAIN = [0.80, 0.81, 0.79, 0.80, 0.82]
RATE = Metric("accuracy")


def plus(*gains: float) -> list[float]:
    return [value + gain for value, gain in zip(PLAIN, gains, strict=True)]


BETTER, SAME = plus(0.030, 0.031, 0.029, 0.030, 0.032), plus(0.029, 0.033, 0.027, 0.032, 0.030)


def costs(parameters: int, macs: int, ratio: float) -> Cost:
    latency, step = Times(10 * ratio, 9 * ratio, 11 * ratio), Times(ratio, ratio, ratio)
    return Cost(parameters, macs, latency_ms=latency, latency_ratio=step, train_step_ratio=step)


def judged(*forms: str, control: str = "size", compare: tuple[Claim, ...] = (), **of_first: int) -> Summary:
    """se beats plain; its controls of these forms, which are as good as it, too."""
    arms = [Arm("none", "plain"), Arm("se", "attention")]
    arms += [Arm(f"{form} of se", "control", matches=("se",), form=form, **of_first) for form in forms]
    table = {"none": PLAIN, "se": BETTER} | {f"{form} of se": SAME for form in forms}
    rows = [Score(label, seed, "accuracy", value) for label, of in table.items() for seed, value in enumerate(of)]
    spent = {"none": costs(1000, 10_000, 1.0), "se": costs(1080, 10_080, 1.2)}
    spent |= {f"{form} of se": costs(1078, 12_000, 1.25) for form in forms}
    setting = Setting(network="net", seeds=(0, 1, 2, 3, 4), control=control, epochs=10, compare=compare)
    return analyse(setting, [RATE], arms, rows, costs=spent)


@pytest.mark.parametrize(
    ("form", "answer", "verdict"),
    [
        ("conv", "a plain network of equal cost", "1×1 layers of the same cost in its place"),
        ("wider", "a plain network of equal cost", "a plain network widened to the same cost"),
        ("block", "a plain network of equal cost", "a plain network with one block more"),
        ("longer", "the plain network trained for the same time", "the plain network trained for the same time"),
        ("frozen", "a placebo of equal cost", "the same attention with random weights"),
        ("shuffled", "a placebo of equal cost", "the same attention with channels and positions shuffled"),
    ],
)
def test_the_control_comes_first_and_by_what_it_is(form: str, answer: str, verdict: str) -> None:
    found = judged(form)
    assert found.answer.short != "Yes"
    assert found.answer.text.startswith("se is ")
    assert f" than {answer}: " in found.answer.text.split(";")[0]
    mere = {"frozen": "what any such module brings", "longer": "mere training time"}
    mere["shuffled"] = mere["frozen"]
    assert f"so the gain may be {mere.get(form, 'mere size')}." in found.answer.text
    assert f" {verdict} (" in found.arm("se").verdict.text


@pytest.mark.parametrize(
    ("control", "texts"),
    [
        ("size", ["+78 parameters for +80, −2.5 %", "+2,000 multiply-adds for +80"]),
        ("macs", ["+2,000 multiply-adds for +80, +2,400.0 %", "+78 parameters for +80"]),
        (
            "latency",
            [
                "+2.5 ms of latency for +2 ms, +25.0 %",
                "+78 parameters for +80",
                "+2,000 multiply-adds for +80",
            ],
        ),
    ],
)
def test_what_a_control_adds_is_told_the_matched_first(control: str, texts: list[str]) -> None:
    matches = judged("conv", control=control).arm("conv of se").cost_matches
    assert [one.text for one in matches] == texts
    assert [one.matched for one in matches] == [True] + [False] * (len(texts) - 1)


def test_a_longer_training_is_told_by_its_epochs() -> None:
    match = judged("longer", epochs=13).arm("longer of se").cost_matches[0]
    assert (match.what, match.text) == ("training time", "13 epochs for 10 of steps 1.20 times as long, +8.3 %")


def test_a_variant_is_judged_against_the_first_of_its_controls_or_those_that_are_named() -> None:
    found = judged("conv", "shuffled")
    se = found.arm("se")
    assert (se.control, found.claims) == ("conv of se", 2)
    assert se.against_controls["shuffled of se"].word == "descriptive"
    named = judged("conv", "shuffled", compare=(Claim("se", "shuffled"), Claim("se", "control")))
    assert named.claims == 2
    assert named.arm("se").against_controls["shuffled of se"].word != "descriptive"
    assert named.arm("se").against_plain is not None
    assert named.arm("se").against_plain.word == "descriptive"
    with pytest.raises(ValueError, match="compare names the arm 'frozen', which is not in this study"):
        judged("conv", compare=(Claim("se", "frozen"),))
