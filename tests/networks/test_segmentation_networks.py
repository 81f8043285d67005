"""Encoders and decoders for segmentation: published sizes, forms that agree, any image, weights of an encoder alone."""

import json

import pytest
import torch
from golden import OWN_GOLDEN
from segmentation_cases import LARGE, SCAN, TINY, built, image, slow
from torch import nn

import foveate
from foveate.costs import macs
from foveate.networks import build_network, list_networks
from foveate.networks._encoders import create_encoder
from foveate.networks._transformer import DropPath
from foveate.networks.segnext import NonNegativeFactors
from foveate.official import start_encoder

COUNTS = json.loads((OWN_GOLDEN / "param_counts.json").read_text())["networks"]


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "form"),
    [
        pytest.param(
            e, form, marks=[pytest.mark.slow] * (e not in ("MiT-B0", "LVT") or (e, form) == ("LVT", "cityscapes"))
        )
        for e in COUNTS["umixformer"]
        for form in ("ade20k", "cityscapes")
    ],
)
def test_published_pairs_have_their_parameters_and_arithmetic(encoder, form):
    name, wanted = "umixformer_" + encoder.lower().replace("-", "_"), COUNTS["umixformer"][encoder][form]
    classes, size = (150, (512, 512)) if form == "ade20k" else (19, (1024, 2048))
    with torch.device("meta"):
        official = foveate.create_network(name, num_classes=classes, form=form, variant="official").eval()
        assert count(official) == wanted["total"]
        assert count(official.encoder) == wanted["encoder"]
        assert count(foveate.create_network(name, num_classes=classes, form=form)) == wanted["total_used"]
        assert macs(official, torch.empty(1, 3, *size)) == wanted["macs"]


@pytest.mark.parametrize("name", ["mit_b0", "lvt", "mscan_t"])
def test_encoders_have_their_parameters_and_arithmetic(name):
    group, _, size = name.partition("_")
    found = COUNTS["lvt"] if group == "lvt" else COUNTS["mit"][name] if group == "mit" else COUNTS["mscan"][size]
    wanted = {key.split("_nvlabs")[0].split("_backbone")[0]: value for key, value in found.items()}
    with torch.device("meta"):
        encoder = create_encoder(name).eval()
        assert count(encoder) == (found["backbone"] if group == "lvt" else wanted["params"])
        assert macs(encoder, torch.empty(1, 3, 512, 512)) == wanted["macs_512"]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("segformer_mit_b0", 3.8),
        ("segformer_mit_b1", 13.7),
        ("segnext_mscan_t", 4.3),
        ("segnext_mscan_s", 13.9),
        ("feedformer_lvt", 4.6),
        pytest.param("transunet", 105.3, marks=pytest.mark.slow),
        ("swin_unet", 27.2),
    ],
)
def test_has_as_many_parameters_as_published(name, millions):
    with torch.device("meta"):
        assert round(count(foveate.create_network(name)) / 1e6, 1) == millions


@pytest.mark.parametrize("form", ["ade20k", "cityscapes"])
def test_without_the_unused_weights_the_outputs_are_the_same(form):
    options = {"encoder": "mit", "encoder_options": TINY, "form": form}
    official = foveate.create_network("umixformer", num_classes=3, variant="official", **options).double().eval()
    clean = foveate.create_network("umixformer", num_classes=3, **options).double().eval()
    kept = {key: value for key, value in official.state_dict().items() if "unused" not in key}
    clean.load_state_dict(kept, strict=True)
    x = torch.randn(1, 3, 71, 93).double()
    torch.testing.assert_close(clean(x), official(x), rtol=1e-9, atol=1e-9)
    paper = foveate.create_network("umixformer", num_classes=3, variant="paper", **options).double().eval()
    paper.load_state_dict(kept, strict=True)
    assert (paper(x) - clean(x)).abs().max() > 1e-3


@pytest.mark.parametrize("kv", ["mix", "cross", "self"])
def test_keys_come_from_where_the_option_says(kv):
    network = built("umixformer", kv=kv)
    maps = [x.detach().requires_grad_() for x in network.encoder(torch.randn(1, 3, 64, 64))]
    for number, block in enumerate(network.decoder.blocks):
        widths = [32, 20, 16, 8]
        mixed = {"mix": sum(widths), "cross": widths[max(number - 1, 0)], "self": widths[number]}[kv]
        assert block.attention.key_value.in_features == mixed
    seen = []
    network.decoder.blocks[1].register_forward_hook(lambda _, inputs, y: seen.append((inputs[1].sum(), y)))
    network.decoder(maps)
    read = torch.autograd.grad(seen[0][0], maps, allow_unused=True)
    sources = [gradient is not None for gradient in read]
    assert sources == {"mix": [True] * 4, "cross": [False] * 3 + [True], "self": [False, False, True, False]}[kv]


