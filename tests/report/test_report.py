"""The report as its readers meet it: files, page, figures, tables."""

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
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from report_studies import PIXEL, STUDIES, make_summary
from rich.console import Console

from foveate.report import numbers, terminal_table, write_report
from foveate.report.page import page
from foveate.report.scatter import on_the_front
from foveate.report.table import by_domain
from foveate.summary import Cost, CostChange, Summary, to_json

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


def terminal(summary: Summary, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(terminal_table(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def files_of(summary: Summary) -> set[str]:
    """Every file that a report of this summary has."""
    figures = ["paired_differences"]
    figures += ["score_latency"] if any(arm.score and arm.cost.latency_ms for arm in summary.arms) else []
    figures += ["curves"] if summary.curves else []
    return {f"{name}.{kind}" for name in figures for kind in ("png", "svg")} | {
        "index.html",
        "table.csv",
        "summary.json",
    }


def test_every_study_gives_every_file(summary: Summary, tmp_path: Path) -> None:
    made = write_report(summary, tmp_path / "report")
    assert made == tmp_path / "report" / "index.html"
    files = files_of(summary)
    assert {path.name for path in made.parent.iterdir()} == files
    wanted = to_json(summary)
    wanted["about"].pop("examples", None)
    assert json.loads((made.parent / "summary.json").read_text()) == wanted
    for name in (name for name in files if name.endswith(".png")):
        with Image.open(made.parent / name) as picture:
            assert picture.width == 1920
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20  # something is drawn
    for name in (name for name in files if name.endswith(".svg")):
        ElementTree.parse(made.parent / name)
    for name in (name for name in files if not name.endswith(".png")):
        text = re.sub(r"base64,[\w+/=]+", "", (made.parent / name).read_text())
        assert not re.search(r"\b(nan|inf|undefined)\b", text.lower().replace("nan at", ""))
        assert not re.search(r"\bNone\b(?! of)", text)
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o644


def test_every_figure_has_a_reading_and_its_numbers(usual: Summary) -> None:
    text = page(usual)
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        assert re.search(r"<figcaption>[A-Za-z][^<]+\. <a download=", figure)
    link = re.search(r'<a download="score_latency.csv" href="data:text/csv;charset=utf-8,([^"]+)"', text)
    assert link is not None
    rows = list(csv.reader(io.StringIO(unquote(link.group(1)))))
    assert rows[0][:2] == ["variant", "mIoU"]
    assert [row[0] for row in rows[1:]] == [arm.label for arm in usual.arms]


def test_pictures_that_would_make_a_page_too_large_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.effect_noise((300, 300), 120).convert("RGB").save(file, "PNG")
    summary = make_summary({"se": 0.01}, examples={"se": [file.getvalue()] * 2, "none": [file.getvalue()]})
    whole = len(page(summary))
    monkeypatch.setattr("foveate.report.page.PICTURES", 20_000)
    assert len(page(summary)) < whole - 2 * 60_000 / 3
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page(summary))
    assert len(found) == 3
    assert sum(map(len, found)) <= 20_000


def test_the_pareto_front_has_those_that_none_beats_in_both() -> None:
    assert on_the_front([(1.0, 5.0), (2.0, 6.0), (0.5, 6.0), (2.0, 7.0)]) == [True, True, False, False]


def test_page_asks_nothing_of_the_network(summary: Summary) -> None:
    read = Reader(page(summary))
    for tag, attributes in read.tags:
        assert tag not in {"script", "iframe", "object", "embed", "video", "audio", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "poster", "data"}:
                assert str(value).startswith(("data:", "#"))
    assert "@import" not in read.styles
    assert "url(" not in read.styles
    assert any("default-src 'none'" in str(attributes.get("content")) for _, attributes in read.tags)


def test_page_says_it_all_in_order(summary: Summary) -> None:
    read = Reader(page(summary))
    heads = re.findall(r'<h2 id="([\w-]+)"', page(summary))
    there = {
        "score-latency": any(arm.score and arm.cost.latency_ms for arm in summary.arms),
        "others": len(summary.metrics) > 1,
        "items": any(arm.items for arm in summary.arms),
        "convergence": any(arm.convergence for arm in summary.arms),
        "learning": bool(summary.curves),
        "examples": bool(summary.about.get("examples")),
        "costs": any(arm.cost.parameters for arm in summary.arms),
        "failed": bool(summary.failed),
    }
    wanted = ["results", "score-latency", "differences", "others", "items", "convergence", "learning", "examples"]
    wanted += ["seeds", "costs", "failed", "again", "definitions"]
    assert heads == [head for head in wanted if there.get(head, True)]
    for text in (summary.answer.question, summary.answer.text, summary.seeds_can_show.text, summary.setting.name):
        assert text in read.seen
    for arm in summary.arms:
        assert arm.label in read.seen
        assert arm.verdict.text[1:] in read.seen or arm.kind == "plain"
    for failed in summary.failed:
        assert failed.error in read.seen
    for other in summary.metrics:
        assert other.name in read.seen
    assert summary.about["command"] in read.seen
    assert summary.about["toml"] in read.seen


def test_figures_are_described_to_those_who_cannot_see_them(usual: Summary) -> None:
    text = page(usual)
    names = re.findall(r'aria-labelledby="([\w-]+-title) ([\w-]+-description)"', text)
    assert len(names) == 4
    for pair in names:
        for name in pair:
            assert text.count(f'id="{name}"') == 1
    assert re.search(r"<desc [^>]*>none: mIoU [\d.]+ % \([\d.]+ to [\d.]+\), latency 1.21 ms", text)


def test_what_users_write_stays_text(hostile: Summary, tmp_path: Path) -> None:
    folder = write_report(hostile, tmp_path).parent
    text = (folder / "index.html").read_text()
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert "<script" not in (folder / "score_latency.svg").read_text()
    assert "[red]eca[/red]" in terminal(hostile)


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "table.csv").read_text().splitlines()))


