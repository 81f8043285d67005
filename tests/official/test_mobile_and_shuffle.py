"""Released mobile networks: their keys both ways, their weights here, quantised and reordered ones decoded."""

import re
from typing import Any

import pytest
import torch

import foveate
from foveate.networks import load_weights, read_weights
from foveate.official._conversions import _find, to_official, to_ours

MEGVII, VISION = "megvii-model/ShuffleNet-Series", "pytorch/vision"
CORAL, TFLITE = "google-coral/test_data", "tf2_mobilenet_v2_1.0_224_ptq.tflite"
HAN = "songhan/SqueezeNet-Deep-Compression"
UNIT = {"inp": 12, "oup": 24, "group": 3, "first_group": False, "mid_channels": 6, "ksize": 3, "stride": 2}
SMALL = {"num_classes": 4, "width_mult": 0.5}
CASES: list[tuple[str, str, dict[str, Any], tuple[int, ...], tuple[str, ...]]] = [
    # source, class, arguments, input, some of the official keys
    (MEGVII, "ShuffleV1Block", UNIT, (12, 7, 5), ("branch_main_1.4.bias", "branch_main_2.1.weight")),
    (
        MEGVII,
        "ShuffleV2Block",
        {"inp": 5, "oup": 10, "mid_channels": 5, "ksize": 3, "stride": 1},
        (10, 7, 5),
        ("branch_main.6.weight",),
    ),
    (
        MEGVII,
        "ShuffleNetV1",
        {"group": 8, "model_size": "0.5x", "n_class": 4},
        (3, 45, 33),
        ("first_conv.0.weight", "features.15.branch_main_2.0.weight", "classifier.0.weight"),
    ),
    (
        MEGVII,
        "ShuffleNetV2",
        {"model_size": "0.5x", "n_class": 4},
        (3, 45, 33),
        ("features.4.branch_proj.3.bias", "conv_last.1.weight", "classifier.0.weight"),
    ),
    (VISION, "shufflenet_v2_x0_5", {"num_classes": 4}, (3, 45, 33), ("stage4.3.branch2.6.bias", "conv5.0.weight")),
    (VISION, "MobileNetV2", SMALL, (3, 45, 33), ("features.18.1.bias", "features.1.conv.0.0.weight")),
    (VISION, "mobilenetv2.InvertedResidual", {"inp": 8, "oup": 8, "stride": 1, "expand_ratio": 6}, (8, 5, 7), ()),
    (
        "houqb/CoordAttention",
        "mbv2_ca.MBV2_CA",
        SMALL,
        (3, 45, 33),
        ("features.2.conv.6.conv3.bias", "conv.1.weight", "classifier.1.bias", "features.0.0.weight"),
    ),
    (
        "BangguWu/ECANet",
        "eca_mobilenet_v2",
        SMALL,
        (3, 45, 33),
        ("features.1.conv.3.conv.weight", "features.17.conv.4.conv.weight", "features.18.0.weight"),
    ),
    ("pytorch/tutorials", "Net", {}, (1, 28, 28), ("localization.3.weight", "fc_loc.2.bias", "fc2.bias")),
    ("akamaster/pytorch_resnet_cifar10", "resnet20", {}, (3, 32, 32), ("linear.weight", "layer3.2.bn2.running_var")),
]
IDS = [f"{cls}-{number}" for number, (_, cls, *_) in enumerate(CASES)]


def official_state(source, cls, ctor):
    module, prefixes = _find(source, cls).build(**ctor)
    state = {}
    for key, value in module.state_dict().items():
        name = to_official(key, prefixes)
        assert to_ours(name, prefixes) == key, "the names must map both ways"
        state[name] = torch.rand(value.shape, dtype=torch.float64) + 0.5 if value.is_floating_point() else value
    return state


@pytest.mark.parametrize(("source", "cls", "ctor", "shape", "keys"), CASES, ids=IDS)
def test_mobile_checkpoints_load_by_their_own_names(source, cls, ctor, shape, keys):
    state = official_state(source, cls, ctor)
    assert set(keys) <= set(state)
    module = foveate.official.load(source, cls, ctor, {f"module.{key}": value for key, value in state.items()})
    prefixes = _find(source, cls).build(**ctor)[1]
    ours = module.state_dict()
    assert ours.keys() == {to_ours(key, prefixes) for key in state}
    assert all(torch.equal(ours[to_ours(key, prefixes)], value) for key, value in state.items())
    assert module(torch.randn(1, *shape, dtype=torch.float64)).isfinite().all()
    last = next(reversed([key for key, value in state.items() if value.is_floating_point()]))
    with pytest.raises(ValueError, match=f"missing key '{re.escape(last)}'"):
        foveate.official.load(source, cls, ctor, {key: value for key, value in state.items() if key != last})


