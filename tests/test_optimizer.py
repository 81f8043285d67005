"""Schedules, the learning rate of decoder and classifier, clipped gradients, and keys that do not change."""

import pytest
import torch

from foveate.networks import build_network
from foveate.spec import DataSpec, Run, Training, Variant
from foveate.study_file import check_study
from foveate.train import learning_rate
from foveate.train.optimizer import head_parameters, make_optimizer


def test_poly_with_a_warm_up_from_a_ratio_is_the_recipe_of_segformer():
    spec = Training(lr=6e-5, schedule="poly", warmup_epochs=1.5, warmup_ratio=1e-6, epochs=160)
    rates = [learning_rate(step, 160_000, 1000, spec) for step in (0, 750, 1500, 80_000, 159_999)]
    shares = [1e-6, 1e-6 + (1 - 1e-6) / 2, 1, 1, 1]
    straight = [1 - step / 160_000 for step in (0, 750, 1500, 80_000, 159_999)]
    assert rates == pytest.approx([6e-5 * a * b for a, b in zip(shares, straight, strict=True)], rel=1e-12)
    curved = Training(lr=1, schedule="poly", power=0.9, warmup_epochs=0)
    assert learning_rate(75, 100, 10, curved) == pytest.approx(0.25**0.9)
    cosine = Training(lr=1, warmup_epochs=1, warmup_ratio=0.5)
    assert [learning_rate(step, 100, 10, cosine) for step in (0, 5, 10)] == pytest.approx([0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("network", "head"),
    [
        ("foveate:unet_small", ("up.", "skip.", "decoder.", "head.")),
        ("foveate:segformer_mit_b0", ("decoder.",)),
        ("foveate:resnet8", ("fc.",)),
        ("torchvision:vit_b_32", ("heads.",)),
        ("torchvision:lraspp_mobilenet_v3_large", ("classifier.",)),
    ],
)
def test_decoder_or_classifier_have_a_learning_rate_of_their_own(network, head):
    with torch.device("meta"):
        model = build_network(network, num_classes=5, in_channels=3)
    found = {id(parameter) for parameter in head_parameters(model)}
    assert {name for name, p in model.named_parameters() if id(p) in found} == {
        name for name, _ in model.named_parameters() if name.startswith(head)
    }
    optimizer = make_optimizer(model, Training(lr=0.1, head_lr=10, weight_decay=0.01))
    rates = {id(p): group["highest_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(p): 1.0 if id(p) in found else 0.1 for p in model.parameters()}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.01}


def test_a_network_without_a_known_head_has_no_rate_for_it():
    with pytest.raises(ValueError, match="head_lr: wanted a network with an encoder, or one whose classifier is known"):
        make_optimizer(torch.nn.Linear(2, 2), Training(head_lr=10))


def test_what_a_study_does_not_use_is_not_in_the_keys_of_its_runs():
    run = Run(network="foveate:resnet8", variant=Variant(), data=DataSpec(), train=Training(), seed=0)
    assert run.key == "fe3bfdbf8a7d9ee1"
    used = {"schedule": "poly", "power": 0.9, "warmup_ratio": 0.1, "head_lr": 10, "clip": 1.0}
    keys = [run.model_copy(update={"train": Training(**{"schedule": "poly", name: v})}).key for name, v in used.items()]
    assert len({run.key, *keys}) == 6


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"power": 0.9}, 'power goes with schedule = "poly"; got schedule = "cosine"'),
        ({"warmup_ratio": 0.1, "warmup_epochs": 0}, "warmup_ratio goes with warmup_epochs above 0"),
        ({"schedule": "step"}, "train.schedule: wanted 'cosine' or 'poly'"),
        ({"clip": 0}, "train.clip: wanted greater than 0; got 0"),
    ],
)
def test_training_options_that_would_be_ignored_are_refused(train, message):
    with pytest.raises(ValueError) as caught:
        check_study({"train": train})
    assert message in str(caught.value)
