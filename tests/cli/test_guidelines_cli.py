"""foveate guidelines: a network by name with or without `model`, its table, its JSON, its picture, and mistakes."""

import json

import pytest
from command_line import foveate

NET = """
from torch import nn

def net(num_classes):
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 32, 1), nn.Conv2d(32, 32, 3, groups=4))
    return nn.Sequential(wide, nn.BatchNorm2d(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))
"""


def test_the_guidelines_of_a_network_as_table_json_and_picture(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    small = ["net.py:net", "--image-size", 32, "--num-classes", 10, "--seconds", 0]
    answer = foveate("guidelines", "model", *small, "--picture", "places.svg", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "G1 unequal widths: 1 of 1 1×1 convolutions" in answer.stdout
    assert "8 → 32 on 30×30" in answer.stdout
    assert "4 groups, 3×3, 32 → 32 on 28×28" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 100
    assert "G3 fragments: none" in (tmp_path / "places.svg").read_text()
    found = json.loads(foveate("guidelines", *small, "--no-measure", "--json", cwd=tmp_path).stdout)
    assert [place["guideline"] for place in found["places"]] == ["G1", "G2", "G4", "G4"]
    assert found["places"][0]["elements"] == 900 * 40 + 8 * 32
    assert found["latency_ms"] is None
    assert found["machine"]["gmacs_s"] > 0


def test_help_names_both_uses():
    answer = " ".join(foveate("guidelines", "--help").stdout.split())
    assert "Example: foveate guidelines timm:resnet50" in answer
    assert "Example: foveate guidelines model" in " ".join(foveate("guidelines", "model", "--help").stdout.split())


MISTAKES = [
    (["timm:resnet5O"], "did you mean 'resnet50"),
    (["foveate:resnet8", "--device", "cuda:77"], "wanted one of this machine's"),
    (["foveate:resnet8", "--picture", "places.jpg"], "ends in .png or .svg"),
    (["foveate:resnet8", "--picture", "no/such/places.svg"], "no folder no/such"),
    (["study", "--out", "file.txt"], "wanted a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes_about_guidelines_are_one_line_and_status_2(arguments, message, tmp_path):
    (tmp_path / "file.txt").write_text("")
    answer = foveate("guidelines", *arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"], "nothing half written"
