"""The report as its readers meet it: files, page, figures, tables."""

import copy
import csv
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from foveate.report import numbers, terminal_table, write_report
from foveate.report.drawing import bounds, scale, shorten
from foveate.report.labels import Box, place
from foveate.report.page import page

FILES = {f"{name}.{kind}" for name in ("accuracy_latency", "paired_differences", "curves") for kind in ("png", "svg")}
FILES |= {"index.html", "table.csv", "summary.json"}
ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "br", "img", "input"}


class Reader(HTMLParser):
    """Tags, their attributes, the text people see; and whether every tag that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen, self.styles, self.open = "", "", list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.styles += data
        else:
            self.seen += data


def terminal(summary: dict[str, Any], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(terminal_table(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_study_gives_every_file(summary: dict[str, Any], tmp_path: Path) -> None:
    made = write_report(summary, tmp_path / "report")
    assert made == tmp_path / "report" / "index.html"
    assert {path.name for path in made.parent.iterdir()} == FILES
    assert json.loads((made.parent / "summary.json").read_text()) == summary
    for name in (name for name in FILES if name.endswith(".png")):
        with Image.open(made.parent / name) as picture:
            assert picture.width == 1920
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20  # something is drawn
    for name in (name for name in FILES if name.endswith(".svg")):
        ElementTree.parse(made.parent / name)
    for name in (name for name in FILES if not name.endswith(".png")):
        assert not re.search(
            r"\b(nan|inf|undefined|None)\b", (made.parent / name).read_text().lower().replace("nan at", "")
        )
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o644


def test_page_asks_nothing_of_the_network(summary: dict[str, Any]) -> None:
    read = Reader(page(summary))
    for tag, attributes in read.tags:
        assert tag not in {"script", "iframe", "object", "embed", "img", "video", "audio", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "poster", "data"}:
                assert str(value).startswith(("data:", "#"))
    assert "@import" not in read.styles
    assert "url(" not in read.styles
    assert any("default-src 'none'" in str(attributes.get("content")) for _, attributes in read.tags)


def test_page_says_it_all_in_order(summary: dict[str, Any]) -> None:
    read = Reader(page(summary))
    heads = re.findall(r'<h2 id="([\w-]+)"', page(summary))
    wanted = ["results", "accuracy-cost", "differences", "learning", "seeds", "costs", "failed", "again", "definitions"]
    assert heads == [head for head in wanted if head != "failed" or summary["failed"]]
    for text in (summary["answer"]["question"], summary["answer"]["text"], summary["seeds_can_show"]["text"]):
        assert text in read.seen
    for arm in summary["arms"]:
        assert arm["label"] in read.seen
        assert arm["verdict"]["text"][1:] in read.seen or arm["kind"] == "plain"
    for failed in summary["failed"]:
        assert failed["error"] in read.seen
    assert summary["about"]["command"] in read.seen
    assert summary["about"]["toml"] in read.seen


def test_figures_are_described_to_those_who_cannot_see_them(usual: dict[str, Any]) -> None:
    text = page(usual)
    names = re.findall(r'aria-labelledby="([\w-]+-title) ([\w-]+-description)"', text)
    assert len(names) == 4
    for pair in names:
        for name in pair:
            assert text.count(f'id="{name}"') == 1
    assert re.search(r"<desc [^>]*>none: accuracy [\d.]+ % \([\d.]+ to [\d.]+\), latency 1.21 ms", text)


def test_what_users_write_stays_text(hostile: dict[str, Any], tmp_path: Path) -> None:
    folder = write_report(hostile, tmp_path).parent
    text = (folder / "index.html").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "<script" not in (folder / "accuracy_latency.svg").read_text()
    assert "[red]eca[/red]" in terminal(hostile)


def test_csv_is_numbers_with_units_in_the_headings(usual: dict[str, Any], tmp_path: Path) -> None:
    write_report(usual, tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == [arm["label"] for arm in usual["arms"]]
    assert float(rows[1]["accuracy_mean_percent"]) == pytest.approx(
        100 * usual["arms"][1]["accuracy"]["mean"], abs=1e-5
    )
    wanted = usual["arms"][1]["against_plain"]["low"]
    assert float(rows[1]["difference_to_plain_low_points"]) == pytest.approx(100 * wanted, abs=1e-5)
    assert rows[0]["difference_to_plain_mean_points"] == ""
    assert float(rows[1]["latency_ms_median"]) == usual["arms"][1]["cost"]["latency_ms"]["median"]


def test_csv_runs_no_formula(usual: dict[str, Any], tmp_path: Path) -> None:
    summary = copy.deepcopy(usual)
    summary["arms"][1]["label"] = "=HYPERLINK(1)"
    write_report(summary, tmp_path)
    assert "'=HYPERLINK(1)" in (tmp_path / "table.csv").read_text()


def test_terminal_table_fits_a_hundred_columns(summary: dict[str, Any]) -> None:
    text = terminal(summary)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text.replace(summary["answer"]["question"], "")
    joined = re.sub(r"\s+", " ", text)
    assert summary["answer"]["short"] in joined
    for arm in summary["arms"]:
        assert arm["label"].split(" ")[0][:12] in text
        if arm["accuracy"]:
            assert f"{100 * arm['accuracy']['mean']:.1f}" in text


def test_written_whole_or_not_at_all(usual: dict[str, Any], tmp_path: Path) -> None:
    write_report(usual, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = copy.deepcopy(usual)
    broken["arms"][1]["cost"]["latency_ms"]["median"] = float("nan")
    with pytest.raises(ValueError):
        write_report(broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_report(usual, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before  # drawn again, the same bytes


def test_folder_that_cannot_be_written_is_named(usual: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").mkdir()
    with pytest.raises(OSError, match="file cannot be written") as caught:
        write_report(usual, tmp_path / "report")
    assert str(caught.value.filename).endswith("index.html")
    assert not list((tmp_path / "report").glob(".*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_report(usual, tmp_path / "file" / "report")


def test_not_a_summary_is_said(usual: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without 'schema'"):
        write_report({}, tmp_path)
    with pytest.raises(ValueError, match="wanted a summary of schema 1; got 0"):
        write_report({**usual, "schema": 0}, tmp_path)


def test_no_measured_cost_still_gives_a_report(usual: dict[str, Any], tmp_path: Path) -> None:
    summary = copy.deepcopy(usual)
    for arm in summary["arms"]:
        arm["cost"] = dict.fromkeys(arm["cost"])
        arm["cost_change"] = dict.fromkeys(arm["cost_change"])
    summary["curves"], summary["about"] = {}, {}
    read = Reader(write_report(summary, tmp_path).read_text())
    assert "no arm has both an accuracy and a latency" in read.seen
    assert "No learning curve was recorded" in read.seen


def test_report_starts_no_torch() -> None:
    alone = "import sys, types; p = types.ModuleType('foveate'); p.__path__ = ['foveate']; sys.modules['foveate'] = p; "
    asked = "import foveate.report; print([name for name in ('torch', 'foveate.study') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", alone + asked], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_names_in_a_crowd_do_not_cover_each_other() -> None:
    points = [(300.0 + 18 * (i % 4), 200.0 + 9 * (i // 4)) for i in range(12)]
    names = [f"variant {i} (kernel_size=7)" for i in range(12)]
    spots = place(points, names, [], Box(60, 20, 940, 420), 12)
    for i, one in enumerate(spots):
        assert one.box.outside(Box(60, 20, 940, 420)) == 0
        assert all(one.box.overlap(other.box) == 0 for other in spots[:i])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (84.96, 85.04), (1e-5, 3e-5), (5.0, 5.0), (-1200.0, 800.0)])
def test_ticks_are_inside_and_told_apart(low: float, high: float) -> None:
    axis = scale(low, high, 0, 100)
    assert len(axis.ticks) >= 2
    assert all(axis.low - 1e-12 <= tick <= axis.high + 1e-12 for tick in axis.ticks)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_numbers_as_people_read_them() -> None:
    assert [numbers.compact(v) for v in (999, 78_042, 12_501_000, 4.1e9, None)] == [
        "999",
        "78.0 k",
        "12.5 M",
        "4.10 G",
        "–",
    ]
    assert [numbers.milliseconds(v) for v in (0.01234, 1.2345, 2, 12.34, 1234.5)] == [
        "0.0123",
        "1.23",
        "2.00",
        "12.3",
        "1234",
    ]
    assert [numbers.percent(v) for v in (0, 0.43, -0.004, 12)] == ["0 %", "+0.4 %", "−0.004 %", "+12.0 %"]
    assert [numbers.signed(v) for v in (0, 1200, -3)] == ["0", "+1,200", "−3"]
    assert [numbers.duration(v) for v in (12.2, 221.4, 7300)] == ["12 s", "3 min 41 s", "2 h 1 min"]
    assert shorten("cbam (kernel_size=3)", 1000, 12) == "cbam (kernel_size=3)"
    assert len(shorten("x" * 90, 100, 12)) <= 16


def test_page_draws_in_a_browser_without_network(usual: dict[str, Any], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium here: `apt-get install chromium` lets this test draw the page")
    made = write_report(usual, tmp_path / "report")
    quiet = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    quiet += " --disable-sync --no-first-run --hide-scrollbars --window-size=1200,2600 --enable-logging=stderr"
    places = [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}", made.as_uri()]
    done = subprocess.run(
        [browser, *quiet.split(), "--host-resolver-rules=MAP * ~NOTFOUND", *places],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in done.stderr  # no refused request, no script or style error
    with Image.open(tmp_path / "page.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 22) or []}
    assert {(0, 104, 168), (192, 83, 0), (61, 72, 84)} <= colours  # variant, control and plain are drawn


def test_equal_values_get_an_axis_that_can_be_read() -> None:
    for value in (0.0, 1 / 6, 100 / 6, 100.0):
        axis = scale(*bounds([value, value], [value]), 0.0, 100.0)
        assert len(axis.ticks) >= 3
        assert max(len(axis.label(tick)) for tick in axis.ticks) <= 6


def test_what_the_planner_noted_stands_on_the_page_and_in_the_terminal(usual: dict[str, Any]) -> None:
    noted = copy.deepcopy(usual)
    noted["about"]["notes"] = ["no equal-cost control: net.py:f cannot be widened"]
    assert "Note: no equal-cost control: net.py:f cannot be widened." in terminal(noted)
    assert "Note: no equal-cost control: net.py:f cannot be widened." in Reader(page(noted)).seen
