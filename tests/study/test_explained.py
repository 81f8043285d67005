"""Where the maps of a study's networks lie is a metric of the study; foveate explain shows them for new images."""

import json
import sys

import numpy as np
import pytest
from in_process import run, small
from PIL import Image

import foveate
from foveate.cli import main
from foveate.data.digits import scattered_digits
from foveate.explaining import Explaining
from foveate.items import read_items
from foveate.spec import DataSpec
from foveate.study import summarise
from foveate.study.gallery import draw_gallery
from foveate.study_file import check_study, read_study, study_toml


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of plain and CBAM whose verdict is about the energy inside the digit."""
    folder = tmp_path_factory.mktemp("explained")
    study = small("cbam", metric="energy inside", explain=Explaining(sanity=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveate.study.measured_costs.LATENCY_ROUNDS", 4)
        assert run(study, folder / "study").failed == ()
    images = scattered_digits(3, split="test")["images"]
    (folder / "new" / "more").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "new" / ("more" if number else "") / f"{number}.png")
    return folder


@pytest.fixture
def command(folder, monkeypatch, capsys):
    def run_command(*words):
        monkeypatch.setattr(sys, "argv", ["foveate", "explain", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run_command


def test_where_maps_lie_is_judged_as_other_metrics_are(folder):
    summary = summarise(folder / "study")
    assert summary.metric.name == "energy inside"
    names = [metric.name for metric in summary.metrics]
    assert {"accuracy", "pointing game", "coverage", "map IoU", "true class probability"} <= set(names)
    cbam = summary.arm("cbam")
    assert 0 < cbam.estimates["energy inside"].mean < 1
    assert cbam.against_plain is not None
    chance = "maps that know nothing reach: pointing game, a random position"
    assert any(chance in note for note in summary.about["notes"])
    paths = list((folder / "study" / "runs").glob("*/items.npz"))
    assert len(paths) == 2
    for path in paths:
        items, values = read_items(path)
        assert values["coverage"].shape == (len(items),) == (40,)
        assert np.isfinite(values["energy inside"]).all()
    assert read_study(folder / "study" / "study.toml").explain == Explaining(sanity=4)
    assert "explain = {" in study_toml(read_study(folder / "study" / "study.toml"))


def test_maps_scores_and_gates_of_new_images_are_written(folder, command):
    out = folder / "out"
    status, printed, told = command(folder / "new", "--run", f"{folder}/study:cbam:0", "--out", out, "--json")
    assert status == 0, told
    answer = json.loads(printed)
    assert [one["picture"] for one in answer["images"]] == ["0.png", "more/1.png", "more/2.png"]
    first, plain = answer["images"][0]["networks"]
    assert (first["network"], plain["network"]) == ("cbam, seed 0", "none, seed 0")
    assert first["class"] == plain["class"]  # the same target
    assert 0 < first["score"] < 1
    assert "layer3.0.bn2: spatial" in first["gates"]
    with np.load(out / "more" / "1.npz") as kept:
        assert kept["map"].shape == kept["map 2"].shape == (32, 32)
        assert kept["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        assert kept["layer3.0.bn2: channel"].shape == (64,)
    with Image.open(out / "0.png") as drawn:
        assert drawn.width > 8 * 160  # the image, two maps, six gates
    assert json.loads((out / "explain.json").read_text())["images"] == answer["images"]


def test_a_saved_network_is_shown_with_and_without_its_attention(folder, command):
    file = foveate.save(foveate.load(folder / "study", arm="cbam", seed=0), folder / "cbam.safetensors")
    shown = ("--beside", "removed", "--target", "3", "--layer", "layer2", "--out", folder / "beside")
    status, printed, told = command(folder / "new" / "0.png", "--network", file, *shown)
    assert status == 0, told
    assert "without its attention: 3" in printed
    assert "layer2" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--run", "{study}:cbam", "--layer", "layr3"), "no layer is called 'layr3'; did you mean 'layer3'"),
        (("--run", "{study}:cbam", "--method", "gradcan"), "no method is called 'gradcan'; did you mean 'gradcam'"),
        (("--run", "{study}:cbam", "--target", "seven"), "no class is called 'seven'"),
        (("--run", "{study}:cbam", "--method", "rollout"), "computes no attention between tokens"),
        (("--run", "{study}:none", "--beside", "removed"), "no attention is inserted in it"),
        (("--run", "{study}:cbam", "--point", "5,5"), "wanted y,x in shares of the image, 0 to 1"),
        ((), "wanted --run DIR or --network NAME"),
    ],
)
def test_mistakes_are_one_line_and_status_2(folder, command, words, message):
    words = [word.format(study=folder / "study") for word in words]
    status, _, told = command(folder / "new" / "0.png", *words, "--out", folder / "never")
    assert status == 2
    assert message in told
    assert len(told.strip().splitlines()) == 1


def test_a_network_without_attention_is_said_to_have_none(folder, command):
    status, _, told = command(folder / "new" / "0.png", "--run", f"{folder}/study:none", "--out", folder / "plain")
    assert status == 0
    assert "has no attention of its own that is recorded: the map alone is shown" in told


def test_mistakes_in_the_table_are_named(tmp_path):
    with pytest.raises(ValueError, match="no method 'gradcan'; did you mean 'gradcam'"):
        check_study({"explain": {"method": "gradcan"}})
    with pytest.raises(ValueError, match=r"unknown key 'explain.treshold'; did you mean 'threshold'"):
        check_study({"explain": {"treshold": 0.3}})
    study = small("se", explain=Explaining(curves=True), task="detection", data=DataSpec(kind="digit_boxes"))
    with pytest.raises(ValueError, match="explain.curves: they follow the probability of a class"):
        run(study, tmp_path / "study")


@pytest.mark.slow
def test_detectors_are_explained_in_a_study_and_have_a_gallery(tmp_path):
    options = {"size": 64, "score_thresh": 1e-4}
    study = small(
        {"attention": "se", "at": "head"},
        network="torchvision:ssdlite320_mobilenet_v3_large",
        network_options=options,
        task="detection",
        data=DataSpec(kind="digit_boxes", size=64, train_items=24, test_items=8),
        explain=Explaining(),
    )
    summary = run(study, tmp_path / "study")
    assert 0 <= summary.arms[1].estimates["coverage"].mean <= 1
    (cases,) = draw_gallery(tmp_path / "study", summary).values()
    assert {case["sort"] for case in cases} >= {"right", "wrong"}
    with Image.open(cases[0]["picture"]) as drawn:
        assert drawn.width > 4 * 160  # both answers, both maps, gates
