"""The mix-attention of U-MixFormer and what stands around it, against the released code's numbers."""

import pytest
import torch
from golden import assert_golden, golden_files, golden_loader, numbered, part, read
from torch.profiler import ProfilerActivity, profile

import foveate
from foveate.networks.umixformer import MixAttention, MixBlock, PooledStages

SOURCE = "julian-klitzing/u-mixformer"
PATHS = golden_files("umixformer_component__*")


def run(header, module, inputs):
    """The module on the file's inputs; the sizes stand in the header's call."""
    if header["cls"] == "CatKey":
        return module(inputs)
    if header["cls"] == "CrossAttention":
        return module(*inputs)
    sizes = dict(pair.strip().split("=") for pair in header["call"][2:-1].split(",") if "input" not in pair)
    return module(*inputs, (int(sizes["H1"]), int(sizes["W1"])))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_equals_the_released_numbers(path):
    header, tensors = read(path)
    inputs = [x.clone().requires_grad_() for x in numbered(tensors, "input")]
    module, to_ours = golden_loader(path)
    y = run(header, module, inputs)
    assert_golden(y, tensors["output"], "output")
    (y * tensors["cotangent"]).sum().backward()
    for i, x in enumerate(inputs):
        assert_golden(x.grad, tensors[f"grad_input.{i}"], f"gradient of input {i}")
    grads, parameters = part(tensors, "grad."), dict(module.named_parameters())
    used = {key for key in part(tensors, "param.") if key not in header["params_without_grad"]}
    assert used == set(grads)
    assert len(used) == len(parameters)
    scale = max(grad.abs().max().item() for grad in grads.values())
    for key, wanted in grads.items():
        assert_golden(parameters[to_ours[key]].grad, wanted, f"gradient of {key}", scale)


def test_has_golden_files_here_and_where_they_are_shared(shared):
    assert {path.stem.split("__")[1] for path in PATHS} == {"block", "catkey", "crossattention"}


def test_maps_are_pooled_to_the_deepest_grid_rounded_up():
    module = PooledStages((5, 4, 3), ratios=(1, 2, 4))
    maps = [torch.randn(2, c, h, w) for c, h, w in ((5, 2, 3), (4, 4, 5), (3, 7, 11))]
    assert module(maps).shape == (2, 12, 2, 3)
    assert torch.equal(module(maps)[:, :5], maps[0])
    doubled = PooledStages((5, 4), ratios=(2, 4))
    assert len(doubled.align) == 2
    for bad, message in (
        ([maps[0]], "wanted 3 maps, deep to shallow; got 1"),
        ([maps[0], maps[1], maps[1]], "must end on one grid; got 2×3, 2×3"),
    ):
        if len(bad) == 3:
            bad[2] = torch.randn(2, 3, 12, 12)
        with pytest.raises(ValueError, match=message):
            module(bad)
    with pytest.raises(ValueError, match=r"wanted a positive ratio for each of 2 maps; got ratios=\(1, 2, 4, 8\)"):
        PooledStages((5, 4))


def test_rows_are_asked_for_by_the_grid_of_the_queries():
    block = MixBlock(6, 10, heads=3).eval()
    x, y = torch.randn(2, 12, 6), torch.randn(2, 8, 10)
    with foveate.capture(block, queries=[(1, 2), 0]) as seen:
        block(x, y, (3, 4))
    rows = seen.maps["attention"]["affinity"]
    torch.testing.assert_close(rows.sum(2), torch.ones(2, 2))
    with foveate.capture(block.attention, queries=[6, 0]) as flat:
        block.attention(block.of_queries(x), block.of_mixed(y))
    torch.testing.assert_close(flat.maps[""]["affinity"], rows)


def test_no_map_of_pairs_is_held_in_training():
    attention = MixAttention(8, 12, heads=2)
    x, y = torch.randn(1, 2000, 8, requires_grad=True), torch.randn(1, 1500, 12, requires_grad=True)

    def step():
        attention(x, y).sum().backward()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        step()
    largest = max(event.cpu_memory_usage for event in seen.events() if event.name == "[memory]")
    assert largest < 2000 * 1500 * 4 / 8


def test_samples_are_dropped_in_training_only():
    block = MixBlock(4, 4, heads=1, drop_path=0.5)
    x, y = torch.randn(64, 6, 4), torch.randn(64, 3, 4)
    bare = block.of_sum(block.of_queries(x))
    kept = block.train()(x, y, (2, 3)) != bare
    alone = (~kept).flatten(1).all(1).sum()
    assert 4 < alone < 32  # a quarter on average goes without both terms
    assert (block.eval()(x, y, (2, 3)) != bare).flatten(1).any(1).all()
    assert torch.equal(block(x, y, (2, 3)), block(x, y, (2, 3)))


def test_what_the_released_classes_can_and_ours_cannot_is_refused():
    for cls, ctor, message in (
        ("CrossAttention", {"dim1": 4, "dim2": 4, "num_heads": 2, "attn_drop": 0.1}, "attn_drop must be 0.0"),
        ("Block", {"dim1": 4, "dim2": 4, "num_heads": 2, "qk_scale": 0.3}, "qk_scale must be None"),
        ("CrossAttention", {"dim1": 4, "dim2": 4, "num_heads": 3}, "heads must divide channels = 4; got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            foveate.official.load(SOURCE, cls, ctor, {})
