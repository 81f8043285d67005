"""C2D and I3D, non-local blocks, networks of segments: published sizes, weights of images, any clip, kept in files."""

import copy
import json

import pytest
import torch
from golden import OWN_GOLDEN
from torch import nn

import foveate
from foveate.networks import build_network, inflate
from foveate.official._conversions import _find, to_official
from foveate.tasks.task import extra_losses

COUNTS = json.loads((OWN_GOLDEN / "param_counts.json").read_text())["networks"]["nonlocal_video"]


@pytest.mark.parametrize("name", COUNTS)
def test_the_networks_have_their_published_parameters(name):
    arch, *_, depth = name.lower().split("_")
    ours = f"{'nl_' * ('NLN' in name)}{arch}_resnet{depth[1:]}"
    with torch.device("meta"):
        network = foveate.create_network(ours)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]["params"]
    for place, count in COUNTS[name]["nonlocal_blocks"].items() if depth == "r50" else ():
        stage, _, index = place.removeprefix("s").replace("pathway0_nonlocal", "").partition(".")
        block = network.get_submodule(f"layer{int(stage) - 1}.{index}.attention")
        assert sum(p.numel() for p in block.parameters()) == count


def images(classes=5):
    torch.manual_seed(0)
    network = foveate.create_network("resnet50", num_classes=classes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return network


def test_inflated_weights_give_what_the_network_of_images_gives_and_fresh_non_local_blocks_change_nothing(tmp_path):
    network, x = images(), torch.randn(2, 3, 48, 40)
    clip = x[:, :, None].expand(-1, -1, 9, -1, -1).contiguous()
    flat = foveate.create_network("nl_c2d_resnet50", num_classes=5, stem="slowfast").eval()
    fresh = inflate(flat, network.state_dict())
    assert {name.split(".attention.")[0] for name in fresh} == {
        f"layer{at}" for at in ("2.1", "2.3", "3.1", "3.3", "3.5")
    }
    with torch.no_grad():
        torch.testing.assert_close(flat(clip), network(x), rtol=1e-4, atol=1e-4)
    torch.save(network.state_dict(), tmp_path / "images.pt")
    deep = build_network("nl_i3d_resnet50", num_classes=7, weights=tmp_path / "images.pt", stem="slowfast")
    assert deep.fc.weight.shape == (7, 2048), "a classifier for other classes stays fresh"
    kernel = deep.layer1[0].conv1.weight
    torch.testing.assert_close(kernel.sum(2), network.layer1[0].conv1.weight)
    assert torch.equal(kernel[:, :, 0], kernel[:, :, 2])
    with pytest.raises(ValueError, match="'layer1.0.conv1.weight' is missing"):
        inflate(deep, {k: v for k, v in images(7).state_dict().items() if k != "layer1.0.conv1.weight"})


@pytest.mark.parametrize("over", ["spacetime", "space", "time"])
def test_a_position_looks_at_its_frame_at_its_place_or_at_all(over):
    torch.manual_seed(1)
    block = foveate.create_network("c2d_resnet50", num_classes=2, blocks=1, over=over).layer3[4].attention.double()
    block.norm = None
    nn.init.normal_(block.out.weight)
    x = torch.randn(1, 1024, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    block(x)[0, :, 1, 2, 3].square().sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    wanted = torch.zeros(3, 4, 4, dtype=torch.bool)
    wanted[1 if over == "space" else slice(None), 2 if over == "time" else slice(None), slice(None)] = True
    if over == "time":
        wanted[:, 2, :3] = False
        assert torch.equal(seen, wanted)
    assert seen.any(2).any(1).tolist() == wanted.any(2).any(1).tolist()
    assert (seen <= wanted).all()


NETWORKS = {
    "nl_i3d_resnet50": {"inflation": "3x3x3"},
    "c2d_resnet50": {"stem": "paper", "blocks": 10, "over": "space"},
    "c2d_resnet14": {"stem": "image", "width": 8, "blocks": [[], [0], [], []], "group_frames": 2, "inner": 4},
    "tsn": {"backbone": "timm:resnet18", "consensus": "max"},
    "iastp_tsn": {"encoder": "mit_b0", "fusion": "max"},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "c2d_resnet50")) for n in NETWORKS])
def test_a_network_of_clips_learns_takes_attention_and_comes_back_from_its_file(name, tmp_path):
    torch.manual_seed(2)
    network = foveate.create_network(name, num_classes=4, **NETWORKS[name])
    x = torch.randn(2, 3, 4, 35, 38)
    network.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    foveate.insert(network, "se", at="stage", example=x)
    with torch.no_grad():
        wanted = network(x)
        assert wanted.shape == (2, 4)
        again = foveate.load(foveate.save(network, tmp_path / "net.safetensors"))
        assert torch.equal(again(x), wanted)
        count = 2 if "group_frames" in NETWORKS[name] else 3
        assert network(x[:1, :, :count]).shape == (1, 4), "any number of frames"


def test_frames_are_images_to_a_network_of_segments_and_to_one_that_never_pools_time():
    torch.manual_seed(3)
    x = torch.randn(2, 3, 3, 32, 32)
    flat = foveate.create_network("c2d_resnet14", num_classes=4, stem="image", width=8).eval()
    with torch.no_grad():
        each = torch.stack([flat(x[:, :, frame : frame + 1]) for frame in range(3)])
        torch.testing.assert_close(flat(x), each.mean(0))
    with pytest.raises(ValueError, match="blocks: at depth 14 wanted a list for each stage; got 5"):
        foveate.create_network("c2d_resnet14", num_classes=4, blocks=5)
    network = foveate.create_network("tsn", num_classes=4, backbone="resnet18").eval()
    with torch.no_grad():
        each = torch.stack([network.backbone(x[:, :, frame]) for frame in range(3)])
        torch.testing.assert_close(network(x), each.mean(0))
        torch.testing.assert_close(network(x), network(x[:, :, [2, 0, 1]]))
    with pytest.raises(ValueError, match="wanted clips"):
        network(x[:, :, 0])


