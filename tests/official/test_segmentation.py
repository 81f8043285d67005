"""Encoders, decoders and whole networks for segmentation against the released code's numbers, and their keys."""

import pytest
from conftest import golden_files
from golden import assert_golden, numbered, part, read
from torch import nn

import foveate
from foveate.networks._transformer import DropPath
from foveate.official._conversions import _find, to_ours

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


def unpacked(tensors):
    """The rows of queries apart from those of keys and values, as we have them."""
    found = {}
    for key, value in tensors.items():
        head, packed, kind = key.rpartition("attn.in_proj_")
        if packed:
            width = len(value) // 3
            found |= {f"{head}attn.q.{kind}": value[:width], f"{head}attn.kv.{kind}": value[width:]}
        else:
            found[key] = value
    return found


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
