"""Results that somebody already has: the same verdict as a study's, and mistakes in one line with the file's line."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.spec import Metric
from foveate.study.results_table import compare
from foveate.summary import Summary

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
MAP = Metric("map50", unit="fraction")
SCORES = {"plain": [0.41, 0.42, 0.40, 0.43], "se": [0.45, 0.465, 0.44, 0.46], "eca": [0.41, 0.41, 0.41, 0.425]}


def long_form(tmp_path: Path, scores: dict[str, list[float]] = SCORES, first: str = "variant,seed,map50") -> Path:
    lines = [f"{label},{seed},{value}" for label, values in scores.items() for seed, value in enumerate(values)]
    return write(tmp_path, first, *lines)


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "results.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def same_verdict(summary: Summary, other: Summary) -> bool:
    def told(one: Summary) -> object:
        return one.answer.short, [(arm.label, arm.score, arm.against_plain, arm.verdict) for arm in one.arms]

    return told(summary) == told(other)


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "foveate", "compare", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


# -- what a table says ------------------------------------------------------------------------------------------------


def test_a_table_gets_the_verdict_of_a_study(tmp_path: Path) -> None:
    summary = compare(long_form(tmp_path), MAP)
    assert [arm.label for arm in summary.arms] == ["plain", "se", "eca"]
    assert summary.answer.short == "Yes"
    assert summary.arm("se").verdict.text == "better than plain: +3.9 points (95 % interval +2.9 to +4.9)"
    assert summary.arm("eca").verdict.word == "undecided"
    assert summary.answer.question == "Does any of 2 variants beat plain in map50?"
    assert summary.answer.text.startswith("1 of the 2 variants beats the plain network; the largest gain is se's, +3.9")


def test_a_lower_error_is_better_when_so_said(tmp_path: Path) -> None:
    error = Metric("map50", unit="px", better="lower")
    summary = compare(long_form(tmp_path), error, plain="se")
    assert summary.answer.short == "Yes"
    assert "beat se; the largest gain is eca's, 0.0400 px (difference −0.0400" in summary.answer.text


def test_rows_in_memory_and_other_delimiters_give_the_same(tmp_path: Path) -> None:
    summary = compare(long_form(tmp_path), MAP)
    rows = [
        {"variant": label, "seed": seed, "map50": value}
        for label, values in SCORES.items()
        for seed, value in enumerate(values)
    ]
    assert same_verdict(summary, compare(rows, MAP))
    path = long_form(tmp_path)
    path.write_text("\ufeff" + path.read_text().replace(",", ";"), encoding="utf-8")
    assert same_verdict(summary, compare(path, MAP))


def test_other_columns_of_numbers_are_described_and_not_judged(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ",variant,seed,loss,map50,comment",
        "0,plain,0,2.5,0.4,good",
        "1,se,0,1.5,0.5,",
        "2,plain,1,2.25,0.4,",
        "3,se,1,,0.5,2",
    )
    summary = compare(path, MAP)
    assert [metric.name for metric in summary.metrics] == ["map50", "loss"]
    assert summary.metrics[1].better == "neither"
    assert summary.arm("se").estimates["loss"].values == (1.5,)
    assert summary.failed == ()


def test_columns_of_other_names_are_given(tmp_path: Path) -> None:
    path = long_form(tmp_path, first="model,run,map50")
    assert same_verdict(compare(path, MAP, variant="model", seed="run"), compare(long_form(tmp_path), MAP))


def test_a_seeds_score_is_the_mean_of_its_items_and_items_are_compared(tmp_path: Path) -> None:
    lines = [
        f"{label},{seed},{item},{value + seed}"
        for label, values in {"none": [4, 4, 4], "se": [3, 5, 4]}.items()
        for seed in (0, 1)
        for item, value in zip("abc", values, strict=True)
    ]
    summary = compare(write(tmp_path, "variant,seed,image,error", *lines), Metric("error", "px", "lower"), item="image")
    assert summary.arm("se").score.values == (4.0, 5.0)  # type: ignore[union-attr]
    items = summary.arm("se").items
    assert items is not None
    assert (items.items, items.better, items.worse, items.equal) == (3, 1, 1, 1)


def test_a_missing_pair_is_named_and_left_out(tmp_path: Path) -> None:
    path = long_form(tmp_path, {"none": [0.4, 0.41, 0.42], "se": [0.43, 0.45]})
    summary = compare(path, MAP)
    assert summary.arm("se").against_plain.seeds == (0, 1)  # type: ignore[union-attr]
    assert summary.arm("se").against_plain.missing == (2,)  # type: ignore[union-attr]
    assert summary.about["notes"] == ["se has no seed 2: left out of its pairs"]


@pytest.mark.parametrize("value", ["nan", "", "inf"])
def test_a_score_that_is_none_is_a_failed_run(tmp_path: Path, value: str) -> None:
    lines = ["plain,0,0.4", "plain,1,0.41", "se,0,0.45", f"se,1,{value}"]
    summary = compare(write(tmp_path, "variant,seed,map50", *lines), MAP)
    assert [(one.label, one.seed) for one in summary.failed] == [("se", 1)]
    assert summary.arm("se").failed == (1,)


# -- exports ----------------------------------------------------------------------------------------------------------


def test_mlflows_runs_are_read_by_their_columns(tmp_path: Path) -> None:
    header = "run_id,status,params.lr,params.variant,params.seed,metrics.map50,metrics.loss"
    lines = [
        f"{label}{seed},FINISHED,0.1,{label},{seed},{value},1.5"
        for label, values in SCORES.items()
        for seed, value in enumerate(values)
    ]
    lines += ["x,FAILED,0.1,se,4,0.1,", "y,RUNNING,0.1,plain,4,,"]
    summary = compare(write(tmp_path, header, *lines), MAP)
    assert [(arm.label, arm.score) for arm in summary.arms] == [
        (arm.label, arm.score) for arm in compare(long_form(tmp_path), MAP).arms
    ]
    assert [(one.label, one.seed, one.error) for one in summary.failed] == [("se", 4, "its state is failed")]
    assert "plain, seed 4, is running" in summary.about["notes"]
    assert summary.pending == (("plain", 4),)
    assert summary.answer.text.startswith(
        "Unfinished: 13 of 14 runs are done; still to do: plain at seed 4. There is no"
    )
    assert summary.arm("se").verdict.word == "unfinished"
    assert [metric.name for metric in summary.metrics] == ["map50"]


def test_wandbs_table_of_runs_is_read_by_its_columns(tmp_path: Path) -> None:
    header = "Name,State,Runtime,lr,seed,variant,map50"
    lines = [
        f"fancy-{label}-{seed},finished,812,0.1,{seed},{label},{value}"
        for label, values in SCORES.items()
        for seed, value in enumerate(values)
    ]
    assert same_verdict(compare(write(tmp_path, header, *lines), MAP), compare(long_form(tmp_path), MAP))
    crashed = compare(write(tmp_path, header, *lines[:-1], lines[-1].replace("finished", "crashed")), MAP)
    assert crashed.arm("eca").failed == (3,)


def test_dicts_of_wandbs_api_are_read(tmp_path: Path) -> None:
    path = tmp_path / "wandb.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", "summary", "config", "name"])
        for label, values in SCORES.items():
            for seed, value in enumerate(values):
                table.writerow([0, {"map50": value, "_step": 9}, {"variant": label, "seed": seed, "lr": 0.1}, "run"])
    assert same_verdict(compare(path, MAP), compare(long_form(tmp_path), MAP))
    path.write_text(path.read_text().replace("{'map50': 0.45,", "__import__('os').system('x') or {'map50': 0.45,"))
    with pytest.raises(ValueError, match=r"wandb\.csv:6: column 'summary': wanted a dict; got"):
        compare(path, MAP)


# -- mistakes ---------------------------------------------------------------------------------------------------------

GOOD = ["plain,0,0.4", "plain,1,0.5", "se,0,0.5"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("se,,0.5", r"results\.csv:5: column 'seed': wanted a seed, a whole number; got nothing$"),
        ("se,1.5,0.5", r"results\.csv:5: column 'seed': wanted a seed, a whole number; got '1\.5'$"),
        ("se,first,0.5", r"results\.csv:5: column 'seed': .* got 'first'$"),
        ("se,0,0.6", r"results\.csv:5: 'se', seed 0 was given before, in line 4; rows of single items need --item"),
        ("se,1,good", r"results\.csv:5: column 'map50': wanted a number; got 'good'$"),
        (",1,0.5", r"results\.csv:5: column 'variant': wanted the name of a variant; got nothing$"),
        ("se,1,0.5,7", r"results\.csv:5: wanted 3 cells; got 4$"),
        ("se,1,43.1", r"wanted map50 as a fraction, 0 to 1; got 43\.1 for 'se', seed 1$"),
        ('se,1,"0.5', r"results\.csv:5: not CSV"),
    ],
)
def test_a_mistake_in_a_row_is_told_with_its_line(tmp_path: Path, line: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted) as caught:
        compare(write(tmp_path, "variant,seed,map50", *GOOD, line), MAP)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_columns_is_told_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "variant,seed,map50", *GOOD)
    with pytest.raises(ValueError, match=r"has no column 'map'; did you mean 'map50'\?"):
        compare(path, Metric("map"))
    with pytest.raises(ValueError, match=r"has no column 'varant'; did you mean 'variant'\?"):
        compare(path, MAP, variant="varant")
    with pytest.raises(ValueError, match=r"has no column 'imge'; "):
        compare(path, MAP, item="imge")
    with pytest.raises(ValueError, match=r"has no variant 'sse' to compare with; did you mean 'se'\?"):
        compare(path, MAP, plain="sse")
    with pytest.raises(ValueError, match=r"has no column 'seed' \(or name another with --seed\); did you mean 'seeds'"):
        compare(write(tmp_path, "variant,seeds,map50", *GOOD), MAP)
    with pytest.raises(ValueError, match=r"results\.csv:1: wanted each column once; got 'seed' twice"):
        compare(write(tmp_path, "variant,seed,seed", *GOOD), MAP)
    with pytest.raises(
        ValueError, match=r"wanted a variant called 'plain' or 'none', or its name as --plain; got a, b"
    ):
        compare(write(tmp_path, "variant,seed,map50", "a,0,0.5", "b,0,0.5"), MAP)
    with pytest.raises(ValueError, match="wanted a variant to compare with 'plain'; got none"):
        compare(write(tmp_path, "variant,seed,map50", *GOOD[:2]), MAP)
    with pytest.raises(ValueError, match="wanted a row for each variant and seed; got none"):
        compare(write(tmp_path, "variant,seed,map50"), MAP)
    with pytest.raises(ValueError, match=r"row 2: column 'map50': wanted a number; got 'x'"):
        compare([{"variant": "none", "seed": 0, "map50": 1}, {"variant": "se", "seed": 0, "map50": "x"}], MAP)
    (tmp_path / "results.csv").write_bytes(b"variant,seed\n\xff\xfe")
    with pytest.raises(ValueError, match="wanted a CSV file in UTF-8"):
        compare(tmp_path / "results.csv", MAP)


# -- the command and its document -------------------------------------------------------------------------------------


def test_the_command_prints_json_and_writes_where_it_is_told(tmp_path: Path) -> None:
    path = long_form(tmp_path)
    answer = run(path, "--metric", "map50", "--better", "higher", "--unit", "fraction", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["answer"]["short"] == "Yes"
    metric = {"name": "map50", "unit": "fraction", "better": "higher", "shown": "percent"}
    assert found["metric"] == metric | {"of": "", "remade_by": ""}
    se = found["arms"][1]
    assert (se["verdict"]["word"], se["failed"], se["against_control"]) == ("better", [], None)
    assert {"mean", "low", "high", "p"} <= set(se["against_plain"])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["results.csv"]
    assert found["margin"] == {"value": 0.005, "stated": False, "text": "0.5 points"}
    flags = ("--metric", "map50", "--better", "higher", "--json", "--out", "page", "--matters", "0.2")
    answer = run(path, *flags, cwd=tmp_path)
    found = json.loads(answer.stdout)
    assert found["margin"] == {"value": 0.2, "stated": True, "text": "0.20"}
    assert (found["answer"]["short"], found["arms"][1]["verdict"]["word"]) == ("Equivalent", "equivalent")
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_commands_mistakes_are_one_line(tmp_path: Path) -> None:
    path = long_form(tmp_path)
    for flags, wanted in (
        (["--metric", "map50", "--better", "up"], "foveate: --better: wanted higher or lower; got 'up'"),
        (["--metric", "map50", "--better", "higher", "--matters=-1"], "--matters: wanted a difference of 0 or more"),
        (["--metric", "ma$", "--better", "lower"], "foveate: --metric: wanted letters, digits, spaces and"),
        (["--metric", "map", "--better", "lower"], "did you mean 'map50'?"),
    ):
        answer = run(path, *flags, cwd=tmp_path)
        assert answer.returncode == 2
        assert wanted in answer.stderr
        assert answer.stderr.count("\n") == 1
    answer = run("no.csv", "--metric", "map50", "--better", "higher", cwd=tmp_path)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "no.csv" in answer.stderr


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_documents_commands_print_what_it_shows(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "compare_digits.csv", tmp_path)
    ran = 0
    for block in blocks("console"):
        command, _, shown = block.partition("\n")
        if shown.strip():
            answer = run(*shlex.split(command)[3:], cwd=tmp_path)
            assert answer.returncode == 0, answer.stderr
            printed = re.sub(r"report: .*", "report: …", answer.stdout)
            assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()
            ran += 1
    assert ran >= 1
    assert (tmp_path / "compare_digits-report" / "index.html").is_file()


def test_the_documents_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "docs" / "compare_digits.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    codes = blocks("python")
    assert codes
    for code in codes:
        exec(compile(code, "compare.md", "exec"), {})
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_documents_table_is_that_of_its_script() -> None:
    with (ROOT / "docs" / "compare_digits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == {"plain", "se", "eca"}
    assert len(rows) == 3 * 8 * 60


# -- groups of items, divisions of their own --------------------------------------------------------------------------


def test_groups_of_items_and_divisions_reach_the_table(tmp_path: Path) -> None:
    lines = [
        f"{label},{seed},{item},s{item // 4},{0.5 + gain * (1 + item // 4 + 0.1 * seed) + 0.01 * ((seed * item) % 3)}"
        for label, gain in (("plain", 0), ("se", 0.1))
        for seed in range(4)
        for item in range(12)
    ]
    path = write(tmp_path, "variant,seed,image,subject,map50", *lines)
    found = compare(path, MAP, item="image", group="subject").arm("se").against_plain
    assert found is not None
    assert found.items == 3
    assert compare(path, MAP, item="image", overlap=0.25).arm("se").against_plain.test == "seeds and divisions"  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="wanted --item COLUMN as well"):
        compare(path, MAP, group="subject")
    path = write(tmp_path, "variant,seed,image,subject,map50", *lines, "se,5,0,s9,0.5")
    with pytest.raises(ValueError, match="item '0' belongs to 's0' in another row and to 's9' here"):
        compare(path, MAP, item="image", group="subject")


def test_named_comparisons_are_the_claims(tmp_path: Path) -> None:
    done = run(
        long_form(tmp_path), "--metric", "map50", "--better", "higher", "--compare", "se:eca", "--json", cwd=tmp_path
    )
    found = json.loads(done.stdout)
    assert found["claims"] == 1
    assert found["primary"][0]["text"].startswith("se against eca, map50: ")
    assert {arm["label"]: arm["verdict"]["word"] for arm in found["arms"]}["eca"] == "descriptive"
    done = run(long_form(tmp_path), "--metric", "map50", "--better", "higher", "--compare", "sa", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("foveate: compare names the arm 'sa', which is not in this study; ")
