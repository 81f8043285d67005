"""Studies of segmentation and regression: their answer, their scores of items, and their networks used afterwards."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import run, small
from PIL import Image

import foveate
from foveate.data import open_data
from foveate.items import read_items
from foveate.report.table import csv_text
from foveate.spec import Metric, Training
from foveate.store import Store
from foveate.study.evaluation import evaluate_run
from foveate.study.trained import find_run, load_run
from foveate.tasks import create_task

HARD = Training(epochs=3, batch_size=20, optimizer="adamw", lr=0.02)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmented")
    study = small("se", task="segmentation", network="foveate:unet_small", seeds=2, items=100, train=HARD)
    return run(study, folder), folder


@pytest.fixture(scope="module")
def located(tmp_path_factory):
    folder = tmp_path_factory.mktemp("located")
    study = small("se", task="regression", seeds=2, items=100, control="size", controls=("conv", "shuffled"))
    return run(study, folder), folder


def runs_of(folder):
    store = Store(folder / "results.db", read_only=True)
    values = {(row["run"], row["metric"]): row["value"] for row in store.metrics()}
    store.close()
    return values, sorted({run for run, _ in values})


def test_segmentation_ends_with_miou_made_of_the_stored_sums_of_named_items(segmented):
    summary, folder = segmented
    assert summary.metric == Metric("mIoU")
    assert summary.failed == ()
    assert re.search(r"mIoU|differ", summary.answer.text)
    values, keys = runs_of(folder)
    assert len(keys) == 4
    for key in keys:
        names, items = read_items(folder / "runs" / key / "items.npz")
        assert names == tuple(str(number) for number in range(40))
        both, either = items["mIoU.intersection"].sum(0), items["mIoU.union"].sum(0)
        assert (both / either).mean() == pytest.approx(values[key, "mIoU"], rel=1e-12)
        per_item = items["mIoU.intersection"] / items["mIoU.union"].clip(1)
        there = items["mIoU.union"] > 0
        np.testing.assert_allclose(items["mIoU"], (per_item * there).sum(1) / there.sum(1), rtol=1e-6)
        assert items["pixel accuracy"].mean() == pytest.approx(values[key, "pixel accuracy"], rel=1e-6)
    assert len({values[key, "mIoU"] for key in keys}) > 1, "something was learned"
    arm = summary.arm("se")
    assert arm.items.items == 40
    assert arm.items.better + arm.items.worse + arm.items.equal == 40
    assert [one.name for one in summary.by_class] == ["background", "digit"]
    of_class = [one.estimates["se"].mean for one in summary.by_class]
    assert np.mean(of_class) == pytest.approx(arm.score.mean), "the mean of the classes is the mIoU"
    gains = [one.against_plain["se"] for one in summary.by_class]
    assert np.mean([gain.mean for gain in gains]) == pytest.approx(arm.against_plain.mean)
    assert all(gain.items == 40 and gain.text for gain in gains)


def test_regression_is_judged_by_an_error_in_pixels_where_lower_is_better(located):
    summary, folder = located
    assert summary.metric == Metric("error", "px", "lower", "plain")
    assert "px" in summary.answer.text
    values, keys = runs_of(folder)
    for key in keys:
        _, items = read_items(folder / "runs" / key / "items.npz")
        assert items["error"].mean() == pytest.approx(values[key, "error"], rel=1e-6)
        assert 0.5 < values[key, "error"] < 16, "pixels of an image of 32"
    assert summary.arm("se").score.mean == pytest.approx(np.mean(summary.arm("se").score.values))


def test_an_arm_with_half_the_error_is_better_and_one_with_twice_the_error_is_worse(tmp_path):
    study = small("se", "eca", task="regression", seeds=6)

    class Halved:
        """Returns made results: the errors of `se` are half of the plain network's, those of `eca` twice."""

        measures_costs = False

        def __init__(self, folder, jobs):
            pass

        def prepare(self, study):
            return 1

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def finished(self, key):
            return None

        def wait_for_machines(self):
            return False

        def clear(self, key):
            pass

        def work(self, take, tell):
            from foveate.study.executor import WorkerResult

            while (job := take()) is not None:
                factor = {"none": 1, "se": 0.5, "eca": 2}[job.content["arm"]]
                metric = Metric("error", "px", "lower").model_dump(exclude={"shown"})
                value = factor * (3 + 0.01 * job.content["seed"])
                made = {"metrics": [metric | {"value": value}], "history": [], "machine": "m", "versions": {}}
                yield WorkerResult(job.key, result=made)

    summary = foveate.run_study(study, tmp_path, executor=Halved)
    assert summary.arm("se").verdict.word == "better"
    assert summary.arm("se").against_plain.gain == pytest.approx(1.5125)
    assert summary.arm("eca").verdict.word == "worse"
    assert summary.answer.short == "Yes"
    assert "1.51 px" in summary.answer.text
    assert "lower" in summary.answer.text
    assert "points" not in summary.answer.text


