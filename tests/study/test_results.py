"""A study's folder read back: its summary and where it stands, from rows that no training wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.items import write_items
from foveate.spec import DataSpec, Metric, Run, Study, Training, Variant
from foveate.store import Store
from foveate.study import status, summarise
from foveate.study_file import study_toml
from foveate.summary import Arm, to_json

ERROR = Metric("error", unit="px", better="lower")
ABOUT = {"machine": "a machine", "versions": {"python": "3"}}


def planned(arm: str, seed: int) -> Run:
    variant = Variant.model_validate("se" if arm == "se" else {})
    return Run(arm=arm, network="foveate:resnet8", variant=variant, data=DataSpec(), train=Training(), seed=seed)


def result(value: float, **more: Any) -> dict[str, Any]:
    metrics = [{"name": "error", "unit": "px", "better": "lower", "value": value}]
    metrics.append({"name": "seconds", "unit": "s", "better": "neither", "value": 2.5})
    history = [{"epoch": epoch, "test_error": value + 2 - epoch, "train_loss": 1.0 / epoch} for epoch in (1, 2)]
    return {"metrics": metrics, "history": history, **ABOUT, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two arms, two seeds; the second seed of se has failed, a third was planned once and is no longer."""
    study = Study(variants=(Variant.model_validate("se"),), seeds=(0, 1), control="none", name="where")
    (tmp_path / "study.toml").write_text(study_toml(study))
    store = Store(tmp_path / "results.db")
    runs = {(arm, seed): planned(arm, seed) for arm in ("none", "se") for seed in (0, 1, 2)}
    store.plan(runs.values())
    for (arm, seed), run in runs.items():
        store.start(run.key)
        if (arm, seed) == ("se", 1):
            store.fail(run.key, "the loss is nan at step 3")
            continue
        store.finish(run.key, result(8.0 if arm == "none" else 4.0 + seed))
        (tmp_path / "runs" / run.key).mkdir(parents=True)
        write_items(
            tmp_path / "runs" / run.key / "items.npz",
            ["a", "b"],
            {"error": np.array([8.0, 4.0 if arm == "se" else 8.0])},
        )
        (tmp_path / "runs" / run.key / "examples.png").write_bytes(b"a picture")
        if not run.variant.is_plain:
            (tmp_path / "runs" / run.key / "attention.png").write_bytes(b"another picture")
    store.put_costs([("none", "parameters", 100, None, None, ""), ("none", "latency_ms", 2.0, 1.9, 2.1, "ms")], "m", {})
    store.set_meta("metrics", [ERROR.model_dump()])
    store.set_meta("arms", [to_json(Arm("none", "plain")), to_json(Arm("se", "attention", {"attention": "se"}))])
    store.set_meta("runs", [run.key for (_, seed), run in runs.items() if seed < 2])
    store.set_meta("about", {"name": "digits", "notes": []})
    store.close()
    return tmp_path


def test_the_summary_is_that_of_the_plan_as_it_stands(folder: Path) -> None:
    summary = summarise(folder)
    assert (summary.setting.name, summary.setting.network) == ("where", "foveate:resnet8")
    assert [metric.name for metric in summary.metrics] == ["error", "seconds"]
    assert summary.metrics[1].better == "neither"
    none, se = summary.arms
    assert none.score is not None
    assert none.score.seeds == (0, 1)
    assert (se.failed, se.verdict.word) == ((1,), "too few seeds")
    assert summary.failed[0].error == "the loss is nan at step 3"
    assert (none.cost.parameters, none.cost.latency_ms.median) == (100, 2.0)  # type: ignore[union-attr]
    assert [point.mean for point in summary.curves["se"]["test_error"]] == [5.0, 4.0]
    assert se.items is not None
    assert (se.items.items, se.items.better, se.items.equal) == (2, 1, 1)
    assert summary.about["seconds"] == 7.5
    assert summary.about["machine"] == "a machine"
    assert [[Path(path).name for path in paths] for paths in summary.about["examples"].values()] == [
        ["examples.png"],
        ["examples.png", "attention.png"],
    ]


def test_status_counts_the_runs_of_the_plan(folder: Path) -> None:
    found = status(folder)
    assert found["states"] == {"done": 3, "running": 0, "todo": 0, "failed": 1}
    assert {(run["arm"], run["seed"]) for run in found["runs"]} == {("none", 0), ("none", 1), ("se", 0), ("se", 1)}


def test_runs_that_measured_a_metric_in_another_direction_are_refused(folder: Path) -> None:
    store = Store(folder / "results.db")
    store.set_meta("metrics", [ERROR.model_copy(update={"better": "higher"}).model_dump()])
    store.close()
    with pytest.raises(ValueError, match=r"'error': higher is better, in px; '\w+', seed \d, measured it as lower"):
        summarise(folder)


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted the folder of a study"):
        summarise(tmp_path)
    Store(tmp_path / "results.db").close()
    (tmp_path / "study.toml").write_text(study_toml(Study()))
    with pytest.raises(ValueError, match="the study in it was never planned"):
        summarise(tmp_path)
    assert status(tmp_path)["runs"] == []
