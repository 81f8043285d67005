"""A study on a cluster: which, and what each run needs there."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.spec import Study

if TYPE_CHECKING:
    from foveate.study.cluster.executor import ClusterExecutor

HERE = "here"
ANSWER_S = 120.0  # of a machine of Ray's; a Slurm job may wait in its queue for as long as it takes

__all__ = ["Cluster", "Ray", "Slurm"]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Makes the executor of a study: `foveate.run_study(study, folder, executor=Ray("auto"))`.

    Attributes:
        cpus_per_run: CPU cores that a run is given; None: the study's threads.
        gpus_per_run: GPUs, for Ray also parts of one; None: one where the study's device is no CPU.
        costs_on: the machine that costs are measured on, alone; "here": the coordinator's; None: one of the cluster's
            where all are of one type.
    """

    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    costs_on: str | None = None

    def check(self, study: Study) -> None:
        """Raises: ValueError: the study's runs do not fit what they are given."""
        if self.cpus_per_run is not None and self.cpus_per_run < study.train.threads:
            raise ValueError(
                f"--cpus-per-run: wanted at least the {study.train.threads} threads of a run; got {self.cpus_per_run}"
            )
        if self.gpus_per_run is not None and self.gpus_per_run and study.train.device == "cpu":
            raise ValueError(f"--gpus-per-run: the runs are on the CPU, which needs none; got {self.gpus_per_run:g}")
        if self.gpus_per_run == 0 and study.train.device != "cpu":
            raise ValueError(f"--gpus-per-run: the runs are on {study.train.device!r}, of which a run needs one; got 0")
        if study.control == "latency" and self.costs_on != HERE:
            raise ValueError(
                "control = 'latency' is matched on the machine that plans; wanted --costs-on here, or size or macs"
            )
        if study.fast and self.costs_on != HERE:
            raise ValueError("fast is chosen on the machine that plans; wanted --costs-on here, or no --fast")

    def cpus(self, study: Study) -> int:
        """CPU cores of a run."""
        return self.cpus_per_run or study.train.threads

    def gpus(self, study: Study) -> float:
        """GPUs of a run."""
        return float(study.train.device != "cpu") if self.gpus_per_run is None else self.gpus_per_run

    def in_words(self, study: Study) -> str:
        """What a run is given."""
        gpus = self.gpus(study)
        return f"{self.cpus(study)} CPU cores" + (f" and {gpus:g} GPUs" if gpus else "")

    def __call__(self, folder: Path, jobs: int | None) -> "ClusterExecutor":
        raise NotImplementedError


@dataclass(frozen=True)
class Ray(Cluster):
    """A cluster of Ray's that runs already, and that this machine belongs to.

    Attributes:
        address: "auto", or HOST:PORT of its head.
    """

    address: str = "auto"

    def check(self, study: Study) -> None:
        super().check(study)
        from foveate.study.cluster.ray_engine import reach

        reach(self.address)

    def __call__(self, folder: Path, jobs: int | None) -> "ClusterExecutor":
        from foveate.study.cluster.executor import ClusterExecutor
        from foveate.study.cluster.ray_engine import RayEngine

        return ClusterExecutor(folder, jobs, self, RayEngine(self.address), ANSWER_S)


@dataclass(frozen=True)
class Slurm(Cluster):
    """Slurm's queue, through submitit.

    Attributes:
        cluster: "slurm", or "local": processes of this machine, started and followed as Slurm's jobs are.
        options: of sbatch, such as {"partition": "gpu", "time": 240}, as submitit names them; time in minutes.
        kinds: values of sbatch's --constraint, each a type of machine; (): one type.
    """

    cluster: str = "slurm"
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()

    def check(self, study: Study) -> None:
        super().check(study)
        if self.gpus_per_run is not None and self.gpus_per_run != int(self.gpus_per_run):
            raise ValueError(f"--gpus-per-run: Slurm gives whole GPUs; got {self.gpus_per_run:g}")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise ValueError("--slurm: there is no srun here; is this a machine from which jobs are submitted?")
        if self.cluster == "slurm" and self.costs_on is None:
            raise ValueError(
                "costs: wanted the machine to measure them on, --costs-on NODE or here; Slurm's machines may differ"
            )

    def __call__(self, folder: Path, jobs: int | None) -> "ClusterExecutor":
        from foveate.study.cluster.executor import ClusterExecutor
        from foveate.study.cluster.slurm_engine import SlurmEngine

        engine = SlurmEngine(folder, self.cluster, self.options, self.kinds, jobs)
        return ClusterExecutor(folder, jobs, self, engine, None)
