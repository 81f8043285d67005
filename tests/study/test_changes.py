"""What may change in a folder: seeds, variants, places of files; not data, code or the direction of a metric."""

import shutil

import pytest
from in_process import InProcess, run, small

from foveate.data import make_embedded
from foveate.items import read_items
from foveate.spec import DataSpec, Metric, Training
from foveate.store import Store
from foveate.study import run_study, status
from foveate.study.user_code import code_files, code_fingerprint

OWN = """import torch
from torch import nn

from foveate import Metric


def train(model, context):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in context.batches(0):
        context.loss(model, batch).backward()
    optimizer.step()
    return {"error": 2.0 + context.seed}
"""


def rows(folder):
    store = Store(folder / "results.db", read_only=True)
    found = {(row["run"], row["metric"]): row["value"] for row in store.metrics() if row["metric"] != "seconds"}
    store.close()
    return found


@pytest.fixture
def photos(tmp_path):
    make_embedded(tmp_path / "photos", 60, test_images=20, image_size=16)
    return tmp_path / "photos"


def photo_study(photos, *variants, **changes):
    return small(*variants, data=DataSpec(source=str(photos), size=16, train_items=40), **changes)


def test_data_that_moved_are_the_same_study_and_changed_data_are_refused(tmp_path, photos):
    run(photo_study(photos), tmp_path / "study")
    before = rows(tmp_path / "study")
    moved = photos.rename(tmp_path / "elsewhere")
    run(photo_study(moved, "se", seeds=2), tmp_path / "study")
    after = rows(tmp_path / "study")
    assert before.items() < after.items()
    assert [one["attempts"] for one in status(tmp_path / "study")["runs"]] == [1, 1, 1, 1]
    next(moved.glob("train/3/*.png")).unlink()
    with pytest.raises(ValueError, match=r"study holds another study \(the data in .*elsewhere changed since") as error:
        run(photo_study(moved, "se", seeds=2), tmp_path / "study")
    assert "\n" not in str(error.value)
    assert rows(tmp_path / "study") == after


def own_study(file, **changes):
    metric = changes.pop("metric", Metric("error", "px", "lower"))
    return small(trainer=f"{file}:train", metric=metric, **changes)


def test_code_that_moved_is_the_same_study_and_changed_code_is_refused(tmp_path):
    (tmp_path / "own_training.py").write_text(OWN)
    run(own_study(tmp_path / "own_training.py"), tmp_path / "study")
    before = rows(tmp_path / "study")
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "own_training.py", tmp_path / "b" / "own_training.py")
    run(own_study(tmp_path / "b" / "own_training.py", seeds=2), tmp_path / "study")
    assert before.items() < rows(tmp_path / "study").items()
    (tmp_path / "b" / "own_training.py").write_text(OWN + "# changed\n")
    with pytest.raises(ValueError, match=r"holds another study \(own_training\.py changed since its runs\)") as error:
        run(own_study(tmp_path / "b" / "own_training.py", seeds=2), tmp_path / "study")
    assert "\n" not in str(error.value)


