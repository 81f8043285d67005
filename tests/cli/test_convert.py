"""Official checkpoints to files of ours: real ones with their accuracy, made ones, and what is no checkpoint."""

import io
import json
import sys

import pytest
import torch
from golden import by_rule
from official_keys import network as written_out
from official_keys import norm

import foveate
from foveate.cli import main
from foveate.data import open_data
from foveate.networks import load_weights
from foveate.saving import describe
from foveate.study.build import build_for
from foveate.study.plan import make_plan
from foveate.study_file import check_study
from foveate.tasks import create_task

AKAMASTER = "akamaster/pytorch_resnet_cifar10"


@pytest.fixture
def convert(monkeypatch, capsys):
    """Runs the command in this process; gives its status, what it printed, and what it complained of."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", "convert", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def cifar_accuracy(network, folder, count):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow for the CIFAR-10 pack")
    import numpy as np
    from PIL import Image

    rows = pq.read_table(folder / "cifar10/test-00000-of-00001.parquet").slice(0, count).to_pylist()
    images = np.stack([np.asarray(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    labels = torch.tensor([row["label"] for row in rows])
    with torch.inference_mode():
        found = torch.cat([network(part).argmax(1) for part in x.split(500)])
    return 100 * (found == labels).double().mean().item()


def test_real_weights_keep_their_accuracy(shared, convert, tmp_path):
    file, out = shared / "data/weights/cifar10_resnet20-12fca82f.th", tmp_path / "net.safetensors"
    flags = ["--source", AKAMASTER, "--cls", "resnet20", "--metric", "CIFAR-10 top-1=91.73 %", "--out", out, "--json"]
    status, printed, _ = convert(file, *flags)
    assert status == 0
    facts = json.loads(printed)
    assert facts["network"] == "foveate:resnet20"
    assert facts["parameters"] == 269_722
    assert facts["about"] == describe(out).about
    assert facts["about"]["licence"].startswith("BSD-2-Clause")
    assert facts["about"]["CIFAR-10 top-1"] == "91.73 %"
    network = foveate.load(out)
    assert not network.training
    assert load_weights(foveate.create_network("resnet20"), out) == []
    assert 88 <= cifar_accuracy(network, shared / "data", 300) <= 96


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "file", "accuracy"), [(20, "12fca82f", 91.73), (56, "4bfd9763", 93.39)])
def test_real_weights_give_the_published_accuracy(depth, file, accuracy, shared, convert, tmp_path):
    out = tmp_path / "net.safetensors"
    path = shared / f"data/weights/cifar10_resnet{depth}-{file}.th"
    assert convert(path, "--source", AKAMASTER, "--cls", f"resnet{depth}", "--out", out)[0] == 0
    assert round(cifar_accuracy(foveate.load(out), shared / "data", 10_000), 2) == accuracy


def made(shapes):
    entries = [
        (key, list(shape), "conv" if len(shape) > 1 else "var" if key.endswith("var") else "norm_b")
        for key, shape in shapes.items()
    ]
    return {key: value.float() for key, value in by_rule("convert", entries).items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """CBAM's ResNet-18 for 10 classes and CIFAR, as its training script would leave it."""
    from official_keys import cbam

    state = made(written_out(18, stem=3, inside=cbam, classes=10))
    path = tmp_path_factory.mktemp("made") / "cbam.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 90}, path)
    return path, state


CBAM = ["--source", "Jongchan/attention-module", "--cls", "ResidualNet"]
CTOR = ["--ctor", "network_type=CIFAR10", "--ctor", "depth=18", "--ctor", "num_classes=10", "--ctor", "att_type=CBAM"]


def test_a_training_checkpoint_becomes_a_file_of_ours(checkpoint, convert, tmp_path, monkeypatch, capsys):
    path, state = checkpoint
    out = tmp_path / "net.safetensors"
    status, printed, _ = convert(path, *CBAM, *CTOR, "--licence", "MIT", "--out", out)
    assert status == 0
    assert f"{out}: foveate:cbam_resnet18, 10 classes, " in printed
    assert f'network_options = {{ stem = "cifar" }}; weights = "{out}"' in printed
    network = foveate.load(out)
    assert torch.equal(
        network.layer4[1].attention.spatial_gate.conv.weight, state["layer4.1.cbam.SpatialGate.spatial.conv.weight"]
    )
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    monkeypatch.setattr(sys, "argv", ["foveate", "show", str(out)])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "foveate:cbam_resnet18, 10 classes, images of 3 channels" in shown
    assert "licence: MIT" in shown
    assert "source: https://github.com/Jongchan/attention-module" in shown
    status, printed, _ = convert(path, *CBAM, *CTOR, "--num-classes", 3, "--out", out, "--json")
    assert json.loads(printed)["num_classes"] == 3
    again = foveate.load(out)
    assert again.fc.out_features == 3
    assert torch.equal(again.layer1[0].conv1.weight, network.layer1[0].conv1.weight)


def test_a_backbone_without_classifier(convert, tmp_path):
    from official_keys import context

    state = made(written_out(50, inside=context(1 / 4), first_stage=2, classes=None))
    torch.save({"state_dict": state}, tmp_path / "gc.pth")
    flags = ["--source", "xvjiarui/GCNet", "--cls", "mmdet resnet.ResNet", "--ctor", "depth=50"]
    flags += ["--ctor", "gcb={ratio = 0.25}", "--ctor", "stage_with_gcb=[false, true, true, true]"]
    assert convert(tmp_path / "gc.pth", *flags, "--out", tmp_path / "gc.safetensors")[0] == 0
    network = foveate.load(tmp_path / "gc.safetensors")
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 2048)
    assert convert(tmp_path / "gc.pth", *flags, "--num-classes", 5, "--out", tmp_path / "5.safetensors")[0] == 0
    assert foveate.load(tmp_path / "5.safetensors").fc.out_features == 5