def test_csv_is_numbers_with_units_in_the_headings(usual: Summary, tmp_path: Path) -> None:
    write_report(usual, tmp_path)
    rows, arm = rows_of(tmp_path), usual.arms[1]
    assert arm.score is not None
    assert arm.against_plain is not None
    assert arm.against_plain.low is not None
    assert arm.cost.latency_ms is not None
    assert [row["variant"] for row in rows] == [one.label for one in usual.arms]
    assert (rows[1]["metric"], rows[1]["better"]) == ("mIoU", "higher")
    assert float(rows[1]["mIoU_mean_percent"]) == pytest.approx(100 * arm.score.mean, abs=1e-5)
    low = 100 * arm.against_plain.low
    assert float(rows[1]["difference_to_plain_low_points"]) == pytest.approx(low, abs=1e-5)
    assert rows[0]["difference_to_plain_mean_points"] == ""
    assert float(rows[1]["latency_ms_median"]) == arm.cost.latency_ms.median


def test_variants_are_grouped_by_what_their_attention_works_on(tmp_path: Path) -> None:
    summary = make_summary({"se": 0.0, "cbam": 0.0, "eca": 0.0, "own": 0.0}, control=False)
    assert [arm.label for arm in by_domain(summary.arms)] == ["none", "se", "eca", "cbam", "own"]
    write_report(summary, tmp_path)
    domains = {row["variant"]: row["domain"] for row in rows_of(tmp_path)}
    assert domains == {"none": "", "se": "channel", "cbam": "mixed", "eca": "channel", "own": ""}
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Works on" in html
    assert html.index(">eca<") < html.index(">cbam<")


def test_csv_has_every_metric_in_its_own_unit(tmp_path: Path) -> None:
    summary = make_summary(**STUDIES["error"])
    write_report(summary, tmp_path)
    row, se = rows_of(tmp_path)[1], summary.arm("se")
    assert se.score is not None
    assert (row["metric"], row["better"]) == ("error", "lower")
    assert float(row["error_mean_px"]) == se.score.mean
    assert float(row["difference_to_plain_mean_px"]) < 0
    assert float(row["loss_mean_nats"]) == se.estimates["loss"].mean
    assert float(row["loss_difference_to_plain_mean_nats"]) == se.descriptive["loss"].mean
    assert float(row["seconds_low_s"]) == se.estimates["seconds"].low
    assert int(row["items_better"]) + int(row["items_worse"]) + int(row["items_equal"]) == 40


def test_csv_runs_no_formula(usual: Summary, tmp_path: Path) -> None:
    arms = (usual.arms[0], replace(usual.arms[1], label="=HYPERLINK(1)"), *usual.arms[2:])
    write_report(replace(usual, arms=arms), tmp_path)
    assert "'=HYPERLINK(1)" in (tmp_path / "table.csv").read_text()


def test_terminal_table_fits_a_hundred_columns(summary: Summary) -> None:
    text = terminal(summary)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text.replace(summary.answer.question, "")
    joined = re.sub(r"\s+", " ", text)
    assert summary.answer.short in joined
    assert summary.metric.name in joined
    assert ("lower is better" in joined) == (summary.metric.better == "lower")
    assert ("mult.-" in text) == any(arm.cost.macs for arm in summary.arms)
    for arm in summary.arms:
        assert arm.label.split(" ")[0][:12] in text
        if arm.score:
            assert numbers.estimate(summary.metric, arm.score)[0] in text


