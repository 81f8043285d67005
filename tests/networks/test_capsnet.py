"""Capsules against the paper's equations, written out again here."""

import pytest
import torch

import foveate
from foveate.networks.capsnet import CapsNet, Decoder, margin_loss, route, squash


def test_squash_is_equation_1_and_has_a_gradient_at_zero():
    s = torch.randn(5, 8, dtype=torch.float64)
    length = s.norm(dim=1, keepdim=True)
    torch.testing.assert_close(squash(s), length**2 / (1 + length**2) * s / length)
    zero = torch.zeros(3, 8, requires_grad=True)
    squash(zero).sum().backward()
    assert zero.grad.abs().max() < 1e-15
    assert squash(torch.full((1, 4), 1e4)).norm() <= 1


@pytest.mark.parametrize("orphans", [False, True])
def test_routing_is_procedure_1(orphans):
    votes = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    for sample in range(2):
        b = torch.zeros(6, 4, dtype=torch.float64)
        for _ in range(3):
            exponents = b.exp()
            c = exponents / (exponents.sum(1, keepdim=True) + orphans)
            s = torch.stack([sum(c[i, j] * votes[sample, i, j] for i in range(6)) for j in range(4)])
            v = torch.stack([n @ n / (1 + n @ n) * n / (n @ n).sqrt() for n in s])
            b = b + torch.tensor([[votes[sample, i, j] @ v[j] for j in range(4)] for i in range(6)])
        torch.testing.assert_close(route(votes, iterations=3, orphans=orphans)[sample], v)
    assert not torch.allclose(route(votes, iterations=1), route(votes, iterations=3))


def test_the_margin_loss_is_equation_4():
    lengths = torch.tensor([[0.95, 0.2, 0.05], [0.5, 0.9, 0.1]])
    by_hand = (0.5 * 0.1**2 + (0.9 - 0.5) ** 2 + 0.5 * 0.8**2) / 2
    assert margin_loss(lengths, torch.tensor([0, 0])).item() == pytest.approx(by_hand)
    several = torch.tensor([[1, 0, 0], [1, 1, 0]])
    assert margin_loss(lengths, several).item() == pytest.approx((0.5 * 0.1**2 + 0.4**2) / 2)
    network = CapsNet(3, image_size=17, width=2, types=1)
    assert network.loss(lengths, torch.tensor([0, 0])).item() == pytest.approx(by_hand)
    with pytest.raises(ValueError, match=r"wanted labels \(2,\) or \(2, 3\); got \(3,\)"):
        network.loss(lengths, torch.tensor([0, 1, 2]))


def test_capsules_are_grouped_by_type_and_each_has_its_own_matrices():
    network = CapsNet(3, image_size=19, width=4, types=2).double()
    x = torch.randn(2, 1, 19, 19, dtype=torch.float64)
    maps = network.primary(network.conv1(x).relu())  # (2, 16, 2, 2)
    below = [maps[:, 8 * t : 8 * t + 8, r, c] for t in range(2) for r in range(2) for c in range(2)]
    assert network.weight.shape == (len(below), 3, 16, 8)
    votes = torch.stack(
        [torch.stack([squash(u) @ network.weight[i, j].T for j in range(3)], 1) for i, u in enumerate(below)], 1
    )
    torch.testing.assert_close(network(x), route(votes).norm(dim=2))


def test_the_papers_network_has_8_2_million_parameters_with_its_decoder():
    with torch.device("meta"):
        both = foveate.create_network("capsnet"), Decoder()
    assert sum(p.numel() for part in both for p in part.parameters()) == 8_215_568


def test_the_decoder_sees_only_the_capsule_of_the_label():
    decoder = Decoder(3, channels=1, image_size=5)
    capsules = torch.randn(2, 3, 16)
    y = decoder(capsules, torch.tensor([2, 0]))
    changed = capsules.clone()
    changed[0, :2] = 9
    assert y.shape == (2, 1, 5, 5)
    assert torch.equal(decoder(changed, torch.tensor([2, 0])), y)


def test_capsnet_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="wanted images \\(N, 1, 28, 28\\); got \\(2, 3, 32, 32\\)"):
        CapsNet(width=2, types=1)(torch.zeros(2, 3, 32, 32))
    assert CapsNet(in_channels=3, image_size=24, width=8, types=4, orphans=True)(torch.zeros(1, 3, 24, 24)).shape == (
        1,
        10,
    )


def test_capsnet_learns():
    torch.manual_seed(0)
    network = CapsNet(2, image_size=20, width=8, types=2)
    x = torch.zeros(16, 1, 20, 20)
    x[:8, :, 2:9], x[8:, :, 11:18] = 1, 1
    labels = torch.arange(16) // 8
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(15):
        optimiser.zero_grad()
        network.loss(network(x), labels).backward()
        optimiser.step()
    assert torch.equal(network(x).argmax(1), labels)
