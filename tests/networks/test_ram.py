"""The recurrent attention model: what its sensor sees, and that its policy's gradient is the REINFORCE estimate."""

import pytest
import torch
import torch.nn.functional as F

import foveate
from foveate.data.open import open_data
from foveate.networks.ram import GlimpseSensor
from foveate.spec import DataSpec


def test_the_sensor_cuts_patches_around_a_place_each_twice_as_wide():
    x = torch.arange(256.0).reshape(1, 1, 16, 16)
    seen = GlimpseSensor(4, 2)(x, torch.tensor([[0.25, -0.25]]))  # pixel 10, 6 is the middle
    assert seen.shape == (1, 2, 4, 4)
    torch.testing.assert_close(seen[0, 0], x[0, 0, 4:8, 8:12])
    torch.testing.assert_close(seen[0, 1], F.avg_pool2d(x, 2)[0, 0, 1:5, 3:7])
    corner = GlimpseSensor(4, 1)(x, torch.tensor([[-1.0, -1.0]]))
    torch.testing.assert_close(corner[0, 0, 2:, 2:], x[0, 0, :2, :2])
    assert (corner[0, 0, :2] == 0).all(), "outside there is nothing"


def small(**options):
    return foveate.create_network("ram", num_classes=4, glimpses=3, patch=4, scales=2, hidden=16, **options)


def test_the_policy_learns_by_reinforce_alone_and_the_rest_by_cross_entropy():
    network, x, labels = small().double(), torch.randn(5, 1, 20, 17).double(), torch.tensor([0, 1, 2, 3, 0])
    torch.manual_seed(3)
    outputs = network(x)
    network.loss(outputs, labels).backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    torch.manual_seed(3)
    with foveate.capture(network) as seen:
        again = network(x)
    reward = (again["out"].argmax(1) == labels).double()
    places = seen.maps[""]["places"]
    assert places.shape == (5, 3, 2)
    assert (places[:, 0] == 0).all()
    normal = torch.distributions.Normal(torch.zeros(()).double(), 0.15)
    assert again["policy"].shape == again["baseline"].shape == (5, 2)
    assert (again["policy"] <= 2 * normal.log_prob(torch.zeros(()).double())).all()
    score = [torch.autograd.grad(again["policy"][i, t], network.place.weight, retain_graph=True)[0]
             for i in range(5) for t in range(2)]  # fmt: skip
    weights = (reward[:, None] - again["baseline"]).detach().flatten()
    by_hand = -sum(w * s for w, s in zip(weights, score, strict=True)) / 5
    torch.testing.assert_close(found["place.weight"], by_hand)
    F.cross_entropy(again["out"], labels).backward()
    for name, parameter in network.named_parameters():
        if name.split(".")[0] not in ("place", "baseline"):
            torch.testing.assert_close(found[name], parameter.grad)


def test_in_evaluation_it_looks_where_it_thinks_best_and_the_same_each_time():
    network, x = small().eval(), torch.randn(2, 1, 20, 20)
    assert torch.equal(network(x), network(x))
    assert network(x).shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"glimpses": 1}, "glimpses must be a whole number of at least 2; got 1"),
        ({"deviation": 0.0}, "deviation must be positive"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"ram: {message}"):
        foveate.create_network("ram", **options)
    with pytest.raises(ValueError, match=r"ram: wanted images \(N, 1, H, W\); got \(2, 3, 8, 8\)"):
        small()(torch.randn(2, 3, 8, 8))


@pytest.mark.slow
def test_it_learns_digits_that_lie_anywhere():
    options = {"degrees": 0, "shift": 0.4, "zoom": 1}
    spec = DataSpec(kind="planted", source="embedded", size=(24, 24), train_items=2000, test_items=500, options=options)
    data = open_data(spec)
    torch.manual_seed(0)
    network = foveate.create_network("ram", num_classes=10, glimpses=4, patch=8, scales=2, hidden=128)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, 20)
    for epoch in range(20):
        for items in torch.randperm(2000).split(64):
            batch = data.train.batch(items.tolist(), (0, epoch))
            optimiser.zero_grad()
            network.loss(network(batch.inputs), batch.targets["label"]).backward()
            optimiser.step()
        schedule.step()
    network.eval()
    batch = data.test.batch(list(range(500)), None)
    with torch.no_grad():
        right = (network(batch.inputs).argmax(1) == batch.targets["label"]).double().mean().item()
    assert right > 0.5
