"""Every network that has a name: built, run forwards and backwards, its tensors kept and read again."""

import re

import pytest
import torch
from residual_cases import deep_are_slow

import foveate
from foveate.costs import macs
from foveate.networks import usual_shape

NAMES = foveate.list_networks()
DENSE = re.compile("unet|former|segnext|danet|setr")  # networks that give a map
MODELS = {"salt_unet": (70, 70), "inversionnet": (70, 70)}  # networks that give a map of another size than they take
SAME = re.compile("^(umixformer|segformer|feedformer|segnext)$|_b[1-5]$|mscan_[sbl]$|large")  # smaller ones are tested
LIGHT = ("mobilenet", "drsn", "shufflenet", "stn", "capsnet")


@pytest.mark.parametrize(
    "name",
    [
        one if SAME.search(one.values[0]) is None else pytest.param(*one.values, marks=pytest.mark.slow)
        for one in deep_are_slow(NAMES)
    ],
)
def test_builds_and_runs_in_both_directions_without_memory(name):
    shape = usual_shape(name)
    with torch.device("meta"):
        network = foveate.create_network(name, num_classes=7, in_channels=shape[0])
        y = network(torch.empty(2, *shape))
    sides = MODELS.get(name, shape[1:] if DENSE.search(name) else ())
    trained = network.loss(y, torch.empty(2, dtype=torch.int64, device="meta")) if isinstance(y, dict) else None
    outputs = y if isinstance(y, tuple) else (y["out"] if isinstance(y, dict) else y,)
    assert [one.shape for one in outputs] == [(2, 7, *sides)] * len(outputs)
    (sum(one.sum() for one in outputs) if trained is None else trained).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None]
    assert not without, f"no gradient reaches {without[:3]}"


@pytest.mark.parametrize("name", [name for name in NAMES if any(part in name for part in LIGHT)])
def test_learns_a_step_and_keeps_its_tensors(name, tmp_path):
    shape = usual_shape(name)
    if "capsnet" not in name and "stn_tutorial" not in name:
        shape = (shape[0], *(min(side, 64) + 1 for side in shape[1:]))  # odd sides
    options = {"width": 16, "types": 4} if "capsnet" in name else {}
    network = foveate.create_network(name, num_classes=5, **options)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    x = torch.randn(3, *shape)
    torch.nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 4])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    optimiser.step()
    network.eval()
    foveate.save(network, tmp_path / "kept.safetensors")
    again = foveate.load(tmp_path / "kept.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x[:1]), network(x[:1]))
        assert network(x[:1]).isfinite().all()


MULTIPLY_ADDS = 1e-3  # relative; the published counts are of convolutions and linear layers, so these are equal
SIZES = [  # name, options, parameters, multiply-adds
    ("alexnet", {}, 60_965_224, 724_406_816),
    ("alexnet", {"groups": 1}, 62_378_344, 1_135_256_096),
    ("mobilenet_v1", {}, 4_231_976, 568_740_352),
    ("mobilenet_v2", {}, 3_504_872, 300_774_272),
    ("ca_mobilenet_v2", {}, 3_950_648, 306_666_368),
    ("ca_mobilenet_v2", {"width": 0.75}, 2_891_631, 212_648_864),
    ("ca_mobilenet_v2", {"width": 0.5}, 2_095_568, 99_002_688),
    ("eca_mobilenet_v2", {}, 3_504_903, 300_777_952),
    ("shufflenet_v1", {"groups": 1}, 1_530_936, 143_078_976),
    ("shufflenet_v1", {"groups": 2}, 1_732_848, 140_836_512),
    ("shufflenet_v1", {"groups": 3}, 1_864_728, 137_460_672),
    ("shufflenet_v1", {"groups": 4}, 1_967_344, 134_339_776),
    ("shufflenet_v1", {"groups": 8}, 2_433_768, 138_365_952),
    ("shufflenet_v1", {"groups": 3, "width": 0.5}, 717_324, 37_589_856),
    ("shufflenet_v1", {"groups": 3, "width": 1.5}, 3_441_168, 292_443_552),
    ("shufflenet_v1", {"groups": 3, "width": 2.0}, 5_449_776, 524_045_184),
    ("shufflenet_v1", {"groups": 8, "width": 0.5}, 1_010_448, 40_469_760),
    ("shufflenet_v1", {"groups": 8, "width": 1.5}, 4_268_952, 290_188_800),
    ("shufflenet_v1", {"groups": 8, "width": 2.0}, 6_521_232, 521_942_016),
    ("shufflenet_v2", {"form": "megvii", "width": 0.5}, 1_365_792, 40_476_448),
    ("shufflenet_v2", {"form": "megvii"}, 2_278_760, 145_814_296),
    ("shufflenet_v2", {"form": "megvii", "width": 1.5}, 3_506_720, 298_970_656),
    ("shufflenet_v2", {"form": "megvii", "width": 2.0}, 7_402_600, 590_783_000),
    ("shufflenet_v2", {"width": 0.5}, 1_366_792, None),
    ("shufflenet_v2", {}, 2_278_604, None),
    ("shufflenet_v2", {"width": 1.5}, 3_503_624, None),
    ("shufflenet_v2", {"width": 2.0}, 7_393_996, None),
    *((f"drsn_cs_1d_{blocks}", {}, size, None) for blocks, size in ((6, 4_950), (9, 7_585), (12, 10_220))),
    *((f"drsn_cw_1d_{blocks}", {}, size, None) for blocks, size in ((6, 5_616), (9, 8_584), (12, 11_552))),
    *((f"drsn_plain_1d_{blocks}", {}, size, None) for blocks, size in ((6, 4_048), (9, 6_232), (12, 8_416))),
    ("drsn_cw_cifar", {}, 39_446, None),
    ("stn_tutorial", {}, 27_360, None),
    ("capsnet", {}, 6_804_224, None),  # the paper's 6.8 M without the reconstruction
]


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), SIZES, ids=str)
def test_has_the_published_size(name, options, parameters, multiply_adds):
    with torch.device("meta"):
        network = foveate.create_network(name, **options).eval()
        assert sum(p.numel() for p in network.parameters()) == parameters
        if multiply_adds is not None:
            counted = macs(network, torch.empty(1, *usual_shape(name)))
            assert abs(counted / multiply_adds - 1) < MULTIPLY_ADDS


