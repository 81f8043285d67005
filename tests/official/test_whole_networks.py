"""Whole networks from official checkpoints: equal to the golden files, and every key map in both directions."""

import inspect
import re

import pytest
import timm
import torch
from golden import by_rule, check_network, golden_files
from official_keys import network as written_out
from official_keys import rows

import foveate
from foveate.networks import origin_of, read_weights
from foveate.official._conversions import _find, to_official, to_ours

NETS = golden_files("net_*.safetensors")
ROWS = rows()
SOURCE, RESIDUAL = "Jongchan/attention-module", {"network_type": "ImageNet", "num_classes": 1000}


@pytest.mark.parametrize("path", NETS, ids=lambda path: path.stem)
def test_equals_the_released_network(path):
    check_network(path, {f"bam{n}": f"between.layer{n}" for n in (1, 2, 3)})


def some_are_slow(names):
    """The smallest of each class is quick, and so is the one with a stem of its own; the others are the same again."""
    kept, seen = [], set()
    for name in names:
        kind = re.sub(r"\d+|None", "", name)
        slow = kind in seen or "resnet_bam" in name or "resnet_cbam" in name
        seen.add(kind)
        kept.append(pytest.param(name, marks=[pytest.mark.slow] * slow))
    return kept


def kind_of(key, shape):
    last = key.rpartition(".")[2]
    if last in ("running_mean", "running_var"):
        return last.removeprefix("running_")
    return "conv" if len(shape) > 1 else "free"


def counted(number, shape):
    return (torch.arange(1, 1 + torch.Size(shape).numel()) % 251 + number).reshape(shape).float()


@pytest.mark.parametrize("name", some_are_slow(ROWS))
def test_names_and_values_go_over_and_back(name):
    """Official → ours → official: the same names, the same values, nothing left over; of SENet-154 the names alone."""
    source, cls, ctor, shapes = ROWS[name]
    with torch.device("meta" if "154" in name else "cpu"):
        state = {key: counted(number, shape) for number, (key, shape) in enumerate(shapes.items())}
        network = foveate.official.load(source, cls, ctor, {f"module.{key}": value for key, value in state.items()})
        recipe = _find(source, cls)
        _, prefixes = recipe.build(**{**(recipe.infer(state) if recipe.infer else {}), **ctor})
    ours = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert {to_official(key, prefixes) for key in ours} == set(state)
    for key, value in state.items():
        mine = ours[to_ours(key, prefixes)].flatten()
        assert value.is_meta or torch.equal(mine, value.flatten()), key
    assert origin_of(network) is not None
    assert not network.training


def test_every_whole_network_of_these_sources_is_written_out():
    written = {(source, cls) for source, cls, *_ in ROWS.values()}
    sources = {source for source, _ in written}
    whole = re.compile(r"ne[tx]t?\d+|ResidualNet|resnet\.ResNet$|-\d+\.prototxt$")
    known = {
        (source, cls) for source, cls in foveate.official.list_official() if source in sources and "block" not in cls
    }
    assert written == {(source, cls) for source, cls in known if whole.search(cls)}


def test_a_network_with_a_classifier_can_be_built_again_from_its_name():
    """So that it can be saved; of the other sources, as above of the residual ones."""
    residual = {source for source, *_ in ROWS.values()}
    found = []
    for source, cls in foveate.official.list_official():
        build = _find(source, cls).build
        takes = inspect.signature(build).parameters
        part = cls.endswith("Head") or "APFormer" in cls  # decoders alone
        if source not in residual and not part and {"num_classes", "n_class"} & set(takes):
            wanted = {name: 3 for name, p in takes.items() if p.default is p.empty}
            wanted |= {"cfg": {"MODEL": {"ARCH": "c2d"}, "RESNET": {"DEPTH": 50}}} if "cfg" in takes else {}
            wanted |= (
                {"stages_repeats": (4, 8, 4), "stages_out_channels": (24, 48, 96, 192, 64)}
                if cls == "ShuffleNetV2"
                else {}
            )
            with torch.device("meta"):
                network, _ = build(**{name: value for name, value in wanted.items() if name in takes})
            found.append((cls, origin_of(network) is not None))
    assert len(found) > 10
    assert not [cls for cls, noted in found if not noted]


