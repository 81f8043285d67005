"""How many runs go at a time, and on which GPU: by cores, GPUs and the measured memory of a training step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from foveate.machine import cores
from foveate.spec import Run, Study
from foveate.study.executor import Job
from foveate.study.local import run_alone

SPARE = 0.1  # of a GPU's free memory that stays free: allocators fragment, and evaluation has other shapes
MEMORY = "memory"  # key of the job


@dataclass(frozen=True)
class Placement:
    """jobs: at a time in all; a_gpu: on one GPU, 0 on a CPU; text: why so many."""

    jobs: int
    a_gpu: int
    text: str


def place(cores: int, threads: int, gpu_free: Sequence[int] = (), run_bytes: int = 0) -> Placement:
    """How many runs of `threads` CPU threads go at a time.

    Args:
        gpu_free: bytes that are free on each GPU; (): the runs are on the CPU.
        run_bytes: that a run takes on a GPU, as measured.
    """
    by_cores = max(1, cores // threads)
    if not gpu_free:
        return Placement(by_cores, 0, f"{by_cores} at a time: {cores} cores, {threads} threads each")
    room = min(int(free * (1 - SPARE) // run_bytes) for free in gpu_free)
    a_gpu = max(1, min(room, by_cores // len(gpu_free)))
    jobs = a_gpu * len(gpu_free)
    limit = "memory" if room <= by_cores // len(gpu_free) else "cores"
    gpus = f"{len(gpu_free)} GPU{'s' * (len(gpu_free) > 1)}"
    taken, free = run_bytes / 2**30, min(gpu_free) / 2**30
    return Placement(
        jobs,
        a_gpu,
        f"{jobs} at a time, {a_gpu} on each of {gpus}: a run takes {taken:.1f} of {free:.1f} GiB, measured; limited by "
        f"{limit}",
    )


def placement(study: Study, out: Path, runs: Sequence[Run]) -> Placement:
    """That of these runs on this machine. On GPUs a few steps of each arm are run in a process first.

    Raises: RuntimeError: they fail.
    """
    device = torch.device(study.train.device)
    if device.type != "cuda":
        return place(cores(), study.train.threads) if device.type == "cpu" else Placement(1, 0, "1 at a time")
    numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
    arms = {run.arm: run.model_dump(mode="json") for run in reversed(runs)}
    job = Job(MEMORY, "trial", {"runs": arms}, study.train.threads)
    found = run_alone(out, job, "the memory of a training step could not be measured")
    free = [torch.cuda.mem_get_info(number)[0] for number in numbers]
    return place(cores(), study.train.threads, free, max(found["bytes"].values()))
