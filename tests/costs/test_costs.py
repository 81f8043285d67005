"""Costs: intervals against their definition, networks left as they were."""

import torch
from torch import nn

import foveate
from foveate.costs import costs, macs, parameters
from foveate.costs.latency import interval_of_the_median, time_interleaved


def test_shared_parameters_count_once():
    a = nn.Linear(4, 4)
    assert parameters(nn.Sequential(a, a)) == 20


def test_the_interval_of_the_median_covers_it():
    """Distribution-free 95 %: of 400 samples of 25 from a skewed distribution, at least 92 % cover its median."""
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(400):
        found = interval_of_the_median(torch.rand(25, generator=generator).log().neg().tolist())
        assert found.low <= found.median <= found.high
        covered += found.low <= 0.6931471805599453 <= found.high
    assert covered >= 0.92 * 400


def test_steps_are_run_in_turns_equally_often():
    calls = []
    samples = time_interleaved({name: (lambda name=name: calls.append(name)) for name in "abc"}, repeats=7, budget_s=60)
    assert {name: len(times) for name, times in samples.items()} == {"a": 7, "b": 7, "c": 7}
    measured = calls[6:]
    assert [set(measured[i : i + 3]) for i in range(0, 21, 3)] == [set("abc")] * 7
    assert measured[:3] != measured[3:6], "no step is always first"
    calls.clear()
    time_interleaved({name: (lambda name=name: calls.append(name)) for name in "ab"}, repeats=8, budget_s=60)
    firsts = calls[4::2]
    assert firsts.count("a") == firsts.count("b") == 4


def test_a_cost_against_a_baseline_leaves_both_networks_as_they_were():
    plain, other = foveate.create_network("resnet8", num_classes=3), foveate.create_network("resnet8", num_classes=3)
    x = torch.randn(2, 3, 16, 16)
    foveate.insert(other, "se", example=x)
    other.train()
    other.layer1.eval()
    before = {key: value.clone() for key, value in other.state_dict().items()}
    found = foveate.cost(other, x, baseline=plain, repeats=5, budget_s=0.0, memory=False)
    assert found.parameters - parameters(plain) == sum(2 * c * (c // 16) + c // 16 + c for c in (16, 32, 64))
    assert found.macs > macs(plain.eval(), x)
    assert found.latency_ms.low <= found.latency_ms.median <= found.latency_ms.high
    assert found.latency_ratio is not None
    assert other.training
    assert not other.layer1.training
    assert not other.layer1[0].bn1.training
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    trained = costs({"none": plain, "se": other}, x, repeats=5, budget_s=0.0, training=True, memory=False)
    assert trained["se"].train_step_ms.median > 0
    assert trained["none"].train_step_ratio.high == 1
    assert other.training
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items()), "training is on a copy"
    assert all(p.grad is None for p in (*plain.parameters(), *other.parameters()))
