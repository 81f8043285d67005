"""foveate sites, cost, latency, roofline and guidelines on signals, clips, detectors and grey images."""

import json

import pytest
from test_calibrate_cli import CALIBRATION
from typer.testing import CliRunner

from foveate.cli import app
from foveate.networks import usual_classes, usual_shape

NETWORKS = {  # name → flags that make it small, and the shape of its sample then
    "foveate:drsn_cw_1d_6": ([], (1, 2048)),
    "torchvision:r3d_18": (["--shape", "3,4,32,32", "--num-classes", "5"], (3, 4, 32, 32)),
    "torchvision:ssdlite320_mobilenet_v3_large": (["--num-classes", "3"], (3, 320, 320)),
    "foveate:capsnet": ([], (1, 28, 28)),
}
USUAL = {
    "foveate:drsn_cw_1d_6": ((1, 2048), 8),
    "foveate:capsnet": ((1, 28, 28), 10),
    "foveate:resnet8": ((3, 32, 32), 10),
    "torchvision:r3d_18": ((3, 16, 112, 112), 400),
    "torchvision:ssdlite320_mobilenet_v3_large": ((3, 320, 320), 91),
    "torchvision:inception_v3": ((3, 299, 299), 1000),
    "torchvision:fcn_resnet50": ((3, 520, 520), 21),
    "torchvision:vit_h_14": ((3, 224, 224), 1000),
    "timm:vit_base_patch16_384": ((3, 384, 384), 1000),
    "mine.py:net": ((3, 224, 224), 1000),
}


@pytest.mark.parametrize("name", USUAL)
def test_a_network_is_shown_what_it_was_published_for(name):
    assert (usual_shape(name), usual_classes(name)) == USUAL[name]


def answer(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", NETWORKS)
def test_sites_have_the_axes_of_the_sample(name):
    flags, shape = NETWORKS[name]
    found = json.loads(answer("sites", name, *flags, "--json"))
    assert {site["kind"] for site in found} == {"block", "stage"}
    assert {len(site["shape"]) for site in found} == {len(shape) - 1}
    added = json.loads(answer("sites", name, *flags, "--attention", "eca", "--json"))
    assert added
    assert all(place["parameters"] > 0 for place in added)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_counted_and_measured(name):
    flags, shape = NETWORKS[name]
    found = json.loads(answer("cost", name, *flags, "--attention", "eca", "--seconds", 0, "--json"))
    assert found["none"]["about"]["shape"] == [1, *shape]
    assert 0 < found["none"]["macs"] < found["eca"]["macs"]
    assert found["none"]["parameters"] < found["eca"]["parameters"]
    assert found["eca"]["latency_ms"]["median"] > 0
    assert found["eca"]["peak_mib"] > 0
    assert found["eca"]["activation_bytes"] > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_latencies_are_predicted(name, tmp_path):
    CALIBRATION.save(tmp_path / "cpu.json")
    flags, _ = NETWORKS[name]
    asked = ["latency", name, *flags, "--attention", "eca", "--calibration", tmp_path / "cpu.json"]
    found = {one["name"]: one["ms"] for one in json.loads(answer(*asked, "--json"))}
    assert 0 < found[name] < found[f"{name} + eca"]


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_stand_under_a_roof(name):
    flags, shape = NETWORKS[name]
    found = json.loads(answer("roofline", name, *flags, "--attention", "eca", "--seconds", 0, "--json"))
    assert found["about"].startswith(f"{name} with eca, batch 1 of {'×'.join(map(str, shape[1:]))}, on ")
    assert sum(found["where_inserted"].values()) < sum(found["where"].values())
    assert any(point["inserted"] for point in found["points"])


@pytest.mark.parametrize("name", NETWORKS)
def test_guidelines_are_read(name):
    flags, _ = NETWORKS[name]
    found = json.loads(answer("guidelines", "model", name, *flags, "--no-measure", "--json"))
    assert found["launches"] > 0
    assert any(place["guideline"] == "G4" for place in found["places"])


def test_a_networks_own_size_stands_for_what_the_flags_leave_open():
    found = json.loads(answer("sites", "torchvision:r3d_18", "--image-size", 32, "--at", "stage", "--json"))
    assert found[0]["shape"] == [16, 16, 16]  # 16 frames, as published
    assert json.loads(answer("sites", "foveate:resnet8", "--channels", 1, "--json"))[0]["shape"] == [32, 32]


MISTAKES = [
    (["--image-size", 1_000_000], "shape: wanted at most 2,147,483,648 numbers in a batch"),
    (["--channels", 100_000_000], "shape: wanted at most 2,147,483,648 numbers in a batch"),
    (["--shape", "3"], "shape: wanted C and 1 to 3 sides, each at least 1; got 3"),
    (["--shape", "3,0,2"], "shape: wanted C and 1 to 3 sides, each at least 1; got 3,0,2"),
    (["--shape", "3,a,2"], "--shape: wanted whole numbers such as 3,224,224; got '3,a,2'"),
    (["--shape", "3,8,8", "--image-size", 8], "goes without --image-size and --channels"),
]


@pytest.mark.parametrize("command", ["sites", "cost", "latency", "roofline", "guidelines"])
@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=[" ".join(map(str, flags)) for flags, _ in MISTAKES])
def test_a_size_that_cannot_be_is_one_line_before_anything_is_built(command, flags, message, tmp_path):
    CALIBRATION.save(tmp_path / "cpu.json")
    more = ["--calibration", tmp_path / "cpu.json"] if command == "latency" else []
    with pytest.raises(ValueError) as error:
        answer(command, "foveate:resnet8", *flags, *more)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_of_a_file_has_the_channels_of_the_sample_and_a_peak_in_every_variant(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self, num_classes, in_chans):\n        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(in_chans, 32, 3), nn.Linear(32, num_classes)\n\n"
        "    def forward(self, x):\n        return self.b(self.a(x).relu().mean((2, 3)))\n\n\n"
        "def net(num_classes, in_chans=3):\n    return Net(num_classes, in_chans)\n"
    )
    asked = ["cost", f"{tmp_path}/net.py:net", "--attention", "se", "--at", "a", "--shape", "1,32,32", "--seconds", 0]
    found = json.loads(answer(*asked, "--num-classes", 4, "--json"))
    assert found["none"]["parameters"] == 32 * 9 + 32 + 32 * 4 + 4
    assert all(row["peak_mib"] > 0 for row in found.values()), [row["notes"] for row in found.values()]
