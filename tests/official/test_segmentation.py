"""Encoders, decoders and whole networks for segmentation against the released code's numbers, and their keys."""

import pytest
import torch
from golden import assert_golden, golden_files, numbered, part, read
from torch import nn

import foveate
from foveate.networks import origin_of
from foveate.networks._transformer import DropPath
from foveate.official._conversions import _find, to_official, to_ours
from foveate.official.umixformer import unpacked

UMIX = "julian-klitzing/u-mixformer"
PATHS = golden_files(
    "mit_*",
    "lvt_*",
    "mscan_*",
    "umixformer_full_*",
    "umixformer_head*",
    "segformer_head*",
    "feedformer_head*",
    "attention_unet3d_*",
)
HEADS = ("APFormerHead2", "APFormerHeadCity", "SegFormerHead", "FeedFormerHead")


def run(header, module, inputs):
    """The outputs as the file has them: maps channels first, or as the class there has its tensors."""
    if header["source"] == "Chenglin-Yang/LVT" and header["cls"] in ("CSA", "Attention"):
        return [module(inputs[0].movedim(-1, 1)).movedim(1, -1)]
    if header["cls"] == "Block":
        return [module(inputs[0].mT.unflatten(2, (4, 5))).flatten(2).mT]
    outputs = module(inputs) if header["cls"] in HEADS else module(*inputs)
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_equals_the_released_numbers(path):
    header, tensors = read(path)
    module = foveate.official.load(header["source"], header["cls"], header["ctor"], part(tensors, "param."))
    _, prefixes = _find(header["source"], header["cls"]).build(**header["ctor"])
    module.train(header["mode"] == "train")
    for one in module.modules():
        if isinstance(one, DropPath | nn.Dropout2d):  # off in the files
            one.eval()
    inputs = [x.clone().requires_grad_() for x in numbered(tensors, "input")]
    outputs = run(header, module, inputs)
    wanted, cotangents = numbered(tensors, "output"), numbered(tensors, "cotangent")
    assert len(outputs) == len(wanted)
    for number, (y, expected) in enumerate(zip(outputs, wanted, strict=True)):
        assert_golden(y, expected, f"output {number}")
    sum((y * c).sum() for y, c in zip(outputs, cotangents, strict=True)).backward()
    for number, (x, expected) in enumerate(zip(inputs, numbered(tensors, "grad_input"), strict=True)):
        assert_golden(x.grad, expected, f"gradient of input {number}")
    grads, parameters = unpacked(part(tensors, "grad.")), dict(module.named_parameters())
    scale = max(grad.abs().max().item() for grad in grads.values())
    for key, expected in grads.items():
        ours = parameters.pop(to_ours(key, prefixes))
        assert_golden(ours.grad.reshape(expected.shape), expected, f"gradient of {key}", scale)
    assert all("unused" in key and parameter.grad is None for key, parameter in parameters.items())
    buffers = dict(module.named_buffers())
    for key, expected in part(tensors, "after.").items():
        assert_golden(buffers[to_ours(key, prefixes)], expected, f"{key} after the step")


