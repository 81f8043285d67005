"""The machine in words, and the versions that results depend on. No torch is imported unless it is loaded already."""

import functools
import os
import platform
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@functools.cache
def processor_facts() -> dict[str, str]:
    """The first processor's entries in /proc/cpuinfo ("model name", "flags", …); {} where there is no such file."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, colon, value = line.partition(":")
            if not colon:
                if facts:
                    break  # the next processor
                continue
            facts[name.strip()] = value.strip()
    except OSError:
        return {}
    return facts


def processor_name() -> str:
    """The processor's model in words."""
    return processor_facts().get("model name") or platform.processor() or platform.machine()


def processor_features() -> str:
    """Architecture and instruction sets: what compiled code depends on."""
    facts = processor_facts()
    return platform.machine() + (facts.get("flags") or facts.get("Features") or platform.processor())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name() -> str:
    """This machine in words: processor, cores, system, and the GPU if torch sees one."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor_name()}, {os.cpu_count()} cores, {platform.system()}{gpu}"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on: foveate, torch, python."""
    import foveate

    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "?"
    return {"foveate": foveate.__version__, "torch": torch, "python": platform.python_version()}


def end_with_the_parent() -> None:
    """Let this process end when the one that has the other end of its standard input does, however it went."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