@pytest.mark.parametrize(
    ("name", "options", "millions", "multiply_adds"),
    [  # CBAM's table 5, the CA paper's table, SE's table 3: as far as they print
        ("mobilenet_v1", {"width": 0.7}, 2.30, 0.283),
        ("cbam_mobilenet_v1", {}, 5.07, 0.576),
        ("cbam_mobilenet_v1", {"width": 0.7}, 2.71, 0.289),
        ("se_mobilenet_v1", {}, 4.7, 0.572),
        ("se_mobilenet_v1", {"places": ["depthwise", "pointwise"]}, 5.07, 0.570),
        ("se_mobilenet_v2", {}, 3.89, 0.300),
        ("cbam_mobilenet_v2", {}, 3.89, 0.300),
    ],
    ids=str,
)
def test_has_the_size_that_the_papers_round(name, options, millions, multiply_adds):
    with torch.device("meta"):
        network = foveate.create_network(name, **options).eval()
        counted = macs(network, torch.empty(1, 3, 224, 224))
    digits = len(str(millions).split(".")[1])
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, digits) == millions
    assert abs(counted / 1e9 / multiply_adds - 1) < 0.01


def test_the_number_of_classes_is_the_papers_unless_asked():
    assert foveate.create_network("drsn_cw_1d_12").fc.out_features == 8
    assert foveate.create_network("drsn_cw_1d_12", num_classes=3).fc.out_features == 3
    with torch.device("meta"):
        assert foveate.create_network("mobilenet_v2").fc.out_features == 1000


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v2", {"place": "wide"}, "attention_options and place need attention=; got none"),
        ("ca_mobilenet_v2", {"place": "middle"}, "place must be 'wide' or 'narrow'; got 'middle'"),
        ("mobilenet_v2", {"padding": "same"}, "'symmetric', 'same_tensorflow'; got 'same'"),
        ("mobilenet_v2", {"width": 0}, "at least 1/16; got 0"),
        ("mobilenet_v1", {"width": -1}, "at least 1/32; got -1"),
        ("se_mobilenet_v1", {"places": ["branch"]}, "'depthwise' and 'pointwise'; got ['branch']"),
        ("shufflenet_v1", {"groups": 5}, "groups must be one of 1, 2, 3, 4, 8; got 5"),
        ("shufflenet_v1", {"width": 0.1}, "width must be a factor of at least 0.25; got 0.1"),
        ("shufflenet_v1", {"variant": "released"}, "variant must be 'official' or 'paper'; got 'released'"),
        ("shufflenet_v1", {"widths": [24, 250, 500, 1000]}, "a multiple of groups = 3 channels; got 226"),
        ("shufflenet_v2", {"width": 0.75}, "width must be one of 0.5, 1.0, 1.5, 2.0, or give widths=; got 0.75"),
        ("shufflenet_v2", {"form": "paper"}, "form must be 'torchvision' or 'megvii'; got 'paper'"),
        ("shufflenet_v2", {"attention_options": {"reduction": 4}}, "need attention=; got none"),
        ("capsnet", {"image_size": 16}, "image_size must be at least 17"),
        ("stn_before", {"network": "mine.py:net"}, "network must be foveate:NAME, timm:NAME or torchvision:NAME"),
        ("drsn_cw_1d_6", {"stages": [[2, 1, 1]]}, "width must be at least 4; got 2"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(name, options, message):
    with pytest.raises(ValueError) as error:
        foveate.create_network(name, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