def packed(state):
    """The rows of queries, keys and values in one, as nn.MultiheadAttention has them."""
    found = {}
    for key, value in state.items():
        head, cut, kind = key.rpartition("attn.attn.q.")
        if cut:
            found[f"{head}attn.attn.in_proj_{kind}"] = torch.cat([value, state[f"{head}attn.attn.kv.{kind}"]])
        elif "attn.attn.kv." not in key:
            found[key] = value
    return found


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        (UMIX, "umixformer_mit_b0", {"variant": "official", "form": "cityscapes", "embed": 64}),
        (UMIX, "umixformer_mscan_t", {"variant": "official"}),
        (UMIX, "umixformer_lvt", {"variant": "official"}),
        (UMIX, "feedformer_mit_b0", {"embed": 96, "encoder_options": {"eps": 1e-6}}),
        ("NVlabs/SegFormer", "segformer_mit_b0", {}),
        ("NVlabs/SegFormer", "mit_b0", {}),
    ],
    ids=str,
)
def test_a_whole_released_network_is_known_by_name(source, name, options, tmp_path):
    """Form, widths and classes are read from the weights."""
    ours = foveate.create_network(name, num_classes=5, **options).eval()
    given = {"form": "cityscapes"} if "form" in options else {}
    _, prefixes = _find(source, name).build(**given)
    state = {to_official(key, prefixes): value for key, value in ours.state_dict().items()}
    state = {"state_dict": packed(state) if "mit" in name and source == UMIX else state}
    ctor = {"num_classes": 5} if name == "mit_b0" else {}
    loaded = foveate.official.load(source, name, ctor, state)
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded(x), ours(x))
    assert origin_of(loaded).name == f"foveate:{name}"
    foveate.save(loaded, tmp_path / "a.safetensors")
    assert torch.equal(foveate.load(tmp_path / "a.safetensors")(x), ours(x))


def test_released_encoders_start_our_whole_networks(tmp_path):
    for pattern, encoder, options in (
        ("mit_nvlabs__tiny*", "mit", {"widths": [4, 4, 6, 8]}),
        ("mit_mmseg__tiny*", "mit", {"widths": [4, 8, 8, 16], "eps": 1e-6}),
        ("mscan__tiny_eval*", "mscan", {}),
        ("lvt__tiny*", "lvt", {"widths": [4, 4, 6, 8], "depths": [1] * 4, "heads": [2, 2, 3, 4], "ratios": [2] * 4}),
    ):
        (path,) = golden_files(pattern)
        header, tensors = read(path)
        ctor = header["ctor"]
        if encoder == "mit":
            options |= {"depths": [1] * 4, "heads": ctor["num_heads"], "ratios": [2] * 4}
        elif encoder == "mscan":
            options |= {"widths": ctor["embed_dims"], "depths": ctor["depths"], "ratios": ctor["mlp_ratios"]}
        network = foveate.create_network("segformer", num_classes=2, encoder=encoder, encoder_options=options, embed=8)
        state = {f"backbone.{key}": value for key, value in part(tensors, "param.").items()}
        torch.save({"state_dict": state | {"backbone.head.weight": torch.zeros(1)}}, tmp_path / "a.pth")
        started = foveate.official.start_encoder(network.double(), tmp_path / "a.pth")
        assert started.left == ("head.weight",)
        assert f"(by the names of {'mmseg' if 'mmseg' in pattern else header['source']})" in str(started)
        for got, wanted in zip(network.eval().encoder(tensors["input"]), numbered(tensors, "output"), strict=True):
            assert_golden(got, wanted, "a stage")
        first = next(key for key, value in state.items() if value.dim() == 4)
        torch.save(state | {first: state[first][:, :1]}, tmp_path / "grey.pth")
        with pytest.raises(ValueError, match=r"; \S+: wanted the shape \(\d+, \d+, \d, \d\), got \(\d+, 1, "):
            foveate.official.start_encoder(network, tmp_path / "grey.pth")


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        ("APFormerHead2", {"align_corners": True}, "align_corners must be False"),
        ("APFormerHead2", {"in_index": [1, 2, 3]}, "wanted the maps 0, 1, 2, 3 of four widths"),
        ("APFormerHeadCity", {"decoder_params": {"embed_dims": 6}}, "decoder_params must be"),
        ("FeedFormerHead", {"norm_cfg": {"type": "GN"}}, "norm_cfg must be 'BN'"),
        ("MixVisionTransformer", {"patch_sizes": [4, 2, 2, 2]}, "patch_sizes must be"),
    ],
)
def test_what_the_released_classes_can_and_ours_cannot_is_refused(cls, change, message):
    base = {} if cls == "MixVisionTransformer" else {"in_channels": [32, 64, 160, 256], "num_classes": 3}
    with pytest.raises(ValueError, match=message):
        foveate.official.load(UMIX, cls, base | change, {})