@pytest.mark.parametrize("case", slow(LARGE))
def test_images_of_any_size_get_logits_and_every_weight_a_gradient(case):
    network = built(case)
    for size in ((101, 101, 5), (37, 53, 19), (1, 1, 1)):
        x = image(case, *size)
        with torch.no_grad():
            y = network(x)
        assert y.shape == (1, 3, *x.shape[2:])
        assert y.isfinite().all()
    given = network.train()(image(case, 33, 47, 17, count=2))
    sum(y.square().sum() for y in (given if isinstance(given, tuple) else [given])).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


def test_the_cityscapes_form_takes_sides_that_are_no_multiple_of_64():
    network = built("umixformer cityscapes")
    assert network(torch.randn(1, 3, 97, 131)).shape == (1, 3, 97, 131)
    assert network.decoder(network.encoder(torch.randn(1, 3, 97, 131))).shape == (1, 3, 25, 33)


@pytest.mark.parametrize("encoder", ["timm:resnet18", "torchvision:mobilenet_v3_small"])
def test_a_network_of_another_library_is_an_encoder(encoder):
    network = foveate.create_network("umixformer", num_classes=3, encoder=encoder).eval()
    expected = {"timm:resnet18": (64, 128, 256, 512), "torchvision:mobilenet_v3_small": (16, 24, 48, 576)}[encoder]
    assert network.encoder.widths == expected
    assert network(torch.randn(1, 3, 50, 37)).shape == (1, 3, 50, 37)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("umixformer", {"form": "voc"}, "form must be one of 'ade20k', 'cityscapes'; got 'voc'"),
        ("umixformer", {"variant": "released"}, "variant must be one of 'clean', 'official', 'paper'; got 'released'"),
        ("umixformer", {"kv": "both"}, "kv must be one of 'mix', 'cross', 'self'; got 'both'"),
        ("umixformer", {"heads": [3, 5, 2, 1]}, "heads must divide channels = 256; got 3"),
        ("umixformer", {"encoder": "mit_b6"}, "no encoder is called 'mit_b6'; did you mean 'mit_b"),
        ("umixformer", {"encoder": "hub:x"}, "wanted NAME, timm:NAME or torchvision:NAME; got source 'hub'"),
        ("umixformer", {"encoder": "timm:vit_tiny_patch16_224"}, "gives no maps at strides 4, 8, 16 and 32"),
        ("umixformer", {"encoder": "torchvision:alexnet"}, "gives no map at stride 4"),
        ("segnext", {"embed": 100}, "embed must be a multiple of 32; got 100"),
        ("segformer", {"encoder": "mit", "encoder_options": {"depths": [2, 2]}}, "depths must be four positive whole"),
        (
            "segformer",
            {"encoder": "mit", "encoder_options": {"ratios": [4, 4]}},
            "ratios must have an entry for each of",
        ),
        ("setr_pup", {"encoder": "timm:resnet18"}, 'wanted encoder="timm:NAME" of a vision transformer; got'),
        ("transunet", {"encoder": "timm:vit_tiny_patch16_224"}, "of a hybrid with a ResNetV2; got"),
        ("swin_unet", {"encoder": "timm:resnet18"}, "of a Swin transformer; got"),
        ("danet_resnet50", {"depth": 18}, "depth must be 50, 101 or 152; got 18"),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(name, options, message):
    with torch.device("meta"), pytest.raises((ValueError, LookupError)) as error:
        foveate.create_network(name, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_danet_supervises_three_outputs_in_training_and_gives_one():
    network = foveate.create_network("danet_resnet50", num_classes=3)
    strides = {tuple(m.stride) for m in network.encoder.layer4.modules() if isinstance(m, nn.Conv2d)}
    assert strides == {(1, 1)}
    with torch.device("meta"):
        network = foveate.create_network("danet_resnet50", num_classes=3)
        x = torch.empty(2, 3, 65, 70)
        assert [one.shape for one in network(x)] == [(2, 3, 65, 70)] * 3
        assert network.eval()(x).shape == (2, 3, 65, 70)
        assert network.encoder.features(x)[-1].shape[2:] == (9, 9)


@pytest.mark.parametrize(
    ("case", "outputs"), [("setr naive", 3), ("setr pup", 3), ("setr mla", 5), ("unet scse", 2), ("unet gates", 1)]
)
def test_auxiliary_outputs_come_in_training_alone(case, outputs):
    network, x = built(case), image(case, 33, 40, count=2)
    assert network(x).shape == (2, 3, 33, 40)
    given = network.train()(x)
    shapes = [one.shape for one in (given if isinstance(given, tuple) else [given])]
    assert shapes == [(2, 3, 33, 40)] * outputs


def test_auxiliary_heads_read_the_blocks_that_are_named():
    network, x = built("setr naive", auxiliary=[1, 3]).train(), image("setr naive", 32, 32, count=2)
    seen, given = [], []
    network.encoder.blocks[2].register_forward_hook(lambda _, inputs, tokens: seen.append(tokens))
    network.auxiliary[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0][0]))
    network(x)
    tokens = network.encoder.norm(seen[0])[:, 1:]
    torch.testing.assert_close(given[0], tokens.mT.unflatten(2, (2, 2)))
    with pytest.raises(ValueError, match="auxiliary must list blocks from 1 to 4; got 5"):
        built("setr naive", auxiliary=[5])


