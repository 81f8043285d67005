"""What detectors find beside their metrics, on the page: tables by class, curves of precision by recall, confusion."""

from dataclasses import replace
from pathlib import Path

from report_studies import LOSS, make_summary

from foveate.report import write_report
from foveate.report.numbers import further_baselines
from foveate.report.page import page
from foveate.spec import Metric
from foveate.summary import ArmDetails, Summary, arm_details

CURVE = [1.0] * 51 + [0.5] * 25 + [0.0] * 25


def detailed() -> Summary:
    others = (Metric("energy", "J"), Metric("energy of (cat)", "J", of="cat"))
    summary = make_summary({"se": 0.01}, others=others, control=False)
    run = {
        "confused": ["<i>cat", "background"],
        "confusion": [[3, 1], [2, 0]],
        "curves": {"<i>cat": CURVE},
        "findings": [],
    }
    details = tuple(arm_details(label, {0: run, 1: run}) for label in ("none", "se"))
    return replace(
        summary, details=details, about=summary.about | {"baseline": "mean boxes", "chance": {"energy": 0.02}}
    )


def test_runs_of_an_arm_are_added_and_averaged() -> None:
    first = {"confused": ["a", "b"], "confusion": [[1, 2], [3, 4]], "curves": {"a": [1.0, 0.0]}, "findings": ["odd"]}
    second = {"confused": ["a", "b"], "confusion": [[1, 0], [0, 0]], "curves": {"a": [0.5, 0.5]}, "findings": []}
    found = arm_details("se", {3: first, 5: second})
    assert found == ArmDetails("se", (3, 5), ("a", "b"), ((2, 2), (3, 4)), {"a": (0.75, 0.25)}, ("odd (1 of 2 seeds)",))
    assert found.mean_curve == (0.75, 0.25)
    assert arm_details("se", {}).mean_curve == ()


def test_metrics_of_classes_make_a_table_of_their_own_and_no_curves() -> None:
    text = page(detailed())
    others, parts = text.index('id="others"'), text.index('id="parts"')
    assert text.index("energy of (cat)") > parts > others
    assert "test_energy of (cat)" not in text
    assert "Baseline, mean boxes: energy 0.0200 J." in text
    assert 'id="parts"' not in page(make_summary({"se": 0.01}, control=False))


def test_curves_and_confusion_are_drawn_and_what_users_write_stays_text(tmp_path: Path) -> None:
    folder = write_report(detailed(), tmp_path).parent
    assert {"precision_recall.svg", "precision_recall.png"} <= {file.name for file in folder.iterdir()}
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "none: 100 % precision at a recall of 50 %." in text
    assert "What se takes for what" in text
    assert "<td>&lt;i&gt;cat</td><td>6</td><td>2</td>" in text
    assert "<i>cat" not in text


def test_arms_are_held_against_further_baselines_by_their_intervals() -> None:
    baselines = {"a low one": {"mIoU": 0.2}, "a high one": {"mIoU": 0.99}, "of another metric": {"loss": 0.1}}
    summary = make_summary({"se": 0.01}, seeds=5, control=False, others=(LOSS,), further_baselines=baselines)
    low, high, other = further_baselines(summary)
    assert low.endswith("mIoU 20.0 %. In mIoU, by intervals over seeds: none, se better")
    assert high.endswith("mIoU 99.0 %. In mIoU, by intervals over seeds: none, se worse")
    assert other.startswith("Baseline, of another metric: loss")
    assert "intervals" not in other
