"""Counts of whole networks: sums, what training keeps, what is left alone, what is refused."""

import pytest
import torch
from counting_steps import FLOAT, C, Steps, X
from torch import nn

import foveate
from foveate.counting import count


def test_sums_by_operator_module_and_stage():
    torch.manual_seed(0)
    network = foveate.create_network("resnet8", num_classes=3)
    found = count(network, torch.randn(2, 3, 32, 32), stages=("layer1", "layer2", "layer3"))
    total = found.total
    assert found.per_module()[""] == total
    assert list(found.per_stage()) == ["stem", "layer1", "layer2", "layer3", "head"]
    for name in ("parameters", "macs", "elementwise", "reductions", "bytes_read", "bytes_written", "activation_bytes",
                 "launches"):  # fmt: skip
        assert sum(getattr(s, name) for s in found.per_stage().values()) == getattr(total, name) > 0, name
        if name != "parameters":
            assert sum(getattr(s, name) for s in found.per_operator().values()) == getattr(total, name), name
    assert total.parameters == sum(p.numel() for p in network.parameters())
    block = found.per_module()["layer2.0"]
    assert block.macs == 2 * 16 * 16 * (32 * 16 * 9 + 32 * 32 * 9 + _shortcut(network))
    assert block.parameters == sum(p.numel() for p in network.layer2[0].parameters())
    assert found.per_stage()["layer2"] == found.per_module()["layer2"]


def _shortcut(network):
    return 32 * 16 if any(p.shape == (32, 16, 1, 1) for p in network.layer2.parameters()) else 0


def test_what_training_keeps_by_hand():
    n, given = X.numel() * FLOAT, X.clone().requires_grad_()
    assert count(nn.ReLU(), given).total.activation_bytes == n
    assert count(nn.Sequential(nn.ReLU(), nn.ReLU()), given).total.activation_bytes == 2 * n
    assert count(nn.Conv2d(8, 5, 3), given).total.activation_bytes == n, "the weights are not counted"
    found = count(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)), X)
    by_module = {path: sums.activation_bytes for path, sums in found.per_module().items()}
    batch_statistics = 2 * C * FLOAT
    assert by_module == {"": 3 * n + batch_statistics, "0": n, "1": n + batch_statistics, "2": 0}
    assert found.per_operator()["input"].activation_bytes == n, "the batch itself, for the gradient of the first weight"
    dropout = count(nn.Dropout(), given)
    assert dropout.total.activation_bytes > 0, "the mask is kept, since training is what is asked"


def test_a_network_is_left_as_it_was():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    network[2].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    count(network, X)
    assert [m.training for m in network] == [True, True, False]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_batch_that_batch_norm_cannot_train_on_is_counted_in_evaluation_mode():
    found = count(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8)), X[:1])
    assert found.untrained == "this batch is too small for batch norm to train on"
    assert found.total.activation_bytes > 0


REFUSED = [
    (nn.Conv2d(3, 4, 3), X, r"shape \[2, 8, 6, 5\].*Conv2d with a weight of \[4, 3, 3, 3\]\) was given \[2, 8, 6, 5\]"),
    (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), X,
     r"shape \[2, 8, 6, 5\]: 1 \(Linear.*\[2, 7\]\) was given \[2, 240\]"),
    (Steps(lambda s, x: x @ x), X, r"shape \[2, 8, 6, 5\]: the network \(Steps\) was given \[2, 8, 6, 5\]: .+"),
]  # fmt: skip


@pytest.mark.parametrize(("network", "x", "message"), REFUSED)
def test_a_batch_that_the_network_refuses_is_told_in_one_line(network, x, message):
    with pytest.raises(ValueError, match=rf"^the network refuses a batch of {message}") as error:
        count(network, x)
    assert "\n" not in str(error.value)
    assert not nn.modules.module._global_forward_hooks