@pytest.mark.parametrize(("scales", "fusion"), [(1, "sum"), (3, "mean"), (4, "max")])
def test_interaction_aware_attention_makes_one_map_of_all_frames_and_has_two_losses(scales, fusion):
    torch.manual_seed(4)
    options = {"encoder": "timm:resnet18", "scales": scales, "fusion": fusion, "size": [3, 2]}
    network = foveate.create_network("iastp_tsn", num_classes=4, **options)
    seen = []
    network.attention.register_forward_hook(lambda _, __, y: seen.append(y.shape))
    network(torch.randn(2, 3, 5, 64, 32))
    assert seen == [(2, 512, 2, 1)]
    losses = extra_losses(network)
    assert set(losses) == {"interactive", "attention"}
    constant = (3 * 2 * 5 * 3 * 2) ** 0.5  # T5
    assert (abs(losses["attention"].item() - constant) < 1e-3) == (scales == 1)


def test_released_names_are_read():
    cfg = {
        "MODEL": {"ARCH": "i3d"},
        "RESNET": {"DEPTH": 50},
        "NONLOCAL": {"LOCATION": [[[]], [[1, 3]], [[1, 3, 5]], [[]]], "INSTANTIATION": "softmax"},
    }
    source = "facebookresearch/SlowFast"
    network, keys = _find(source, "ResNet").build(cfg, 6)
    theirs = {to_official(name, keys): value for name, value in network.state_dict().items()}
    assert "s4.pathway0_nonlocal5.conv_theta.weight" in theirs
    assert {"s2.pathway0_res0.branch1_bn.running_var", "s5.pathway0_res2.branch2.c_bn.weight"} <= theirs.keys()
    loaded = foveate.official.load(source, "ResNet", {"cfg": cfg}, theirs)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    with pytest.raises(ValueError, match="MODEL.ARCH must be one of 'c2d', 'i3d'; got 'slowfast'"):
        foveate.official.load(source, "ResNet", {"cfg": {"MODEL": {"ARCH": "slowfast"}}}, theirs)


def caffe2_name(name):
    """The blob of one of our tensors."""
    *place, kind = name.split(".")
    norms = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    if place == ["conv1"] or place == ["fc"]:
        return f"{'conv1' if place == ['conv1'] else 'pred'}_{kind[0]}"
    if place == ["bn1"]:
        return f"res_conv1_bn_{norms[kind]}"
    stage, index, part = int(place[0][-1]) + 1, place[1], place[2]
    if part == "attention":
        return f"nonlocal_conv{stage}_{index}_" + (
            f"bn_{norms[kind]}" if place[3] == "norm" else f"{place[3]}_{kind[0]}"
        )
    branch = "1" if part == "downsample" else f"2{'abc'[int(part[-1]) - 1]}"
    is_norm = part.startswith("bn") or place[3:] == ["1"]
    return f"res{stage}_{index}_branch{branch}" + (f"_bn_{norms[kind]}" if is_norm else "_w")


def test_blobs_of_the_caffe2_release_say_which_network_they_are_of():
    torch.manual_seed(5)
    network = foveate.create_network("c2d_resnet50", num_classes=6, blocks=5).eval()
    blobs = {caffe2_name(k): v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert "nonlocal_conv4_5_theta_w" in blobs
    blobs["conv1_w_momentum"] = torch.zeros(1)
    loaded = foveate.official.load("facebookresearch/video-nonlocal-net", "resnet_video", {}, blobs)
    assert len(blobs) - 1 == len([k for k in network.state_dict() if not k.endswith("num_batches_tracked")])
    x = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize("attention", ["temporal", "cbam_temporal"])
def test_attention_of_clips_sees_the_frames_that_a_network_of_segments_puts_into_its_batch(attention, tmp_path):
    torch.manual_seed(6)
    network = foveate.create_network("tsn", num_classes=4, backbone="resnet20").eval()
    x = torch.randn(2, 3, 4, 16, 16)
    with torch.no_grad():
        plain = network(x)
        foveate.insert(network, attention, at="stage", example=x, init="identity", reduction=4)
        torch.testing.assert_close(network(x), plain, rtol=0, atol=1e-6)
        foveate.remove(network)
        foveate.insert(network, attention, at="stage", example=x, reduction=4)
        (site, module), *others = foveate.inserted(network)
        assert len(others) == 2
        seen = []
        module.attention.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
        with foveate.capture(network) as maps:
            given = network(x)
        assert seen == [(2, 16, 4, 16, 16)]
        assert maps.maps[site]["temporal"].shape == (2, 4)
        assert not torch.allclose(given, network(x[:, :, [2, 0, 3, 1]])), "frames have an order"
        assert network(x[:, :, :3]).shape == (2, 4)
        assert seen[-1] == (2, 16, 3, 16, 16), "clips of another length"
        again = foveate.load(foveate.save(network, tmp_path / "net.safetensors"))
        assert torch.equal(again.eval()(x), given)
        torch.testing.assert_close(copy.deepcopy(network)(x[:1]), given[:1])
        foveate.remove(network)
        assert torch.equal(network(x), plain)
