"""How many runs go at a time, and on which GPU: by cores, GPUs and the measured memory of a training step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from foveate.machine import cores
from foveate.spec import Run, Study
from foveate.store import Store
from foveate.study.executor import Job
from foveate.study.local import run_alone

SPARE = 0.1  # of a GPU's free memory that stays free: allocators fragment, and evaluation has other shapes
MEMORY = "memory"  # key of the job


@dataclass(frozen=True)
class Placement:
    """jobs: at a time in all; a_gpu: on one GPU, 0 on a CPU; text: what limits their number."""

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


def placement(study: Study, out: Path, runs: Sequence[Run], store: Store) -> Placement:
    """That of these runs on this machine. On GPUs a few steps of each arm are run in a process first, once for a study
    and a type of GPU; a trainer of the user's own has no steps to run, so that each GPU has one run.
    """
    device = torch.device(study.train.device)
    if device.type != "cuda":
        return place(cores(), study.train.threads) if device.type == "cpu" else Placement(1, 0, "1 at a time")
    numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
    if study.trainer is not None:
        return _one_each(len(numbers), "the memory that a trainer of one's own takes is not known")
    try:
        taken = _measured(study, out, runs, store, torch.cuda.get_device_name(numbers[0]))
    except RuntimeError as error:
        return _one_each(len(numbers), str(error))
    if not taken:
        return _one_each(len(numbers), f"the training steps fail, see {out / 'runs' / MEMORY / 'log.txt'}")
    free = [torch.cuda.mem_get_info(number)[0] for number in numbers]
    return place(cores(), study.train.threads, free, max(taken.values()))


def _one_each(gpus: int, why: str) -> Placement:
    return Placement(gpus, 1, f"{gpus} at a time, 1 on each GPU: {why}")


def _measured(study: Study, out: Path, runs: Sequence[Run], store: Store, gpu: str) -> dict[str, int]:
    """Bytes that the runs take, by what their memory depends on; what fails is left out.

    Raises: RuntimeError: the process that measures them ends without a result.
    """
    by_label = {f"{run.arm}, batch of {run.train.batch_size}, {run.train.optimizer}": run for run in reversed(runs)}
    kept = store.get_meta(MEMORY) or {}
    known = kept.get(gpu, {})
    new = {label: run.model_dump(mode="json") for label, run in by_label.items() if label not in known}
    if new:
        job = Job(MEMORY, "trial", {"runs": new}, study.train.threads)
        known |= run_alone(out, job, "the memory of a training step could not be measured")["bytes"]
        store.set_meta(MEMORY, kept | {gpu: known})
    return {label: known[label] for label in by_label if label in known}


def jobs_of_share(share: float, device: str) -> int:
    """Runs at a time on this machine's GPUs where each is given this part of one.

    Raises: ValueError: there is no GPU, the runs are not on it, or the part is none.
    """
    if not torch.cuda.is_available():
        raise ValueError("--gpus-per-run: this machine has no GPU")
    kind, _, number = device.partition(":")
    if kind != "cuda":
        raise ValueError(f"--gpus-per-run: wanted runs on a GPU (--device cuda); got runs on {device!r}")
    if not 0 < share <= 1:
        raise ValueError(
            f"--gpus-per-run: wanted more than 0 and at most 1, as a run on this machine uses one GPU; got {share:g}"
        )
    return (1 if number else torch.cuda.device_count()) * int(1 / share + 1e-9)