@pytest.mark.parametrize("name", ["seresnext50_32x4d", pytest.param("senet154", marks=pytest.mark.slow)])
def test_gives_what_timms_port_gives(name):
    torch.manual_seed(0)
    theirs = timm.create_model(f"legacy_{name}", pretrained=False).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    cls = name.replace("seresnext", "se_resnext")
    ours = foveate.official.load("Cadene/pretrained-models.pytorch", cls, {}, theirs.state_dict())
    x = torch.randn(1, 3, 81, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def resnet18(**changes):
    shapes = written_out(18)
    state = by_rule("mistakes", [(key, list(shape), kind_of(key, shape)) for key, shape in shapes.items()])
    return {key: value for key, value in (state | changes).items() if value is not None}


@pytest.fixture(scope="module")
def state():
    return resnet18()


@pytest.mark.parametrize("wrapped", ["plain", "module.", "state_dict", "model", "both"])
def test_prefixes_and_training_states_are_taken_off(wrapped, state):
    given = state
    if wrapped in ("module.", "both"):
        given = {f"module.{key}": value for key, value in given.items()}
    if wrapped in ("state_dict", "model", "both"):
        given = {"model" if wrapped == "model" else "state_dict": given, "epoch": 3, "optimizer": {"lr": 0.1}}
    network = foveate.official.load(SOURCE, "ResidualNet", {**RESIDUAL, "depth": 18}, given)
    assert torch.equal(network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    assert network.fc.weight.dtype == torch.float64


def test_another_number_of_classes_keeps_the_rest(state):
    network = foveate.official.load(SOURCE, "ResidualNet", {**RESIDUAL, "depth": 18}, state, num_classes=7)
    assert network.fc.weight.shape == (7, 512)
    assert network.fc.weight.dtype == torch.float64
    assert origin_of(network).num_classes == 7
    left = {key for key, value in network.state_dict().items() if key in state and not torch.equal(value, state[key])}
    assert left == {"fc.weight", "fc.bias"}
    foveate.insert(network, "se", example=torch.zeros(2, 3, 32, 32).double(), freeze="base", at="stage")
    trained = {key for key, p in network.named_parameters() if p.requires_grad and ".foveate." not in key}
    assert trained == {"fc.weight", "fc.bias"}
    with pytest.raises(ValueError, match=r"misshapen key 'conv1.weight': wanted \(64, 3, 7, 7\), got \(\)$"):
        foveate.official.load(
            SOURCE, "ResidualNet", {**RESIDUAL, "depth": 18}, state | {"conv1.weight": torch.tensor(1.0)}
        )
    same = foveate.official.load(SOURCE, "ResidualNet", {**RESIDUAL, "depth": 18}, state, num_classes=1000)
    assert torch.equal(same.fc.weight, state["fc.weight"])
    with pytest.raises(TypeError, match="has no classifier, so num_classes= says nothing"):
        foveate.official.load(SOURCE, "BAM", {"gate_channel": 32}, {}, num_classes=3)


@pytest.mark.parametrize(
    ("ctor", "change", "message"),
    [
        ({"depth": 34}, {}, r"missing key 'layer1.2.conv1.weight' \(64, 64, 3, 3\)"),
        ({"depth": 50}, {}, r"misshapen key 'layer1.0.conv1.weight': wanted \(64, 64, 1, 1\), got \(64, 64, 3, 3\)"),
        ({"att_type": "CBAM"}, {}, r"missing key 'layer1.0.cbam.ChannelGate.mlp.1.weight' \(4, 64\)"),
        ({}, {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}, r"surplus key 'layer1.2.conv1.weight' \(64, 64"),
        ({}, {"layer2.0.bn1.bias": torch.zeros(96)}, r"'layer2.0.bn1.bias': wanted \(128,\), got \(96,\)"),
        ({}, {"fc.weight": torch.zeros(10, 512)}, r"'fc.weight': wanted \(1000, 512\), got \(10, 512\) \(num_cla"),
        ({}, {"fc.weight": torch.zeros(1000, 256)}, r"'fc.weight': wanted \(1000, 512\), got \(1000, 256\)$"),
        ({}, {"fc.weight": 3}, "wanted tensors by name.*got 'fc.weight': int"),
        ({"depth": 26}, {}, "depth must be 18, 34, 50 or 101; got 26"),
        ({"att_type": "SE"}, {}, "att_type must be None, 'BAM' or 'CBAM'; got 'SE'"),
        ({"network_type": "MNIST"}, {}, "network_type must be 'ImageNet'"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_told_by_its_first_key(ctor, change, message, state):
    with pytest.raises(ValueError, match=message) as error:
        foveate.official.load(SOURCE, "ResidualNet", {**RESIDUAL, "depth": 18, **ctor}, state | change)
    assert "\n" not in str(error.value)


def test_an_unknown_class_or_argument_is_named_with_the_nearest():
    with pytest.raises(LookupError, match="has no class 'se_resnet51' known here; did you mean 'se_resnet50'"):
        foveate.official.load("Cadene/pretrained-models.pytorch", "se_resnet51", {}, {})
    with pytest.raises(TypeError, match="se_resnet50 of .* has no argument 'classes'; it has num_classes"):
        foveate.official.load("Cadene/pretrained-models.pytorch", "se_resnet50", {"classes": 3}, {})
    with pytest.raises(TypeError, match="needs the argument 'network_type'"):
        foveate.official.load(SOURCE, "ResidualNet", {"depth": 18}, {})


def test_files_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)  # 4 bytes that claim to be 4 TB
    with pytest.raises(ValueError, match=r"its tensors have 4,000\.0 GB; at most 4 GB are read"):
        read_weights(path)
    torch.save({"a": torch.zeros(1000)}, path)
    monkeypatch.setattr("foveate.networks._checkpoint.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"the file has 0\.0 GB; at most 0 GB are read"):
        read_weights(path)
    whole = path.read_bytes()
    monkeypatch.undo()
    for length in (len(whole) // 2, 100, 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="no torch checkpoint of tensors alone"):
            read_weights(path)
