"""What the machine can do: numbers that can be, interpolated between, remembered; a device that is not there."""

import pytest
import torch

from foveate.costs import Machine, measure_machine
from foveate.devices import require_device

ROOFS = Machine("cpu", "a processor", 1, "float32", ((1000, 80.0), (3000, 20.0)), 18.0, 50.0, 2.0, 8.0)


def test_bandwidth_is_interpolated_between_the_working_sets():
    assert [ROOFS.bandwidth(moved) for moved in (10, 1000, 2000, 3000, 9000)] == [80.0, 80.0, 50.0, 20.0, 20.0]
    assert (ROOFS.cache_gb_s, ROOFS.memory_gb_s) == (80.0, 20.0)


def test_an_operator_takes_its_launch_its_arithmetic_and_its_traffic():
    assert ROOFS.milliseconds(0, 0) == pytest.approx(0.002)
    assert ROOFS.milliseconds(50_000_000, 800, convolution=True) == pytest.approx(0.008 + 1.0 + 0.00001)
    assert ROOFS.milliseconds(0, 40_000_000) == pytest.approx(0.002 + 2.0)


def test_measured_roofs_are_sane_and_remembered():
    threads = torch.get_num_threads()
    found = measure_machine("cpu", threads=1)
    assert torch.get_num_threads() == threads
    assert 0.1 < found.memory_gb_s < 5000
    assert 0.1 < found.read_gb_s < 5000
    assert found.gmacs_s > 0.1
    assert 0.05 < found.launch_us < 1e4
    assert found.convolution_launch_us > 0.1
    assert measure_machine(torch.device("cpu"), threads=1) is found


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xpu:7", "", "meta", "cpu:1"])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(ValueError, match="wanted one of this machine's"):
        require_device(name)


def test_roofs_of_integers_or_no_threads_are_refused():
    with pytest.raises(ValueError, match="floating"):
        measure_machine("cpu", dtype=torch.int8)
    with pytest.raises(ValueError, match="threads"):
        measure_machine("cpu", threads=0)
