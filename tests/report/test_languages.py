"""The page in Chinese: every text of it stands in the catalogue, and names stay as they are."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest
from report_studies import PIXEL, STUDIES, make_summary
from test_report import Reader

from foveate.published import Published
from foveate.report import write_report
from foveate.report.languages import FOOT, catalogue, translated
from foveate.report.page import names_of, page
from foveate.spec import Metric
from foveate.study.analyse.null_check import null_check
from foveate.study.tuning import tuning
from foveate.summary import AttentionFound, ClassFound, MachineFound, Score, Span, Summary, Times, arm_details
from foveate.summary.robustness import corrupted_row, corrupted_scores

NOTES = [
    "maps that know nothing reach: pointing game, a random position 6.9 %; energy inside, a map without structure "
    "6.9 %",
    "se: one hidden unit at 3 of 9 sites, of 16 channels; a gate whose only unit is off for every item gets no "
    "gradient (reduction = 4 gives it 4)",
    "the strength of an identity start, 0 at first, has the learning rate 0.1: se",
]


def whole() -> Summary:
    """A study with the sections that only some have."""
    roofs = {"gmacs_s": 50.0, "cache_gb_s": 40.0, "memory_gb_s": 10.0}
    case = {"sort": "gained", "item": "7.png", "plain": 0.0, "variant": 1.0, "picture": PIXEL}
    gallery = {"se": [case, case | {"sort": "lost"}, case | {"sort": "right"}, case | {"sort": "wrong"}]}
    usual = make_summary({"se": 0.01}, roofs=roofs, gallery=gallery, examples={"se": [PIXEL]}, items=20)
    run = {"confused": ["ant", "bee"], "confusion": [[3, 1], [0, 4]], "findings": []}
    run["curves"] = {name: [1 - step / 100 for step in range(101)] for name in ("ant", "bee")}
    state = AttentionFound(
        3, 3, Span(0.1, 0.1, 0.2), Span(0.5, 0.1, 0.9), 9, 1, 20, 2, 0.25, False, "0.1 (0.1 to 0.2)", ""
    )
    arms = [
        replace(
            arm,
            attention=state if arm.label == "se" else None,
            cost=replace(arm.cost, bytes_moved=10**7, elementwise=10**6, reductions=10**5, activation_bytes=10**7),
        )
        for arm in usual.arms
    ]
    se = usual.arm("se")
    assert se.score is not None
    assert se.against_plain is not None
    runs = {
        f"{arm.label} {lr}": {"arm": arm.label, "seed": 0, "state": "done", "spec": json.dumps({"train": {"lr": lr}})}
        for arm in arms
        for lr in (0.01, 0.1)
    }
    scores = {key: 0.5 + place / 100 for place, key in enumerate(runs)}
    by_class = ClassFound("ant", Metric("recall"), {"none": se.score, "se": se.score}, {"se": se.against_plain})
    return replace(
        usual,
        arms=tuple(arms),
        published=Published(
            source="Some paper, Table 1",
            setting="its network on its data",
            columns=("top-1 error, %", "parameters, M"),
            rows={"none": (24.56, 25.6), "se": (23.14,)},
            note="Its own words, of its own.",
        ),
        machines=(
            MachineFound("A board, some runtime, 1 thread", "measured", {"se": Times(2, 1, 3)}, {"se": 2.0}, 0.5),
        ),
        by_class=(by_class,),
        details=(arm_details("none", {0: run}), arm_details("se", {0: run})),
        corrupted=corrupted_scores(usual.metric, [Score("se", 0, corrupted_row("accuracy", "motion_blur", 3), 0.5)]),
        tuning=tuning(["lr"], runs, scores, usual.metric, 1000),
        null_check=null_check([0.5 + run / 100 for run in range(40)]),
        about=usual.about
        | {"notes": NOTES, "chance": {"accuracy": 0.1}, "baseline": "always giving the most frequent class"},
    )


@pytest.mark.parametrize("study", [name for name in STUDIES if name not in ("many", "two seeds", "two epochs")])
def test_every_text_of_the_page_has_a_translation(study: str) -> None:
    check(make_summary(**STUDIES[study]))


def test_sections_that_only_some_studies_have_are_translated() -> None:
    summary = whole()
    english = check(summary)
    for place in (
        "gallery",
        "attention",
        "confusion",
        "classes",
        "items",
        "examples",
        "tuning",
        "corrupted",
        "null-check",
        "precision-recall",
        "published",
        "machines",
        "convergence",
    ):
        assert f'<h2 id="{place}"' in english
    assert 'aria-labelledby="cost-roofline-title' in english


def check(summary: Summary) -> str:
    """A page of the same elements, in which only names are English; returns the English page."""
    english = page(summary)
    html, missing = translated(english, "zh", names_of(summary))
    assert missing == []
    read, before = Reader(html), Reader(english)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in before.tags]
    assert dict(read.tags[0][1])["lang"] == "zh-CN"
    seen = re.sub(r"<pre>.*?</pre>", "", html, flags=re.DOTALL)
    seen = re.sub(r"<style>.*?</style>|<[^>]*>", "\n", seen, flags=re.DOTALL)
    seen = unescape(seen)
    for name in sorted(filter(None, names_of(summary)), key=len, reverse=True):
        seen = seen.replace(name, "")
    assert [line for line in seen.splitlines() if re.search(r"\b[a-z]{3,} [a-z]{3,}\b", line)] == []
    return english


def test_what_has_no_translation_stays_english_and_is_said() -> None:
    body = "<p>Results</p><p>A new sentence of ours.</p><pre>Results</pre><footer>Costs</footer>"
    html = f'<html lang="en">{body}</html>'
    found, missing = translated(html, "zh")
    assert missing == ["A new sentence of ours."]
    assert '<p>结果</p><p><span lang="en">A new sentence of ours.</span></p><pre>Results</pre>' in found
    assert catalogue("zh").exact[FOOT] in found
    assert translated(html, "en") == (html, [])


def test_names_and_markup_of_users_are_left_alone(hostile: Summary) -> None:
    html = page(hostile, language="zh")
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "<img src=http" not in html


def test_another_language_is_refused_before_anything_is_written(usual: Summary, tmp_path) -> None:
    with pytest.raises(ValueError, match="--lang: wanted en or zh; got 'de'"):
        write_report(usual, tmp_path / "report", "de")
    assert not (tmp_path / "report").exists()
    assert 'lang="zh-CN"' in write_report(usual, tmp_path / "report", "zh").read_text(encoding="utf-8")
