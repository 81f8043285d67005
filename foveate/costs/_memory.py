"""Memory while measuring: too large a batch is caught before the machine runs out, and halved."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from foveate.counting import out_of_memory

Found = TypeVar("Found")
SPARE = 256 * 2**20  # bytes left to everything else


def halving(batch: int, run: Callable[[int], Found], *, on: str) -> tuple[Found, int, list[str]]:
    """What `run` gives for the batch, or for the half, the quarter, … that fits into memory; that batch; what was said.

    Raises: RuntimeError: not even one sample fits.
    """
    said: list[str] = []
    while True:
        try:
            with within_memory():
                return run(batch), batch, said
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise RuntimeError(f"out of memory on {on} with a batch of 1") from error
        said.append(f"a batch of {batch} does not fit into the memory of {on}; halved to {batch // 2}")
        batch //= 2


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Inside, an allocation that the machine has no memory for fails at once, where the system would kill the process.

    Linux only; elsewhere nothing changes.
    """
    room = _room()
    if room is None:
        yield
        return
    import resource  # not everywhere

    before = resource.getrlimit(resource.RLIMIT_DATA)
    held = own_memory("VmData") or 0
    most = held + max(room - SPARE, SPARE)
    if before[1] != resource.RLIM_INFINITY:
        most = min(most, before[1])
    if before[0] != resource.RLIM_INFINITY:
        most = min(most, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _room() -> int | None:
    """Bytes that may still be taken: of the machine, and of the group that the process is confined to."""
    if not sys.platform.startswith("linux"):
        return None
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        found.append(most - int((group / "memory.current").read_text()))
    return min(found, default=None)


def own_memory(key: str) -> int | None:
    """Bytes of the process's own status: VmRSS, VmHWM (its peak), VmData; None where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None
