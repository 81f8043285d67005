"""Official classes of one name in several files, and official options that no golden file has."""

import pytest
import torch
from golden import golden_files, part, read

import foveate
from foveate.attention.nl import FORMS

ALEXHEX7 = "AlexHex7/Non-local_pytorch"


def state(form: str, channels: int = 6, width: int = 3, sub_sample: bool = False) -> dict[str, torch.Tensor]:
    """A state dict under the official names of the one-dimensional block without a norm."""
    inner = ".0" if sub_sample else ""
    shapes = {f"g{inner}": (width, channels, 1), "W": (channels, width, 1)}
    if form != "gaussian":
        shapes |= {"theta": (width, channels, 1), f"phi{inner}": (width, channels, 1)}
    tensors = {}
    for name, shape in shapes.items():
        tensors |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    if form == "concatenation":
        tensors["concat_project.0.weight"] = torch.randn(1, 2 * width, 1, 1)
    return tensors


@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_read_from_the_file_name_or_else_from_the_keys(form, sub_sample):
    given, ctor = state(form, sub_sample=sub_sample), {"in_channels": 6, "sub_sample": sub_sample, "bn_layer": False}
    for cls in (f"non_local_{form}.NONLocalBlock1D", f"lib.non_local_{form}.NONLocalBlock1D"):
        assert foveate.official.load(ALEXHEX7, cls, ctor, given).form == form
    bare = foveate.official.load(ALEXHEX7, "NONLocalBlock1D", ctor, given)
    assert bare.form == ("embedded_gaussian" if form == "dot_product" else form)
    asked = foveate.official.load(ALEXHEX7, "NONLocalBlock1D", ctor | {"mode": form}, given)
    assert asked.form == form


def test_a_missing_or_surplus_key_is_named_as_it_is_called_there():
    ctor = {"in_channels": 6, "sub_sample": False, "bn_layer": False}
    short = state("embedded_gaussian")
    del short["theta.weight"]
    with pytest.raises(ValueError, match="missing key 'theta.weight'"):
        foveate.official.load(ALEXHEX7, "NONLocalBlock1D", ctor, short)
    with pytest.raises(ValueError, match="surplus key 'theta.weight'"):
        foveate.official.load(ALEXHEX7, "non_local_gaussian.NONLocalBlock1D", ctor, state("dot_product"))


def test_mmcv_options_that_the_golden_files_leave_out():
    header, tensors = read(*golden_files("nonlocal_mmcv__embedded_2d_bn_eval*"))
    given = part(tensors, "param.")
    plain = foveate.official.load(header["source"], "NonLocal2d", header["ctor"], given)
    ctor = header["ctor"] | {"norm_cfg": {"type": "SyncBN", "eps": 0.1, "requires_grad": False}, "conv_cfg": None}
    other = foveate.official.load(header["source"], "NonLocal2d", ctor | {"zeros_init": False}, given)
    assert (plain.norm.eps, other.norm.eps) == (1e-5, 0.1)
    assert not other.norm.weight.requires_grad
    grouped = {k.replace(".bn.", ".gn."): v for k, v in given.items() if ".bn." not in k or k.endswith(("ht", "as"))}
    ctor["norm_cfg"] = {"type": "GN", "num_groups": 4}
    assert foveate.official.load(header["source"], "NonLocal2d", ctor, grouped).norm.num_groups == 4
    with pytest.raises(ValueError, match="norm_cfg's type must be one of BN"):
        foveate.official.load(header["source"], "NonLocal2d", ctor | {"norm_cfg": {"type": "LN"}}, given)


def test_three_dimensional_squeezes_and_their_default_reduction():
    given = {
        "cSE.fc1.weight": torch.randn(4, 8),
        "cSE.fc1.bias": torch.randn(4),
        "cSE.fc2.weight": torch.randn(8, 4),
        "cSE.fc2.bias": torch.randn(8),
        "sSE.conv.weight": torch.randn(1, 8, 1, 1, 1),
        "sSE.conv.bias": torch.randn(1),
    }
    source = "ai-med/squeeze_and_excitation"
    both = foveate.official.load(source, "ChannelSpatialSELayer3D", {"num_channels": 8}, given)
    x = torch.randn(2, 8, 3, 4, 5)
    one = foveate.official.load(source, "ChannelSELayer3D", {"num_channels": 8}, part(given, "cSE."))
    two = foveate.official.load(source, "SpatialSELayer3D", {"num_channels": 8}, part(given, "sSE."))
    torch.testing.assert_close(both(x), torch.max(one(x), two(x)))


def test_eca_reads_from_its_weight_which_of_its_two_files_a_layer_is_of():
    source, ctor = "BangguWu/ECANet", {"channel": 6, "k_size": 3}
    for rows, cls in ((1, "eca_module.eca_layer"), (6, "eca_ns.eca_layer")):
        given = {"conv.weight": torch.randn(rows, 1, 3)}
        for name in (cls, "eca_layer"):
            assert foveate.official.load(source, name, ctor, given).shared == (rows == 1)
    with pytest.raises(ValueError, match=r"misshapen key 'conv.weight': wanted \(1, 1, 3\), got \(6, 1, 3\)"):
        foveate.official.load(source, "eca_module.eca_layer", ctor, given)


def test_mistakes_in_a_call_are_named_in_one_line():
    source = "Cadene/pretrained-models.pytorch"
    good = {"fc1.weight": torch.randn(2, 4, 1, 1), "fc1.bias": torch.randn(2)}
    good |= {"fc2.weight": torch.randn(4, 2, 1, 1), "fc2.bias": torch.randn(4)}
    ctor = {"channels": 4, "reduction": 2}
    module = foveate.official.load(source, "SEModule", ctor, {f"module.{k}": v for k, v in good.items()})
    assert torch.equal(module.reduce.weight, good["fc1.weight"].flatten(1))
    for key, bad in (("fc1.bias", (2, 1)), ("fc1.weight", (4, 2, 1, 1)), ("fc2.weight", (4, 3, 1, 1))):
        with pytest.raises(ValueError, match=f"misshapen key '{key}'"):
            foveate.official.load(source, "SEModule", ctor, good | {key: torch.randn(bad)})
    with pytest.raises(TypeError, match=r"SEModule of .* needs the argument 'reduction'; given: channels"):
        foveate.official.load(source, "SEModule", {"channels": 4}, good)
    with pytest.raises(TypeError, match="has no argument 'ratio'; it has channels, reduction"):
        foveate.official.load(source, "SEModule", ctor | {"ratio": 2}, good)
    with pytest.raises(LookupError, match=r"did you mean 'SEModule'\?; known: SEBottleneck"):
        foveate.official.load(source, "SEModul", ctor, good)
    with pytest.raises(LookupError, match=r"did you mean 'Cadene/pretrained-models.pytorch'\?; known: AlexHex7"):
        foveate.official.load("Cadene/pretrained-models", "SEModule", ctor, good)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_weights_keep_their_dtype_and_need_not_be_contiguous(dtype):
    wide = torch.randn(4, 2, 1, 1).to(dtype)
    given = {"fc1.weight": wide.transpose(0, 1), "fc1.bias": torch.randn(4, dtype=dtype)[::2]}
    given |= {"fc2.weight": wide.to(memory_format=torch.channels_last), "fc2.bias": torch.randn(4, dtype=dtype)}
    ctor = {"channels": 4, "reduction": 2}
    module = foveate.official.load("Cadene/pretrained-models.pytorch", "SEModule", ctor, given)
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert torch.equal(module.reduce.weight, wide.flatten(1).T)
    assert torch.equal(module.reduce.bias, given["fc1.bias"])
    assert not module.training
