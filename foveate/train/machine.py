"""What the numbers depend on beside the specification."""

import contextlib
import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """This machine in words: processor, cores, system, and the GPU if there is one."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores, {platform.system()}{gpu}"


def versions() -> dict[str, str]:
    """Versions that the numbers depend on."""
    import foveate

    return {"foveate": foveate.__version__, "torch": torch.__version__, "python": platform.python_version()}