def test_a_lower_error_is_better_wherever_a_person_looks() -> None:
    summary = make_summary(**STUDIES["error"])
    text, read = page(summary), Reader(page(summary))
    assert summary.answer.short == "Yes"
    assert "Down is better, left is faster" in read.seen
    assert "← better: lower error, px" in text
    assert "error on held-out items (px, lower is better)" in text
    assert "so that a negative difference is a gain" in read.seen
    assert "<small>px, ± 95 % interval</small><small>lower is better</small>" in text
    assert "points" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert "nats, lower is better" in read.seen
    assert "s, not judged" in read.seen
    assert re.search(r"Of 40 items \d+ better, \d+ worse, the rest equal \(5 seeds\)", read.seen)
    assert "4,000 training and 1,000 held-out items of 32 × 32 in 10 classes, targets label (class)" in read.seen


def test_what_was_not_measured_has_no_section() -> None:
    read = Reader(page(make_summary(**STUDIES["results from elsewhere"])))
    for word in ("Latency", "Parameters", "Learning curves", "Equal-cost"):
        assert word not in read.seen


def test_every_figure_of_a_table_has_its_heading_on_a_narrow_screen(summary: Summary) -> None:
    for table in re.findall(r'<table class="cards">.*?</table>', page(summary), flags=re.DOTALL):
        for row in re.findall(r"<tr.*?</tr>", table.partition("<tbody>")[2], flags=re.DOTALL):
            first, *rest = re.findall(r"<td([^>]*)>", row)
            assert rest
            assert "data-label" not in first
            assert all('data-label="' in attributes for attributes in rest)


def test_examples_are_shown_on_the_page_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "seen.png").write_bytes(PIXEL)
    examples = {"none": [PIXEL], "se": [str(tmp_path / "seen.png"), str(tmp_path / "gone.png")]}
    summary = make_summary({"se": 0.01}, examples=examples)
    made = write_report(summary, tmp_path / "report")
    pictures = [attributes["src"] for tag, attributes in Reader(made.read_text()).tags if tag == "img"]
    assert len(pictures) == 2
    assert len(set(pictures)) == 1
    assert "examples" not in json.loads((made.parent / "summary.json").read_text())["about"]


def test_a_figure_of_an_earlier_report_does_not_stay(tmp_path: Path) -> None:
    write_report(make_summary({"se": 0.01}), tmp_path)
    assert (tmp_path / "score_latency.png").exists()
    without = make_summary({"se": 0.01}, costs=False, epochs=0)
    write_report(without, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == files_of(without)


def test_written_whole_or_not_at_all(usual: Summary, tmp_path: Path) -> None:
    write_report(usual, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = replace(usual, about={**usual.about, "examples": {"se": [object()]}})
    with pytest.raises(TypeError):
        write_report(broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_report(usual, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before  # drawn again, the same bytes


def test_folder_that_cannot_be_written_is_named(usual: Summary, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").mkdir()
    with pytest.raises(OSError, match="cannot be written") as caught:
        write_report(usual, tmp_path / "report")
    assert str(caught.value.filename).endswith("index.html")
    assert not list((tmp_path / "report").glob(".*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_report(usual, tmp_path / "file" / "report")


def test_not_a_summary_is_said(usual: Summary, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"wanted a foveate\.summary\.Summary; got dict"):
        write_report({}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wanted a summary of schema 3; got 0"):
        write_report(replace(usual, schema=0), tmp_path)


def test_no_measured_cost_still_gives_a_report(usual: Summary, tmp_path: Path) -> None:
    arms = tuple(replace(arm, cost=Cost(), cost_change=CostChange()) for arm in usual.arms)
    summary = replace(usual, arms=arms, curves={}, about={})
    read = Reader(write_report(summary, tmp_path).read_text())
    assert "Paired differences" in read.seen
    assert "Multiply-adds" not in read.seen
    assert "Learning curves" not in read.seen


def test_report_starts_no_torch() -> None:
    alone = "import sys, types; p = types.ModuleType('foveate'); p.__path__ = ['foveate']; sys.modules['foveate'] = p; "
    asked = "import foveate.report; print([name for name in ('torch', 'foveate.study') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", alone + asked], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_page_draws_in_a_browser_without_network(usual: Summary, tmp_path: Path) -> None:
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


def test_what_the_planner_noted_stands_on_the_page_and_in_the_terminal(usual: Summary) -> None:
    noted = replace(usual, about={**usual.about, "notes": ["no equal-cost control: net.py:f cannot be widened"]})
    assert "Note: no equal-cost control: net.py:f cannot be widened." in terminal(noted)
    assert "Note: no equal-cost control: net.py:f cannot be widened." in Reader(page(noted)).seen
