"""A paper's figures stand beside the study's own, by the names of its variants, and change nothing."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_scores import GAIN, NOISE, judged, plain, plus
from rich.console import Console

from foveate.published import Published
from foveate.report import terminal_table, write_report
from foveate.study_file import check_study, read_study, study_toml

FILE = """seeds = 1
[published]
source = "A paper, Table 1"
setting = "ResNet-50, ImageNet"
columns = ["top-1 error, %", "parameters, M"]
rows = { none = [24.56, 25.56], se = [23.14] }
[[variants]]
attention = "se"
"""


def read(tmp_path: Path, text: str):
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    return read_study(tmp_path / "study.toml")


def test_figures_are_read_and_written_again(tmp_path: Path) -> None:
    study = read(tmp_path, FILE)
    assert study.published.figure("se", 0) == 23.14
    assert study.published.figure("se", 1) is None
    assert study.published.figure("cbam", 0) is None
    assert [study.published.shown(label, 0) for label in ("none", "cbam")] == ["24.56", "not known to us"]
    assert read(tmp_path, study_toml(study)).published == study.published


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("se = [", "sse = [", "published: no variant is called 'sse'"),
        ("[23.14]", "[1, 2, 3]", "row 'se': wanted 1 to 2 figures; got 3"),
        ("[23.14]", "[]", "row 'se': wanted 1 to 2 figures; got 0"),
        ("[23.14]", '["–"]', r"published.rows.se.0: wanted a valid number.*got '–'"),
        ("columns =", "noot = 'x'\ncolumns =", r"study.toml:5: unknown key 'published.noot'; did you mean 'note'"),
    ],
)
def test_mistakes_in_the_table_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, FILE.replace(old, new))


def test_a_null_check_has_no_paper_beside_it() -> None:
    paper = {"source": "a", "setting": "b", "columns": ["c"], "rows": {"none": [1]}}
    with pytest.raises(ValueError, match="null_check goes without published"):
        check_study({"null_check": 2, "variants": ["none"], "published": paper})


def test_page_table_and_terminal_show_the_figures_and_what_is_not_known(tmp_path: Path) -> None:
    summary = judged({"none": plain(), "se": plus(GAIN), "cbam": plus(NOISE)})
    paper = Published(source="A paper, Table 1", setting="theirs", columns=("top-1 error, %",), rows={"se": (23.14,)})
    page = write_report(replace(summary, published=paper), tmp_path).read_text(encoding="utf-8")
    section = page.partition('<h2 id="published">')[2].partition("</section>")[0]
    assert "A paper, Table 1" in section
    assert section.count("23.14") == 1
    assert section.count("not known to us") == 2
    rows = {row["variant"]: row for row in csv.DictReader((tmp_path / "table.csv").read_text().splitlines())}
    assert rows["se"]["published top-1 error, %"] == "23.14"
    assert rows["none"]["published top-1 error, %"] == ""
    console = Console(width=100, file=io.StringIO())
    console.print(terminal_table(replace(summary, published=paper)))
    assert "23.14" in console.file.getvalue()