def test_factors_explain_a_map_of_few_patterns_and_evaluation_draws_nothing():
    x = (torch.rand(2, 12, 3) @ torch.rand(2, 3, 30)).unflatten(2, (5, 6))
    factors = NonNegativeFactors(3, eval_steps=200).eval()
    y = factors(x)
    assert ((y - x).norm() / x.norm()).item() < 0.05
    assert torch.equal(y, factors(x))
    torch.testing.assert_close(factors(x[1:]), y[1:])
    factors.train()
    assert not torch.equal(factors(x), factors(x))


def test_samples_are_dropped_whole_and_the_others_scaled():
    dropped = DropPath(0.25).train()(torch.ones(4000, 2))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_the_weights_of_an_encoder_start_a_whole_network(tmp_path):
    path = tmp_path / "encoder.pth"
    encoder = create_encoder("mscan", options=SCAN)
    whole = built("segnext", encoder="mscan", encoder_options=SCAN)
    decoder = whole.decoder.classify.weight.clone()
    torch.save({"state_dict": encoder.state_dict() | {"fc.weight": torch.zeros(2, 2)}}, path)
    started = start_encoder(whole, path)
    assert "fc.weight" in str(started)
    assert started.taken + sum("num_batches" in key for key in encoder.state_dict()) == len(encoder.state_dict())
    assert all(torch.equal(value, whole.encoder.state_dict()[key]) for key, value in encoder.state_dict().items())
    assert torch.equal(whole.decoder.classify.weight, decoder)
    assert all(key.startswith("decoder.") for key in started.fresh)
    torch.save(create_encoder("mit", options=TINY).state_dict(), path)
    with pytest.raises(ValueError, match="tensors of the encoder, by our names or released ones; at most 0 of them"):
        start_encoder(whole, path)


@pytest.mark.parametrize("library", ["timm:resnet18", "torchvision:resnet18"])
def test_a_librarys_weights_start_its_network_as_an_encoder(library, tmp_path):
    classifier = build_network(library, num_classes=5)
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    whole = foveate.create_network("segformer", num_classes=3, encoder=library)
    started = start_encoder(whole, tmp_path / "a.pth")
    assert started.left == ("fc.weight", "fc.bias")
    x = torch.randn(1, 3, 64, 64)
    deep = whole.eval().encoder(x)[-1].mean((2, 3))
    torch.testing.assert_close(classifier.fc(deep), classifier.eval()(x))


def test_every_pair_has_a_name():
    names = set(list_networks())
    for decoder, encoders in {
        "umixformer": ["mit_b0", "mit_b5", "lvt", "mscan_t", "mscan_l"],
        "segformer": ["mit_b0", "mit_b5"],
        "feedformer": ["mit_b0", "lvt"],
        "segnext": ["mscan_t", "mscan_l"],
    }.items():
        assert {f"{decoder}_{encoder}" for encoder in encoders} <= names