def test_eca_mobilenet_cuts_fractions_of_widths_off():
    with torch.device("meta"):
        network = _find("BangguWu/ECANet", "eca_mobilenet_v2").build(width_mult=0.8)[0]
    assert network.stem[0].out_channels == int(32 * 0.8) == 25


@pytest.mark.parametrize(
    ("cls", "ctor", "message"),
    [
        ("ShuffleNetV2", {"model_size": "0.75x"}, "model_size must be one of 0.5x, 1.0x, 1.5x, 2.0x; got '0.75x'"),
        ("ShuffleV1Block", UNIT | {"ksize": 5}, "ksize must be 3; got 5"),
        ("ShuffleV2Block", {"inp": 5, "oup": 12, "mid_channels": 6, "ksize": 3, "stride": 1}, "twice inp = 10; got 12"),
        ("ShuffleV2Block", {"inp": 6, "oup": 12, "mid_channels": 5, "ksize": 3, "stride": 1}, "oup // 2 = 6; got 5"),
    ],
)
def test_what_megvii_does_not_have_is_refused(cls, ctor, message):
    with pytest.raises(ValueError) as error:
        foveate.official.load(MEGVII, cls, ctor, {})
    assert message in str(error.value)


@pytest.fixture(scope="module")
def quantised():
    """Rule-made int8 weights for every layer of MobileNetV2, in the file's form."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = foveate.create_network("mobilenet_v2")
    layers = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            shape = (*module.weight.shape, *(1,) * (4 - module.weight.dim()))
            q = torch.randint(-127, 128, shape, dtype=torch.int8)
            layers.append({"q": q, "scale": torch.rand(shape[0]) / 100, "bias": torch.randn(shape[0])})
    return {"layers": layers}


def test_int8_weights_become_float_ones(quantised):
    network = foveate.official.load(CORAL, TFLITE, {}, quantised)
    first, last = quantised["layers"][0], quantised["layers"][-1]
    assert torch.equal(network.stem[0].weight, first["q"] * first["scale"].view(-1, 1, 1, 1))
    assert torch.equal(network.stem[1].bias, first["bias"])
    x = torch.randn(2, 32, 3, 3)
    torch.testing.assert_close(network.stem[1](x), x + first["bias"].view(1, -1, 1, 1))
    assert torch.equal(network.fc.weight, last["q"].flatten(1) * last["scale"].view(-1, 1))
    assert network.stem[0].padding == (0, 0), "TensorFlow's padding"
    assert network.fc.weight.dtype == torch.float32


def test_int8_weights_come_from_a_file_too(quantised, tmp_path):
    torch.save(quantised, tmp_path / "int8.pth")
    state = read_weights(tmp_path / "int8.pth")
    assert "layers.52.scale" in state
    network = foveate.official.load(CORAL, "mobilenet_v2", {}, state)
    assert torch.equal(network.fc.bias, quantised["layers"][-1]["bias"])
    with pytest.raises(ValueError, match="'stem.0.weight' is missing"):
        load_weights(network, tmp_path / "int8.pth")


def test_what_is_wrong_with_int8_weights_is_told_by_their_names(quantised):
    layers = quantised["layers"]
    for state, message in (
        ({}, "missing key 'layers.0.q'"),
        ({"layers": layers[:-1]}, "wanted 53 layers, got 52"),
        ({"layers": [{"q": layers[0]["q"], "scale": layers[0]["scale"]}, *layers[1:]]}, "missing key 'layers.0.bias'"),
        ({"layers": [layers[0] | {"scale": layers[0]["scale"][:5]}, *layers[1:]]}, "misshapen key 'layers.0.scale'"),
    ):
        with pytest.raises(ValueError, match=message):
            foveate.official.load(CORAL, TFLITE, {}, state)


def test_squeezenet_gets_red_first():
    import torchvision

    theirs = torchvision.models.squeezenet1_0().eval()
    half = {key: value.half() for key, value in theirs.state_dict().items()}
    ours = foveate.official.load(HAN, "squeezenet1_0", {}, half)
    x = torch.randn(1, 3, 70, 70)
    theirs.load_state_dict({key: value.float() for key, value in half.items()})
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x.flip(1)), rtol=1e-4, atol=1e-5)
