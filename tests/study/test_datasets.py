"""Several data sets: ranks, tests over data sets, and one mixed model, held to scipy's and to textbook figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from foveate.cli import app
from foveate.report import critical_difference_drawing, write_across, write_beside
from foveate.report.languages import FOOT, catalogue
from foveate.spec import Metric
from foveate.study.analyse import across, analyse, not_ranked
from foveate.study.analyse.datasets import critical_difference, friedman_p, groups_alike, mean_ranks, random_effect
from foveate.summary import Across, Arm, Failure, Score, Setting, Summary

RATE = Metric("accuracy")


def test_ranks_and_friedmans_test_are_scipys() -> None:
    scores = np.random.default_rng(0).normal(size=(9, 5)).round(1)
    ranks = mean_ranks(scores)
    assert ranks.tolist() == stats.rankdata(-scores, axis=1).tolist()
    chi = stats.friedmanchisquare(*scores.T).statistic
    f = 8 * chi / (9 * 4 - chi)
    assert friedman_p(ranks) == pytest.approx(stats.f.sf(f, 4, 32))
    assert friedman_p(mean_ranks(scores[:, :2])) is None
    assert friedman_p(mean_ranks(np.zeros((4, 3)))) == 1.0


def test_the_critical_difference_is_the_published_one() -> None:
    # Demšar 2006, table 5 and the example of section 3.2.2: q = 2.569 for four classifiers, 14 data sets
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)


def test_bars_join_the_largest_groups() -> None:
    assert groups_alike([1.0, 1.5, 2.4, 3.9], 1.0) == [(0, 1), (1, 2)]
    assert groups_alike([1.0, 1.5, 1.9], 1.0) == [(0, 2)]
    assert groups_alike([1.0, 2.0, 3.0], 1.0) == []


def test_the_mixed_model_of_equal_groups_is_the_analysis_of_variance() -> None:
    draw = np.random.default_rng(1)
    groups = [draw.normal(shift, 1.0, 5) for shift in draw.normal(0.3, 2.0, 6)]
    found, means = random_effect(groups), np.array([one.mean() for one in groups])
    within = np.mean([one.var(ddof=1) for one in groups])
    assert found.mean == pytest.approx(means.mean())
    assert found.error == pytest.approx(means.std(ddof=1) / np.sqrt(6))
    assert found.within_sd**2 == pytest.approx(within, rel=1e-4)
    assert found.between_sd**2 == pytest.approx(means.var(ddof=1) - within / 5, rel=1e-3)
    alike = random_effect([np.array([-1.0, 0.0, 1.0])] * 4)
    assert (alike.between_sd, alike.mean) == (0.0, 0.0)
    single = random_effect([[0.1], [0.2], [0.4]])
    assert single.mean == pytest.approx(0.7 / 3)


def test_the_mixed_model_covers_where_groups_differ_in_size() -> None:
    draw, inside = np.random.default_rng(2), 0
    for _ in range(400):
        groups = [draw.normal(draw.normal(0, 1), 1.0, size) for size in (3, 3, 5, 8, 20, 4)]
        found = random_effect(groups)
        inside += abs(found.mean) <= stats.t.ppf(0.975, 5) * found.error
    assert 0.92 <= inside / 400 <= 0.98


def judged(
    gains: dict[str, list[float]], sets: int = 5, metric: Metric = RATE, spread: float = 0.004, **more: object
) -> Across:
    """gains: variant → its gain on each data set."""
    draw = np.random.default_rng(3)
    found: dict[str, Summary] = {}
    for number in range(sets):
        arms = [Arm("none", "plain"), *(Arm(label, "attention") for label in gains)]
        rows = []
        for seed in range(4):
            plain = 0.7 + 0.03 * number + draw.normal(0, 0.01)
            rows.append(Score("none", seed, metric.name, plain))
            if "failed" in more and seed == 3:
                rows.append(Score("none", 4, metric.name, plain))
            rows += [
                Score(label, seed, metric.name, plain + values[number] + draw.normal(0, spread))
                for label, values in gains.items()
            ]
        found[f"set {number}"] = analyse(Setting(seeds=(0, 1, 2, 3)), [metric], arms, rows, **more)  # type: ignore[arg-type]
    return across(found)


def test_the_answer_is_about_new_data_sets() -> None:
    found = judged({"se": [0.02, 0.03, 0.025, 0.022, 0.028], "eca": [0.03, -0.03, 0.02, -0.02, 0.0]})
    assert found.answer.short == "Yes"
    assert found.answer.text.startswith(
        "se beats the plain network on new data sets: se: +2.5 points (95 % interval over"
    )
    assert found.arms[0].label == "se"
    assert {arm.label: arm.verdict.word for arm in found.arms} == {"none": "plain", "se": "better", "eca": "undecided"}
    eca = next(arm for arm in found.arms if arm.label == "eca").against_plain
    assert eca is not None
    assert eca.between_sd > 5 * eca.within_sd
    assert len(found.pairs) == 3


@pytest.mark.parametrize(
    ("gains", "sets", "short", "said"),
    [
        ({"se": [0.03, 0.03]}, 2, "Undecided", "A verdict on new data sets takes 3; there are 2"),
        ({"se": [-0.02, -0.03, -0.025, -0.022]}, 4, "No", "No variant is better than the plain network"),
        (
            {"se": [0.0001, -0.0001, 0.0, 0.0, 0.0]},
            5,
            "Equivalent",
            "se is as good as the plain network to within 0.5 p",
        ),
        ({"se": [0.03, -0.03, 0.02, -0.02]}, 4, "Not detectably", "No variant is detectably better"),
    ],
)
def test_each_answer(gains: dict[str, list[float]], sets: int, short: str, said: str) -> None:
    answer = judged(gains, sets, spread=0.0005).answer
    assert answer.short == short
    assert answer.text.startswith(said)


def test_a_lower_error_ranks_first_and_runs_that_failed_take_the_verdict() -> None:
    error = Metric("error", unit="px", better="lower")
    found = judged({"se": [-0.1] * 4}, 4, error)
    assert (found.answer.short, found.arms[0].label) == ("Yes", "se")
    lost = judged({"se": [0.1] * 4}, 4, failed=[Failure("se", 4, "nan")], pending=[])
    assert lost.arms[0].verdict.text == "undecided: runs failed; the data sets' pages say which"
    assert lost.notes == ("runs of se failed on set 0, set 1, set 2 and set 3: its ranks are those of the others",)
    assert judged({"se": [0.1] * 4}, 4, pending=[("se", 5)]).answer.text.startswith(
        "Unfinished: runs are still to be done on"
    )


def test_what_does_not_fit_is_one_line() -> None:
    one, two = judged({"se": [0.0] * 2}, 2), judged({"eca": [0.0] * 2}, 2)
    with pytest.raises(ValueError, match="wanted two data sets or more; got 1"):
        across({"a": one.datasets["set 0"]})
    with pytest.raises(ValueError, match="wanted 'none' and a variant with finished runs on every data set"):
        across({"a": one.datasets["set 0"], "b": two.datasets["set 0"]})
    other = judged({"se": [0.0] * 2}, 2, Metric("error", unit="px", better="lower"))
    with pytest.raises(
        ValueError, match="wanted one metric, of one unit and direction, for all data sets; got 'accuracy'"
    ):
        across({"a": one.datasets["set 0"], "b": other.datasets["set 0"]})


def test_studies_with_nothing_in_common_stand_side_by_side(tmp_path: Path) -> None:
    one, two = judged({"se": [0.0] * 2}, 2), judged({"eca": [0.0] * 2}, 2, Metric("error", unit="px", better="lower"))
    studies = {"a": one.datasets["set 0"], "b": two.datasets["set 0"]}
    why = not_ranked(studies)
    assert "got 'accuracy' in a and 'error' in b" in why
    page = write_beside(studies, why, tmp_path, "zh").read_text(encoding="utf-8")
    assert "2 项研究并列" in page
    assert all(f'href="{name}/index.html"' in page and (tmp_path / name / "index.html").is_file() for name in studies)
    assert "error" in page
    assert catalogue("zh").exact[FOOT] not in page


def test_the_page_has_the_picture_and_each_data_set(tmp_path: Path) -> None:
    found = judged({"se": [0.02, 0.03, 0.025], "eca": [0.0, 0.001, 0.0], "sa": [-0.02, -0.01, -0.03]}, 3)
    page = write_across(found, tmp_path).read_text(encoding="utf-8")
    assert found.answer.text in page.replace("&#39;", "'")
    assert 'href="set_1/index.html"' in page
    assert (tmp_path / "set_1" / "index.html").is_file()
    assert (tmp_path / "mean_ranks.png").stat().st_size > 1000
    drawing = critical_difference_drawing(found)
    assert "critical difference" in drawing.standalone()
    assert drawing.description.startswith("se: 1.00.")
    assert json.loads((tmp_path / "summary.json").read_text())["answer"]["short"] == found.answer.short


def test_a_table_with_a_column_of_data_sets_is_judged_as_one(tmp_path: Path) -> None:
    draw, lines = np.random.default_rng(0), ["data,variant,seed,accuracy"]
    for name in ("pets", "cars", "birds"):
        lines += [
            f"{name},{label},{seed},{0.7 + gain + draw.normal(0, 0.002):.5f}"
            for label, gain in (("none", 0.0), ("se", 0.03))
            for seed in range(3)
        ]
    path = tmp_path / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    flags = ["compare", str(path), "--metric", "accuracy", "--better", "higher", "--unit", "fraction", "--dataset"]
    done = CliRunner().invoke(app, [*flags, "data", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["datasets"]) == ["pets", "cars", "birds"]
    assert found["answer"]["short"] == "Yes"
    done = CliRunner().invoke(app, [*flags, "data", "--out", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output
    assert "Does se beat none in accuracy on 3 data sets?" in done.stdout
    with pytest.raises(ValueError, match="has no column 'dta'; did you mean 'data'"):
        CliRunner().invoke(app, [*flags, "dta"], catch_exceptions=False)