def test_a_study_starts_from_a_converted_file(convert, tmp_path):
    import numpy as np
    from PIL import Image

    state = {"conv1.weight": (16, 3, 3, 3)} | norm("bn1", 16)
    channels = 16
    for stage, width in enumerate((16, 32, 64), 1):
        for index in range(3):
            name = f"layer{stage}.{index}."
            state |= {f"{name}conv1.weight": (width, channels, 3, 3), f"{name}conv2.weight": (width, width, 3, 3)}
            state |= norm(f"{name}bn1", width) | norm(f"{name}bn2", width)
            channels = width
    torch.save(made(state | {"linear.weight": (10, 64), "linear.bias": (10,)}), tmp_path / "w.th")
    out = tmp_path / "net.safetensors"
    assert convert(tmp_path / "w.th", "--source", AKAMASTER, "--cls", "resnet20", "--out", out)[0] == 0
    for part, count in (("train", 4), ("val", 2)):
        for kind in ("a", "b"):
            (tmp_path / "photos" / part / kind).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8))
                image.save(tmp_path / "photos" / part / kind / f"{number}.png")
    wanted = {"network": "foveate:resnet20", "weights": str(out), "variants": [{"attention": "se", "init": "identity"}]}
    study = check_study({**wanted, "data": {"source": str(tmp_path / "photos")}, "seeds": 1})
    data = open_data(study.data)
    plan = make_plan(study, data, create_task("classification", data))
    assert plan.notes[0].startswith(f"every network starts from the weights in {out}")
    model = build_for(plan.runs[0], data, 2)
    assert torch.equal(model.layer3[2].conv2.weight, foveate.load(out).layer3[2].conv2.weight)
    assert model.fc.out_features == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*CBAM, *CTOR[:-2]], "surplus key 'layer1.0.cbam.ChannelGate.mlp.1.weight' (4, 64)"),
        ([*CBAM, *CTOR[:-2], "--ctor", "att_type=BAM"], "surplus key 'layer1.0.cbam"),
        ([*CBAM, *CTOR[:2], "--ctor", "depth=34", *CTOR[4:]], "missing key 'layer1.2.conv1.weight' (64, 64, 3, 3)"),
        ([*CBAM, *CTOR[:4], "--ctor", "num_classes=100", *CTOR[6:]], "wanted (100, 512), got (10, 512) (num_class"),
        ([*CBAM, "--ctor", "depth"], "--ctor: wanted NAME=VALUE; got 'depth'"),
        ([*CBAM, *CTOR, "--ctor", "depth=18"], "--ctor: depth is given twice"),
        ([*CBAM, *CTOR, "--ctor", "dept=18"], "has no argument 'dept'"),
        ([*CBAM, *CTOR, "--metric", "91"], "--metric: wanted NAME=VALUE, such as 'top-1=77.6 %'; got '91'"),
        (["--source", "Jongchan/attention", "--cls", "ResidualNet"], "did you mean 'Jongchan/attention-module'"),
        ([*CBAM[:3], "ResidulNet"], "did you mean 'ResidualNet'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line_and_nothing_is_written(flags, message, checkpoint, convert, tmp_path):
    out = tmp_path / "net.safetensors"
    status, printed, complaint = convert(checkpoint[0], *flags, "--out", out)
    assert (status, printed) == (2, "")
    assert message in complaint
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Hostile:
    def __reduce__(self):
        return print, ("ran",)


def test_files_that_are_no_checkpoint(checkpoint, convert, tmp_path):
    whole = checkpoint[0].read_bytes()
    torch.save({"state_dict": {"conv1.weight": Hostile()}}, tmp_path / "hostile.pth")
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("hostile", "half", "empty", "list", "absent"):
        out = tmp_path / f"{name}.safetensors"
        status, printed, complaint = convert(tmp_path / f"{name}.pth", *CBAM, *CTOR, "--out", out)
        assert (status, printed) == (2, ""), complaint
        assert complaint.startswith(f"foveate: weights {tmp_path}/{name}.pth: ")
        assert complaint.count("\n") == 1
        assert not out.exists()


def test_a_part_of_a_network_or_a_folder_is_not_converted(checkpoint, convert, tmp_path):
    torch.save(foveate.create_attention("sa", 128, groups=4).state_dict(), tmp_path / "sa.pth")
    theirs = {
        "cweight": "channel_weight",
        "cbias": "channel_bias",
        "sweight": "spatial_weight",
        "sbias": "spatial_bias",
    }
    theirs |= {"gn.weight": "norm_weight", "gn.bias": "norm_bias"}
    state = torch.load(tmp_path / "sa.pth", weights_only=True)
    torch.save({key: state[ours] for key, ours in theirs.items()}, tmp_path / "sa.pth")
    flags = ["--source", "wofmanaf/SA-Net", "--cls", "sa_layer", "--ctor", "channel=128", "--ctor", "groups=4"]
    status, _, complaint = convert(tmp_path / "sa.pth", *flags, "--out", tmp_path / "x.safetensors")
    assert (status, complaint) == (
        2,
        "foveate: --cls: wanted a whole network; sa_layer of wofmanaf/SA-Net is a part of one\n",
    )
    for out, why in ((tmp_path, "is a folder"), (tmp_path / "no/x.safetensors", "in no folder that there is")):
        status, _, complaint = convert(checkpoint[0], *CBAM, *CTOR, "--out", out)
        assert status == 2
        assert why in complaint
    status, _, complaint = convert(checkpoint[0], *CBAM, *CTOR, "--out", checkpoint[0])
    assert "is the checkpoint" in complaint
