"""The energy of a pass, where there is a meter."""

import time
from collections.abc import Callable

import torch

SECONDS = 1.0  # the counter ticks in tens of milliseconds


def energy_mj(step: Callable[[], object], device: torch.device) -> float | str:
    """Millijoules of one call of the step, over a second of them; a text is the reason why there is none."""
    if device.type != "cuda":
        return f"energy: not available on {device.type}; NVML gives it for NVIDIA GPUs"
    try:
        import pynvml
    except ImportError:
        return "energy: not available; NVML needs the pynvml module (pip install nvidia-ml-py)"
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        before, calls, end = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0, time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            step()
            torch.cuda.synchronize(device)
            calls += 1
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / calls
    except pynvml.NVMLError as error:
        return f"energy: not available; NVML says {error}"