def test_a_loaded_network_gives_the_scores_that_the_study_stored_exactly(segmented, located):
    controls = ("conv control of se", "shuffled control of se")
    for (_, folder), arm, seed in ((segmented, "se", 1), *((located, arm, 0) for arm in ("se", *controls))):
        trained = load_run(folder, arm=arm, seed=seed)
        data = open_data(trained.run.data)
        task = create_task(trained.run.task, data)
        meter = task.meter()
        with torch.inference_mode():
            meter.update(foveate.load(folder, arm=arm, seed=seed), data.test.batch(range(40), None).to("cpu"))
        _, stored = read_items(trained.folder / "items.npz")
        for name, values in meter.scores().items.items():
            np.testing.assert_array_equal(values, stored[name], err_msg=name)


def test_controls_are_told_with_what_they_add_and_used_like_any_network(located, tmp_path, command):
    summary, folder = located
    conv, shuffled = "conv control of se", "shuffled control of se"
    se = summary.arm("se")
    assert (se.control, list(se.against_controls)) == (conv, [conv, shuffled])
    assert se.against_control.comparisons == summary.claims == 2, "against plain and against the first control"
    assert se.against_controls[shuffled].word == "descriptive"
    (parameters, macs) = summary.arm(conv).cost_matches
    assert (parameters.matched, parameters.percent, macs.matched) == (True, 0.0, False)
    assert parameters.text == "+791 parameters for +791, 0.0 %"
    assert summary.arm(conv).cost.train_step_ms is not None
    rows = {row["variant"]: row for row in csv.DictReader(csv_text(summary).splitlines())}
    told = [rows[conv][f"control_{name}"] for name in ("form", "of", "match", "added", "mismatch_percent")]
    assert told == ["conv", "se", "parameters", "791", "0.0"]
    assert rows["se"]["control"] == conv
    status, out, err = command("study", "report", folder)
    assert (status, err) == (0, "")
    html = (folder / "report" / "index.html").read_text()
    for text in (" ".join(out.split()), html):
        assert f"{conv}: +791 parameters for +791, 0.0 %; +126,976 multiply-adds for +672." in text
        assert f"se to its {shuffled}: " in text
    images = write_test_images(tmp_path / "images", None)
    status, out, _ = command("predict", images, "--run", f"{folder}:{shuffled}:1", "--json")
    assert (status, json.loads(out)["network"]) == (0, f"{shuffled}, seed 1")
    assert evaluate_run(f"{folder}:{conv}:0").scores.values["error"] == summary.arm(conv).score.values[0]


