"""The flags that say where a study's runs are carried out."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import parse

if TYPE_CHECKING:
    from foveate.study.cluster import Cluster

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Run on a cluster of Ray's that this machine belongs to: auto, or HOST:PORT of its head.",
        metavar="ADDRESS",
    ),
]
OnSlurm = Annotated[bool, typer.Option("--slurm", help="Run as Slurm jobs.")]
SlurmCluster = Annotated[
    str, typer.Option(help="With --slurm: slurm, or local for jobs on this machine in its place.", metavar="CLUSTER")
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Of sbatch: partition=gpu, account=…; time in minutes, 240 unless given; again for another.",
        metavar="NAME=VALUE",
    ),
]
SlurmKinds = Annotated[
    str | None,
    typer.Option(
        help="Values of sbatch's --constraint, each a type of machine: the runs of a seed stay on one.",
        metavar="NAME[,NAME…]",
    ),
]
CpusPerRun = Annotated[int | None, typer.Option(min=1, help="On a cluster. Default: the threads of a run.")]
GpusPerRun = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="At 0.25 four runs share a GPU, here or on Ray. Default: 1 on a cluster, by measured memory here.",
    ),
]
CostsOn = Annotated[
    str | None,
    typer.Option(
        help="Machine of the cluster that costs are measured on, alone; here: this one. Needed with several types of "
        "machine.",
        metavar="MACHINE",
    ),
]
Mirrors = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        help="Copy the rows of each run that ends from now on to: tensorboard, mlflow, trackio.",
        metavar="NAME[,NAME…]",
    ),
]


def cluster(
    ray: str | None,
    slurm: bool,
    slurm_cluster: str,
    slurm_option: list[str] | None,
    slurm_kinds: str | None,
    cpus_per_run: int | None,
    gpus_per_run: float | None,
    costs_on: str | None,
) -> "Cluster | None":
    """What the flags name; None: this machine. Raises: ValueError: they do not go together."""
    from foveate.study.cluster import Ray, Slurm

    needs: dict[str, Any] = {"cpus_per_run": cpus_per_run, "gpus_per_run": gpus_per_run, "costs_on": costs_on}
    if ray is not None and slurm:
        raise ValueError("--ray and --slurm: wanted one of them; got both")
    if slurm_cluster not in ("slurm", "local"):
        raise ValueError(f"--slurm-cluster: wanted slurm or local; got {slurm_cluster!r}")
    of_slurm = {"slurm-cluster": slurm_cluster != "slurm", "slurm-option": slurm_option, "slurm-kinds": slurm_kinds}
    if not slurm and (given := [name for name, value in of_slurm.items() if value]):
        raise ValueError(f"--{given[0]} goes with --slurm")
    if slurm:
        kinds = tuple(one.strip() for one in (slurm_kinds or "").split(",") if one.strip())
        return Slurm(
            cluster=slurm_cluster, options=parse.pairs(slurm_option or [], "--slurm-option"), kinds=kinds, **needs
        )
    if ray is not None:
        return Ray(address=ray, **needs)
    for name, value in needs.items():
        if value is not None and name != "gpus_per_run":
            raise ValueError(f"--{name.replace('_', '-')} goes with --ray or --slurm")
    return None


def jobs_here(jobs: int | None, gpus_per_run: float | None, device: str) -> int | None:
    """Runs at a time on this machine, as --jobs and --gpus-per-run say. Raises: ValueError: there is no such GPU."""
    if gpus_per_run is None:
        return jobs
    from foveate.study.placement import jobs_of_share

    most = jobs_of_share(gpus_per_run, device)
    return most if jobs is None else min(jobs, most)
