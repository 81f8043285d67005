"""docs/networks.md: a row a network, counted by the code; published figures and sources of weights that exist."""

import importlib.util
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import foveate
from foveate.networks import build_network

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("make_networks", ROOT / "docs" / "make_networks.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
TEXT = made.PAGE.read_text(encoding="utf-8")
AGAIN = "run: python docs/make_networks.py"


def test_every_network_has_its_row():
    names = [match[1] for match in re.finditer(r"^\| `([a-z0-9_]+)` \|", TEXT, re.MULTILINE)]
    assert names == foveate.list_networks(), AGAIN
    assert TEXT.startswith(made.HEAD), AGAIN
    assert TEXT.endswith(made.TAIL), AGAIN


@pytest.mark.parametrize(
    "key", ["resnet20", "ca_mobilenet_v2 width=0.5", "shufflenet_v1 groups=8, width=0.25", "capsnet"]
)
def test_rows_are_what_the_code_counts(key):
    assert made.line(key) in TEXT, AGAIN


@pytest.mark.slow
def test_the_whole_page_is_what_the_code_counts():
    assert made.page() == TEXT, AGAIN


def test_published_figures_are_of_networks_and_places_that_exist():
    names = set(foveate.list_networks())
    for key, (top1, top5, place) in made.PUBLISHED["rows"].items():
        assert key.split(" ")[0] in names
        assert place in made.PUBLISHED["places"]
        assert 40 < top1 < 100
        assert top5 == 0 or top1 < top5 < 100
    for name, (ade20k, cityscapes, _) in made.PUBLISHED["segmentation"].items():
        assert name in names
        assert 35 < ade20k < 60 < cityscapes < 90
    read = {row[2] for table in ("rows", "segmentation") for row in made.PUBLISHED[table].values()}
    assert read == set(made.PUBLISHED["places"])
    sources = {source for source, _ in foveate.official.list_official()}
    for pattern, whose in made.PUBLISHED["weights"].items():
        assert any(fnmatchcase(name, pattern) for name in names)
        assert set(whose.split(", ")) <= sources


def test_networks_of_the_libraries_are_called_so():
    import torch

    named = re.findall(r"`((?:timm|torchvision):[a-z0-9_]+)`", made.TAIL)
    assert len(named) > 20
    with torch.device("meta"):
        for name in ("torchvision:alexnet", "timm:pvt_v2_b0", "torchvision:convnext_tiny"):
            assert name in named
            assert build_network(name, num_classes=3)
    import timm
    import torchvision

    known = {f"timm:{n}" for n in timm.list_models()} | {f"torchvision:{n}" for n in torchvision.models.list_models()}
    assert set(named) <= known
