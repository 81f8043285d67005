"""Measured costs: peak memory against tensors of known size, settings, modules, batches too large, the runtime."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import foveate
from foveate.costs import Latency, Ranking, Setting, compared, costs, distinguishable, ranked, throughput
from foveate.costs.energy import energy_mj
from foveate.costs.latency import interval_of_a_repeat, interval_of_the_median
from foveate.costs.measure import Cost
from foveate.costs.memory import halving, start_measuring_peaks, within_memory
from foveate.counting import Count

QUICK = {"repeats": 5, "budget_s": 0.0, "memory": False}


class Widens(nn.Module):
    """Makes tensors of 24 and 48 MiB of a batch of 8 MiB; no more than the two of them at once."""

    def forward(self, x):
        y = torch.cat([x, x, x])
        return torch.cat([y, y]).sum()


def test_peak_memory_is_what_the_tensors_of_a_pass_take():
    x = torch.randn(8, 2**18)
    networks = {"sigmoid": nn.Sequential(nn.Sigmoid()), "in place": nn.ReLU(inplace=True), "widens": Widens()}
    peaks = start_measuring_peaks(networks, x, Setting(), training=False)()
    assert {name: round(mib) for name, (mib,) in peaks.items()} == {"sigmoid": 8, "in place": 0, "widens": 72}


def test_peak_memory_of_a_training_step_holds_what_is_kept():
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid()) for _ in range(3)))
    x = torch.randn(16, 4, 256, 256)
    found = costs({"it": network}, x, repeats=3, budget_s=0.0, training=True)["it"]
    assert found.train_peak_mib > found.peak_mib > 15
    assert found.train_peak_mib > found.activation_bytes / 2**20 * 0.9


def test_a_network_that_cannot_be_sent_says_why_it_has_no_peak():
    class Local(nn.Identity):
        pass

    found = foveate.cost(Local(), torch.randn(2, 3), repeats=3, budget_s=0.0)
    assert found.peak_mib is None
    assert any("peak memory: the network cannot be sent to a process of its own" in note for note in found.notes)


@pytest.mark.parametrize(
    ("setting", "size"),
    [  # and bytes of a number
        (Setting(dtype="bf16"), 2),
        (Setting(dtype="fp16"), 2),
        (Setting(channels_last=True), 4),
        (Setting(device="cpu", dtype="fp32"), 4),
    ],
)
def test_numbers_and_layout_are_those_of_the_setting(setting, size):
    seen = {}

    class Looks(nn.Conv2d):
        def forward(self, x):
            seen.update(
                dtype=x.dtype, last=x.is_contiguous(memory_format=torch.channels_last), weight=self.weight.dtype
            )
            return super().forward(x)

    network, x = Looks(4, 4, 3, bias=False), torch.randn(2, 4, 9, 9)
    found = costs({"it": network}, x, setting=setting, **QUICK)["it"]
    assert seen["dtype"].itemsize == seen["weight"].itemsize == size
    assert seen["last"] == setting.channels_last
    assert found.bytes_moved == size * (x.numel() + 4 * 4 * 9 + 2 * 4 * 49)
    assert network.weight.dtype == torch.float32
    assert network.weight.is_contiguous()


def test_mixed_precision_casts_where_it_runs():
    network = nn.Sequential(nn.Linear(8, 8), nn.Softmax(1))
    found = costs({"it": network}, torch.randn(4, 8), setting=Setting(amp=True), **QUICK)["it"]
    assert "aten._to_copy" in found.counted.per_operator()
    assert found.counted.per_operator()["aten.addmm"].macs == 4 * 8 * 8
    assert [row.dtype for row in found.counted.rows if row.operator == "aten.addmm"] == ["bfloat16"]


@pytest.mark.slow
def test_compiled_networks_are_measured():
    plain = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    found = costs({"it": plain}, torch.randn(4, 8), setting=Setting(compile=True), **QUICK)["it"]
    assert found.macs == 4 * 8 * 8, "counted as it is before the compiler"
    assert found.latency_ms.median > 0


def test_every_inserted_module_is_timed():
    plain, other = (foveate.create_network("resnet8", num_classes=3) for _ in range(2))
    x = torch.randn(2, 3, 16, 16)
    foveate.insert(other, "se", example=x)
    found = costs({"none": plain, "se": other}, x, modules=True, stages=True, **QUICK)
    assert not found["none"].inserted_ms
    assert len(found["se"].inserted_ms) == 3
    inside = sum(time.low for time in found["se"].inserted_ms.values())
    assert 0 < inside < max(found["se"].times_ms) * 3
    assert list(found["se"].counted.per_stage()) == ["stem", "layer1", "layer2", "layer3", "head"]
    assert not any(module._forward_hooks for module in other.modules())


def cost_of(times):
    return Cost(counted=Count(()), batch_size=1, latency_ms=interval_of_a_repeat(times), times_ms=tuple(times))


def test_networks_within_the_noise_are_told_pair_by_pair():
    noise = torch.randn(40, generator=torch.Generator().manual_seed(1)).mul(0.1).exp().tolist()
    found = {
        "slow": cost_of([1.5 * one for one in noise]),
        "a": cost_of([1.001 * one for one in noise[::-1]]),
        "b": cost_of(noise),
    }
    assert ranked(found) == Ranking(("b", "a", "slow"), (("b", "a"),))
    assert not distinguishable(compared(found["a"], found["b"]))
    assert compared(found["slow"], found["b"]) == Latency(1.5, pytest.approx(1.5 / 1.02), pytest.approx(1.5 * 1.02))
    with pytest.raises(ValueError, match="two costs of one run"):
        compared(found["a"], cost_of([1.0, 2.0]))


def test_a_network_may_be_like_two_that_differ():
    """A row called slower than plain must not stand as not distinguishable from plain below the table."""
    found = {name: cost_of([times] * 40) for name, times in (("none", 1.0), ("se", 1.018), ("eca", 1.03))}
    ranking = ranked(found)
    assert ranking == Ranking(("none", "se", "eca"), (("none", "se"), ("se", "eca")))


def test_the_interval_of_a_row_leaves_out_1_where_it_is_called_slower():
    plain, close, far = (
        cost_of([times * (1 + 0.001 * (turn % 3)) for turn in range(60)]) for times in (1.0, 1.015, 1.1)
    )
    for one, told in ((close, "not distinguishable"), (far, "slower")):
        ratio = compared(one, plain)
        row = replace(one, latency_ratio=ratio).row()
        assert row["told"] == told
        assert (ratio.low > 1) == (told == "slower")


def test_a_ratio_is_no_surer_than_its_parts_in_time():
    drifting = [1.0 + 0.01 * turn for turn in range(100)]
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(0)).tolist()
    alone = interval_of_the_median([drifting[turn] for turn in shuffled])
    found = interval_of_the_median(drifting)
    assert found.high - found.low > 1.2 * (alone.high - alone.low)
    assert found.low > 0


def test_the_interval_of_a_repeat_holds_the_drift():
    assert interval_of_a_repeat([5.0] * 30) == Latency(5.0, 5.0, 5.0)
    found = interval_of_a_repeat([1.0] * 50 + [1.2] * 50 + [1.0])
    assert found == Latency(1.0, 1.0, pytest.approx(1.2))
    found = interval_of_a_repeat([0.9] + [1.0] * 50 + [1.2] * 70)
    assert found == Latency(1.2, pytest.approx(1.0), pytest.approx(1.4))


def test_throughput_at_growing_batches():
    networks = {"a": nn.Linear(8, 8), "b": nn.Linear(8, 4)}
    rows, said = throughput(networks, torch.randn(1, 8), most=6, budget_s=0.0)
    assert [row.batch_size for row in rows] == [1, 2, 4, 6]
    assert not said
    assert all(time.low <= time.median <= time.high for row in rows for time in row.images_s.values())
    with pytest.raises(ValueError, match="wanted a largest batch of 1 or more; got 0"):
        throughput(networks, torch.randn(1, 8), most=0)


class Hungry(nn.Module):
    """Wants four tebibytes for a batch of more than three."""

    def forward(self, x):
        return x + torch.empty(2**40 if len(x) > 3 else 1)[:1]


def test_a_batch_too_large_for_memory_is_halved_and_said():
    found = costs({"it": Hungry()}, torch.randn(13, 2), **QUICK)["it"]
    assert found.batch_size == 3
    assert found.notes[:2] == (
        "a batch of 13 does not fit into the memory of cpu; halved to 6",
        "a batch of 6 does not fit into the memory of cpu; halved to 3",
    )
    assert found.counted.inputs == ((3, 2),)
    rows, said = throughput({"it": Hungry()}, torch.randn(1, 2), most=8, budget_s=0.0)
    assert [row.batch_size for row in rows] == [1, 2]
    assert said == ["a batch of 4 does not fit into memory"]
    with pytest.raises(RuntimeError, match="out of memory on cpu with a batch of 1"):
        halving(1, lambda batch: torch.empty(2**45), on="cpu")


def test_memory_that_is_not_there_is_refused_at_once():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with within_memory(), pytest.raises(RuntimeError, match="allocate memory"):
        torch.ones(2**40)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_other_failures_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="something else"):
        halving(8, lambda batch: exec("raise RuntimeError('something else')"), on="cpu")


def test_energy_says_that_there_is_no_meter():
    assert energy_mj(lambda: None, torch.device("cpu")) == (
        "energy: not available on cpu; NVML gives it for NVIDIA GPUs"
    )


def test_the_exported_network_is_checked_and_timed():
    pytest.importorskip("onnxruntime")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    found = costs({"it": network}, torch.randn(2, 3, 8, 8), setting=Setting(target="onnxruntime"), **QUICK)["it"]
    assert found.latency_ms.median > 0
    assert found.macs == 2 * 36 * 4 * 27
    assert found.notes[0].startswith("exported and checked: onnxruntime is off by ")


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x


MISTAKES = [
    ({"device": "cuda:77"}, r"device: wanted one of this machine's \(cpu.*\); got 'cuda:77'"),
    ({"device": "tpu"}, r"device: wanted one of this machine's"),
    ({"dtype": "int8"}, r"dtype: wanted one of fp32, bf16, fp16; got 'int8'"),
    ({"amp": True, "dtype": "fp32"}, r"amp computes in bf16 or fp16; got dtype='fp32'"),
    ({"target": "tflite"}, r"target: wanted one of torch, onnxruntime; got 'tflite'"),
    ({"target": "onnxruntime", "compile": True}, r"target onnxruntime compiles and lays out by itself"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_setting_that_cannot_be_is_told_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Setting(**options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_exported_or_trained_is_told_in_one_line():
    pytest.importorskip("onnxruntime")
    runtime = Setting(target="onnxruntime")
    with pytest.raises(ValueError, match=r"it: cannot be exported to ONNX: .+") as error:
        costs({"it": Branches()}, torch.randn(2, 3), setting=runtime, **QUICK)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="runs no training step"):
        costs({"it": nn.ReLU()}, torch.randn(2, 3), setting=runtime, training=True, **QUICK)


def test_figures_as_plain_values():
    found = foveate.cost(Branches(), torch.randn(2, 3), repeats=3, budget_s=0.0, memory=False)
    row = found.row()
    assert row["latency_ms"]["low"] <= row["latency_ms"]["median"] <= row["latency_ms"]["high"]
    assert row["macs"] == 0
    assert math.isclose(row["bytes_moved"], row["bytes_read"] + row["bytes_written"])
    assert row["notes"] == [
        "the counts hold for this batch only, its values decide what runs: aten._local_scalar_dense"
    ]
