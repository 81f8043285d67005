"""DANet's head: its size, its official keys, its three answers."""

import pytest
import torch

import foveate
from foveate.networks.danet import DANetHead
from foveate.official._conversions import to_official
from foveate.official.danet import head


def test_has_as_many_parameters_as_the_official_head():
    with torch.device("meta"):
        assert sum(p.numel() for p in DANetHead(2048, 19).parameters()) == 23_954_619


def test_takes_an_official_state_dict_and_gives_three_maps():
    ours, keys = head(32, 3, "BatchNorm2d")
    state = {to_official(key, keys): value for key, value in ours.state_dict().items()}
    assert {"conv5a.0.weight", "sa.query_conv.bias", "sa.gamma", "sc.gamma", "conv52.1.running_var"} <= state.keys()
    assert {"conv6.1.weight", "conv7.1.bias", "conv8.1.weight"} <= state.keys()
    ctor = {"in_channels": 32, "out_channels": 3, "norm_layer": "BatchNorm2d"}
    loaded = foveate.official.load("junfu1115/DANet", "DANetHead", ctor, state)
    x = torch.randn(2, 32, 5, 6)
    answers = loaded(x)
    assert [tuple(y.shape) for y in answers] == [(2, 3, 5, 6)] * 3
    for one, other in zip(answers, ours.eval()(x), strict=True):
        torch.testing.assert_close(one, other)


def test_the_sum_of_the_branches_is_classified_first():
    head = DANetHead(32, 3).eval()
    x = torch.randn(1, 32, 5, 6)
    position = head.after_position(head.before_position(x))  # γ = 0: the attention is the identity
    channel = head.after_channel(head.before_channel(x))
    wanted = head.classify_sum(position + channel), head.classify_position(position), head.classify_channel(channel)
    for one, other in zip(head(x), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="channels must be at least 32; got 16"):
        DANetHead(16, 3)
