"""Networks by name, from every source; the plain network widened; paired weights."""

import pytest
import torch
from torch import nn

import foveate
from foveate.networks import build_network, build_wider, input_channels, widen_until
from foveate.networks._widen import Fixed, widened
from foveate.spec import DataSpec, Run, Training, Variant
from foveate.study.build import build_variant


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018), ("resnet110", 1_727_962)]
)
def test_cifar_networks_have_the_papers_size(name, parameters):
    # the published 0.27 M, 0.85 M and 1.7 M; digits by 2·9·(16² … ) for option A shortcuts
    assert sum(p.numel() for p in foveate.create_network(name, num_classes=10).parameters()) == parameters


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (4, 4)], ids=str)
@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_cifar_networks_take_any_size(size, shortcut):
    network = foveate.create_network("resnet8", num_classes=7, in_channels=1, shortcut=shortcut).eval()
    assert network(torch.randn(2, 1, *size)).shape == (2, 7)


def test_resnet20_reproduces_published_accuracy(shared):
    """The released CIFAR ResNet-20, on 1,000 test images; its README measured 91.73 % on all 10,000."""
    import io

    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow for the CIFAR-10 pack")
    import numpy as np
    from PIL import Image

    path = shared / "data/weights/cifar10_resnet20-12fca82f.th"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {k.removeprefix("module.").replace("linear.", "fc."): v for k, v in state.items()}
    network = foveate.create_network("resnet20", num_classes=10).eval()
    network.load_state_dict(state, strict=True)
    rows = pq.read_table(shared / "data/cifar10/test-00000-of-00001.parquet").slice(0, 1000).to_pylist()
    images = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    labels = torch.tensor([row["label"] for row in rows])
    with torch.inference_mode():
        accuracy = (network(x).argmax(1) == labels).double().mean().item()
    assert 0.905 <= accuracy <= 0.935


def test_names_of_every_source(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef tiny(num_classes, in_channels=3, width=4):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(in_channels, width, 3), torch.nn.Flatten(),"
        " torch.nn.LazyLinear(num_classes))\n\ndef wrong(num_classes):\n    return 3\n"
    )
    assert isinstance(build_network("torchvision:resnet18", num_classes=5), nn.Module)
    assert build_network("timm:resnet18", num_classes=5, in_channels=1).conv1.in_channels == 1
    assert build_network("resnet8", num_classes=5).fc.out_features == 5
    assert build_network(f"{tmp_path}/mine.py:tiny", num_classes=5, in_channels=1, width=6)[0].weight.shape[:2] == (
        6,
        1,
    )
    with pytest.raises(ValueError, match="must return a torch.nn.Module; got int"):
        build_network(f"{tmp_path}/mine.py:wrong", num_classes=5)
    with pytest.raises(LookupError, match="did you mean 'tiny'"):
        build_network(f"{tmp_path}/mine.py:tini", num_classes=5)
    with pytest.raises(TypeError, match="did you mean 'width'"):
        build_network(f"{tmp_path}/mine.py:tiny", num_classes=5, widht=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foveate:resnet9", "did you mean 'resnet"),
        ("timm:resnet5O", "did you mean 'resnet50"),
        ("torchvision:resnet19", "did you mean 'resnet1"),
        (
            "hub:resnet50",
            "wanted foveate:NAME, timm:NAME, torchvision:NAME, smp:NAME, hf:NAME or path.py:function; got source 'hub'",
        ),
        ("nowhere.py:net", "no such file"),
    ],
)
def test_a_wrong_name_names_the_nearest(name, message):
    with pytest.raises(LookupError, match=message):
        build_network(name, num_classes=3)


@pytest.mark.parametrize(
    "name", ["foveate:resnet8", "torchvision:resnet18", "timm:resnet26d", "torchvision:mobilenet_v2"]
)
def test_a_widened_network_is_the_same_network_wider(name):
    before = nn.Conv2d.__init__
    with torch.device("meta"):
        plain = build_network(name, num_classes=10)
        wide = build_wider(name, 1.25, num_classes=10, in_channels=3)
    assert nn.Conv2d.__init__ is before
    assert wide(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 10)
    ratio = sum(p.numel() for p in wide.parameters()) / sum(p.numel() for p in plain.parameters())
    assert 1.25 < ratio < 1.25**2 * 1.02
    assert wide.state_dict().keys() == plain.state_dict().keys()


def test_widening_leaves_torch_as_it_was_also_on_error():
    before = nn.Linear.__init__
    with pytest.raises(KeyError), widened(2.0, in_channels=3, fixed=Fixed()):
        raise KeyError
    assert nn.Linear.__init__ is before


def test_a_function_of_a_file_is_run_once_and_gets_the_channels_that_it_takes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from pathlib import Path\nfrom torch import nn\n\nwith Path(__file__).with_suffix('.log').open('a') as log:\n"
        "    log.write('run\\n')\n\n"
        "def free(num_classes, in_chans=3):\n    return nn.Conv2d(in_chans, num_classes, 1)\n\n"
        "def fixed(num_classes):\n    return nn.Conv2d(3, num_classes, 1)\n"
    )
    assert input_channels(f"{path}:free", 1) == 1
    assert input_channels(f"{path}:fixed", 1) == 3
    assert [input_channels(name, 1) for name in ("resnet8", "timm:resnet18", "torchvision:resnet18")] == [1, 1, 3]
    assert build_network(f"{path}:free", num_classes=2, in_channels=1).in_channels == 1
    assert build_network(f"{path}:fixed", num_classes=2, in_channels=1).in_channels == 3
    assert type(build_network(f"{path}:free", num_classes=2)) is nn.Conv2d
    assert path.with_suffix(".log").read_text() == "run\n"


def test_the_smallest_width_that_is_enough():
    assert widen_until(lambda w: w >= 1.2) == 1 + 13 / 64
    assert widen_until(lambda w: True) == 1 + 1 / 64
    assert widen_until(lambda w: False) is None


def test_the_same_seed_gives_every_variant_the_same_plain_weights():
    def build(attention, seed):
        run = Run(
            network="foveate:resnet8",
            variant=Variant(attention=attention),
            data=DataSpec(),
            train=Training(),
            seed=seed,
        )
        return build_variant(run, num_classes=10, in_channels=1, example=torch.zeros(2, 1, 32, 32)).state_dict()

    state = torch.get_rng_state()
    plain, se, cbam, other = build("none", 3), build("se", 3), build("cbam", 3), build("none", 4)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in plain.items():
        assert torch.equal(value, se[key])
        assert torch.equal(value, cbam[key])
    assert len(se) > len(plain)
    assert not torch.equal(plain["conv1.weight"], other["conv1.weight"])


def test_no_weights_are_downloaded_for_a_backbone(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with torch.device("meta"):
        build_network("torchvision:lraspp_mobilenet_v3_large", num_classes=3)
    assert not list(tmp_path.rglob("*.pth*"))
