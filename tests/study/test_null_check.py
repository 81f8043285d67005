"""A null check: how often a difference is claimed between runs of one network."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from foveate.cli import app
from foveate.items import read_items
from foveate.spec import DRAWS, Study
from foveate.study.analyse import inference
from foveate.study.analyse.items import shared_values
from foveate.study.analyse.null_check import null_check, null_rate


def test_the_rate_is_that_of_the_formulas_on_each_drawn_study() -> None:
    draw, seeds, studies = np.random.default_rng(1), 3, 200
    values = draw.normal(size=(14, 30)) + draw.normal(0, 0.3, (14, 1))
    names = [str(number) for number in range(30)]
    whose = {name: f"subject {number // 3}" for number, name in enumerate(names)}
    for groups in ({}, whose):
        found = null_rate(values.mean(1), seeds, shared_values([(names, run) for run in values], groups), studies, 1.0)
        codes = np.arange(30) // 3 if groups else None
        again, wrong = np.random.default_rng(seeds), 0
        for chosen in np.argsort(again.random((studies, 14)), 1)[:, : 2 * seeds]:
            each = values[chosen[:seeds]] - values[chosen[seeds:]]
            part = inference.item_variance(each, codes)
            wrong += float(inference.p_value(inference.evidence(each.mean(1), part, 10 if groups else 30))) < 0.05
        assert found.rate == pytest.approx(wrong / studies)


def test_the_interval_holds_the_expected_rate_and_narrows_with_runs() -> None:
    draw = np.random.default_rng(3)
    widths = []
    for runs in (16, 60):
        rates = [null_rate(draw.normal(size=runs), 3, studies=3000) for _ in range(30)]
        assert np.mean([one.rate for one in rates]) == pytest.approx(0.04, abs=0.006)
        assert sum(one.low <= 0.04 <= one.high for one in rates) >= 24
        widths.append(float(np.mean([one.high - one.low for one in rates])))
    assert widths[1] < widths[0] / 1.5


def test_divisions_of_each_run_are_corrected_for_their_overlap_as_in_a_study() -> None:
    draw, seeds, studies, overlap = np.random.default_rng(4), 3, 400, 0.25
    values = draw.normal(size=14)
    items = [([str(number) for number in range(30)], draw.normal(value, 1, 30)) for value in values]
    found = null_check(list(values), items, overlap=overlap).rates[0]
    assert found == null_rate(values, seeds, overlap=overlap)
    chosen = np.argsort(np.random.default_rng(seeds).random((studies, 14)), 1)[:, : 2 * seeds]
    gains = values[chosen[:, :seeds]] - values[chosen[:, seeds:]]
    wrong = inference.p_value(inference.evidence(gains, overlap=overlap)) < 0.05
    assert null_rate(values, seeds, None, studies, 1.0, overlap).rate == pytest.approx(wrong.mean())
    assert found.rate < null_rate(values, seeds).rate


def test_few_runs_say_so() -> None:
    draw = np.random.default_rng(0)
    few, some, many = (null_check(draw.normal(size=runs)) for runs in (10, 14, 40))
    assert few.rates == ()
    assert few.text.startswith("10 runs are too few to say how often a difference is claimed where there is none")
    assert [one.seeds for one in some.rates] == [3]
    assert some.text.endswith("14 runs show this only roughly; 40 say more")
    assert [one.seeds for one in many.rates] == [3, 5, 8, 10]
    assert "expected: 4 %, the error rate of a first look, and no rate is distinguishably more" in many.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"variants": ("none", "se")}, "null_check: wanted the plain network alone"),
        ({"control": "size"}, "null_check goes without control; got 'size'"),
        ({"until": "decided", "max_seeds": 9}, "null_check goes without until; got 'decided'"),
        ({"seeds": (DRAWS,)}, "null_check: wanted seeds below 1,000,000"),
    ],
)
def test_mistakes_are_one_line(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Study.model_validate({"null_check": 2, "variants": ("none",), "control": "none", **fields})


def test_a_file_need_not_say_that_a_null_check_has_no_control() -> None:
    assert Study.model_validate({"null_check": 2, "variants": ("none",)}).control == "none"


@pytest.mark.slow
def test_copies_have_draws_of_their_own_and_the_page_says_what_was_found(tmp_path: Path) -> None:
    flags = "--data embedded --train-items 60 --test-items 40 --epochs 1 --batch-size 20 --seeds 6 --attention none,se"
    done = CliRunner().invoke(app, ["study", "aa", *flags.split(), "--out", str(tmp_path / "aa"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [arm["label"] for arm in found["arms"]] == ["none", "copy 1"]
    assert found["arms"][1]["against_plain"]["seeds"] == list(range(6))
    assert found["arms"][1]["verdict"]["word"] != "identical"
    assert found["null_check"]["runs"] == 12
    assert found["null_check"]["rates"][0]["studies"] == 20_000
    page = (tmp_path / "aa" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Does a copy of foveate:resnet8 beat it?" in page
    assert found["null_check"]["text"] in page
    items = [read_items(path) for path in (tmp_path / "aa" / "runs").glob("*/items.npz")]
    assert len({one[1]["accuracy"].tobytes() for one in items if one}) == 12