def test_a_network_that_takes_colour_is_trained_on_grey_images_and_loaded_as_it_was_built(tmp_path):
    (tmp_path / "takes_colour.py").write_text(
        "from torch import nn\n\n\ndef make(num_classes):\n"
        "    body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())\n"
        "    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    se = {"attention": "se", "at": "0", "label": "se"}
    summary = run(small(se, network=f"{tmp_path / 'takes_colour.py'}:make"), tmp_path / "study")
    assert summary.failed == ()
    evaluation = evaluate_run(f"{tmp_path / 'study'}:se")
    assert evaluation.scores.values["accuracy"] == summary.arm("se").score.mean
    assert evaluation.trained.model[0][0].in_channels == 3


def test_arm_and_seed_are_found_or_the_nearest_is_named(located):
    summary, folder = located
    best = min(summary.arms, key=lambda arm: arm.score.mean).label
    assert load_run(folder).run.arm == best, "without an arm the one with the lowest mean error"
    found = find_run(f"{folder}:se:1")
    assert (found.run.arm, found.run.seed) == ("se", 1)
    assert find_run(str(found.folder)).run == found.run
    with pytest.raises(LookupError, match=r"no finished run of the arm 'see'; did you mean 'se'\?"):
        find_run(f"{folder}:see")
    with pytest.raises(LookupError, match=r"no finished run of 'se' with seed 7; finished: \[0, 1\]"):
        find_run(f"{folder}:se:7")
    with pytest.raises(LookupError, match="no finished run of the arm 'se:x'"):
        find_run(f"{folder}:se:x")
    with pytest.raises(ValueError, match="there is no such folder"):
        find_run(f"{folder}x:se")
    with pytest.raises(ValueError, match="arm and seed go with the folder of a study"):
        foveate.load(folder / "nothing.safetensors", arm="se")


def read_value(folder, trained, metric):
    """A metric of a run as the study stored it."""
    values, _ = runs_of(folder)
    return values[trained.folder.name, metric]


def write_test_images(folder, data):
    """The test images as the embedded set draws them, in PNG files named by their numbers."""
    from foveate.data.digits import scattered_digits

    folder.mkdir()
    for number, image in enumerate(scattered_digits(40, 0, 32, "test")["images"]):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


def test_predictions_of_files_agree_with_the_studys_own(located, tmp_path, command):
    _, folder = located
    images = write_test_images(tmp_path / "images", None)
    status, out, err = command("predict", images, "--run", f"{folder}:se:1", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["network"] == "se, seed 1"
    trained = load_run(folder, arm="se", seed=1)
    targets = open_data(trained.run.data).test.batch(range(40), None).targets["centre"].numpy()
    places = np.array([[row["x"], row["y"]] for row in found["predictions"]])
    _, items = read_items(trained.folder / "items.npz")
    np.testing.assert_allclose(np.linalg.norm(places - targets, axis=1), items["error"], rtol=1e-4)
    status, out, _ = command(
        "predict", images, "--run", f"{folder}:se:1", "--out", tmp_path / "p.csv", "--batch-size", 7
    )
    assert status == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [f"{number:02d}.png" for number in range(40)]
    np.testing.assert_allclose([[float(row["x"]), float(row["y"])] for row in rows], places, rtol=1e-4)


def test_masks_of_files_are_written_and_agree_with_the_stored_sums(segmented, tmp_path, command):
    _, folder = segmented
    images = write_test_images(tmp_path / "images", None)
    status, out, err = command("predict", images, "--run", f"{folder}:se:0", "--out", tmp_path / "masks")
    assert (status, err) == (0, "")
    assert "40 files by se, seed 0" in out
    trained = load_run(folder, arm="se", seed=0)
    targets = open_data(trained.run.data).test.batch(range(40), None).targets["mask"].numpy()
    _, items = read_items(trained.folder / "items.npz")
    for number, target in enumerate(targets):
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{number:02d}.png"))
        assert mask.shape == target.shape
        assert [((mask == k) & (target == k)).sum() for k in (0, 1)] == items["mIoU.intersection"][number].tolist()
    rows = list(csv.DictReader((tmp_path / "masks" / "predictions.csv").read_text().splitlines()))
    assert {float(row["share of background"]) + float(row["share of digit"]) for row in rows} == {1.0}
    status, out, _ = command("evaluate", "--run", f"{folder}:se:0", "--json")
    rows = json.loads(out)["metrics"]
    whole = {row["name"]: row["value"] for row in rows}
    assert all(row["interval"][0] < row["value"] < row["interval"][1] for row in rows)
    assert whole["mIoU"] == read_value(folder, trained, "mIoU")
    status, out, _ = command(
        "evaluate", "--run", f"{folder}:se:0", "--window", 24, "--stride", "16,20", "--flip", "--json"
    )
    windows = {row["name"]: row["value"] for row in json.loads(out)["metrics"]}
    assert status == 0
    assert windows["loss"] != whole["loss"]
    status, _, err = command("predict", images, "--run", f"{folder}:se:0", "--out", tmp_path / "low", "--memory", 0.01)
    assert status == 2
    assert re.search(r"memory: wanted \d+ MiB or more for this network; got 0.01", err)
    Image.open(images / "00.png").save(images / "00.bmp")
    status, _, err = command("predict", images, "--run", f"{folder}:se:0", "--out", tmp_path / "again")
    assert status == 2
    assert "wanted one image of this name, for its mask" in err


def test_a_network_that_does_not_fit_the_task_is_refused_before_anything_runs(command):
    for task, network, message in (
        ("segmentation", "foveate:resnet8", r"network foveate:resnet8: wanted a map of logits \(N, 2, …\)"),
        ("classification", "foveate:unet_small", r"network foveate:unet_small: wanted logits \(N, 10\) for 10 classes"),
    ):
        status, _, err = command("study", "run", "--data", "embedded", "--task", task, "--network", network)
        assert status == 2
        assert re.search(message, err)
    status, _, err = command("study", "run", "--data", "embedded", "--task", "segmentation", "--task-option", "los=ce")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "task 'segmentation' has no option 'los'; did you mean 'loss'" in err


def test_mistakes_of_predict_are_one_line(located, tmp_path, command):
    _, folder = located
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no image")
    for arguments, message in (
        ([tmp_path / "empty", "--run", folder], "no image in it"),
        ([tmp_path / "nowhere", "--run", folder], "no such file or folder"),
        ([tmp_path / "broken.png", "--run", folder], "broken.png"),
        ([tmp_path / "broken.png", "--run", f"{folder}:see"], "did you mean 'se'"),
        ([tmp_path / "broken.png"], "wanted --run DIR or --network NAME"),
        ([tmp_path / "broken.png", "--run", folder, "--flip"], "task 'regression' has no option 'evaluation'"),
    ):
        status, out, err = command("predict", *arguments)
        assert (status, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1


def test_training_studies_and_reports_say_nothing_of_classification_alone():
    root = Path(foveate.__file__).parent
    files = [
        path for part in ("train", "study", "report") for path in sorted((root / part).rglob("*")) if path.is_file()
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".j2", ".css", ".js"}}
    assert len(texts) > 30
    found = [str(path) for path, text in texts.items() if re.search(r"accuracy|top-?1", text, re.IGNORECASE)]
    assert not found