def test_what_a_file_imports_from_beside_it_is_code_of_the_study(tmp_path):
    (tmp_path / "package").mkdir()
    texts = {
        "own.py": OWN + "\n\ndef later():\n    from helper import value\n",
        "helper.py": "import package.part\nimport own\nvalue = 1\n",
        "package/__init__.py": "",
        "package/part.py": "",
        "unrelated.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    study = own_study(tmp_path / "own.py")
    assert [file.name for file in code_files(study)] == ["own.py", "helper.py", "__init__.py", "part.py"]
    before = code_fingerprint(study)
    template = tmp_path / "package" / "template.py"
    template.write_text("print {{ what }}")
    assert code_files(study)[-1] == template, "what is not valid Python imports nothing"
    template.unlink()
    for name, text in texts.items():
        (tmp_path / name).write_text(text + "# changed\n")
        assert (code_fingerprint(study) == before) == (name == "unrelated.py")
        (tmp_path / name).write_text(text)
    assert code_fingerprint(small()) == ""


def test_a_metric_of_another_direction_than_before_is_refused(tmp_path):
    (tmp_path / "own_direction.py").write_text(OWN)
    run(own_study(tmp_path / "own_direction.py"), tmp_path / "study")
    for metric in (Metric("error", "px", "higher"), Metric("error", "mm", "lower")):
        with pytest.raises(
            ValueError, match=r"another study \(metric 'error': lower is better, in 'px' there; "
        ) as error:
            run(own_study(tmp_path / "own_direction.py", metric=metric), tmp_path / "study")
        assert "\n" not in str(error.value)
    assert run(own_study(tmp_path / "own_direction.py"), tmp_path / "study").metric == Metric("error", "px", "lower")


def test_another_task_network_or_training_is_refused_by_its_first_difference(tmp_path):
    run(small(), tmp_path)
    for changes, message in (
        ({"task": "regression"}, r"task: 'classification' there, 'regression' now"),
        ({"network": "foveate:resnet14"}, r"network: 'foveate:resnet8' there"),
        ({"task_options": {"label_smoothing": 0.1}}, r"task_options.label_smoothing: None there, 0.1 now"),
        ({"train": Training(epochs=2, batch_size=20, optimizer="adamw", lr=0.005)}, r"train.epochs: 1 there, 2 now"),
        ({"items": 50}, r"data.train_items: 60 there, 50 now"),
    ):
        with pytest.raises(ValueError, match=message):
            run(small(**changes), tmp_path)


def test_before_anything_is_finished_the_metric_of_a_study_may_still_change(tmp_path):
    (tmp_path / "own_unfinished.py").write_text(OWN.replace('"error"', '"errror"'))
    first = run(own_study(tmp_path / "own_unfinished.py", metric=Metric("error", "px", "higher")), tmp_path / "study")
    assert len(first.failed) == 1
    (tmp_path / "own_unfinished.py").write_text(OWN)
    import sys

    sys.modules.pop("foveate_user_own_unfinished")
    assert run(own_study(tmp_path / "own_unfinished.py"), tmp_path / "study").failed == ()


def test_another_executor_gives_the_same_rows(tmp_path):
    study = small("se", seeds=2)
    assert run_study(study, tmp_path / "processes").failed == ()
    assert run_study(study, tmp_path / "here", executor=InProcess).failed == ()
    assert rows(tmp_path / "here") == rows(tmp_path / "processes")
    assert len(rows(tmp_path / "here")) == 4 * 4, "accuracy, loss, top5, epochs"


def test_status_says_running_only_while_a_process_works_in_the_folder(tmp_path):
    run(small(), tmp_path)
    store = Store(tmp_path / "results.db")
    key = store.runs()[0]["key"]
    store._db.execute("UPDATE runs SET state = 'running' WHERE key = ?", (key,))  # as a killed coordinator leaves it
    store.close()
    assert status(tmp_path)["states"] == {"done": 0, "running": 0, "todo": 1, "failed": 0}
    from foveate.study.folder import lock_folder

    with lock_folder(tmp_path):
        assert status(tmp_path)["states"] == {"done": 0, "running": 1, "todo": 0, "failed": 0}


@pytest.mark.slow
def test_each_seed_divides_the_photos_anew_and_groups_reach_the_verdict(tmp_path):
    make_embedded(tmp_path / "digits", 60, test_images=30)
    data = DataSpec(source=str(tmp_path / "digits"), size=16, options={"group": r"(\d)\d\.png$"})
    study = small("se", seeds=3, data=data, resplit=True)
    summary = run(study, tmp_path / "out")
    assert summary.setting.overlap == pytest.approx(0.5)
    assert summary.arm("se").against_plain.test == "seeds and divisions"
    assert "new seeds, new divisions and new items" in summary.answer.about
    tested = [set(read_items(path)[0]) for path in (tmp_path / "out" / "runs").glob("*/items.npz")]
    assert len({frozenset(one) for one in tested}) == 3
    with pytest.raises(ValueError, match="resplit: True there, False now"):
        run(study.model_copy(update={"resplit": False}), tmp_path / "out")
    fixed = run(study.model_copy(update={"resplit": False}), tmp_path / "fixed")
    assert fixed.arm("se").against_plain.items == 3
    assert "3 groups of items" in fixed.answer.about
    with pytest.raises(ValueError, match="its test digits are of other writers"):
        run(small("se", seeds=3, resplit=True), tmp_path / "none")
