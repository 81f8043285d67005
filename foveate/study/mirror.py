"""Copies of a study's rows for the tools that a person already looks at runs with. The store stays the one that counts.

A mirror is given each run when it is done; it never reads one back, and a study goes on without it.
"""

import contextlib
import importlib
import itertools
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from foveate.registry import nearest
from foveate.spec import Run

LOGS = "tensorboard"  # folder in the study's
TRACKING = "MLFLOW_TRACKING_URI"  # environment variable of MLflow's own: its server, or its folder
DATABASE = "mlflow.db"  # in the study's folder, without a server
AT_A_TIME = 500  # metrics that one call to MLflow may hold


class Mirror(Protocol):
    """Takes the rows of finished runs."""

    def write(self, run: Run, result: dict[str, Any]) -> None:
        """result: {"metrics": [{"name", "value", …}], "history": [{"epoch", metric: value, …}]}."""


class Mirrors:
    """The mirrors of a study. One that fails, as on a full disk, gets nothing from then on, with a warning."""

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        self._mirrors = list(mirrors)

    def write(self, run: Run, result: dict[str, Any]) -> None:
        """As a mirror's."""
        for mirror in list(self._mirrors):
            try:
                mirror.write(run, result)
            except Exception as error:  # another library's, of any kind
                self._mirrors.remove(mirror)
                name = type(mirror).__name__
                warnings.warn(f"{name} gets no runs from now on: {error or type(error).__name__}", stacklevel=2)


class TensorBoard:
    """A run is a folder of event files: curves by epoch, and the final metrics under final/ with the arm and the seed
    as its hyperparameters.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the study. Raises: ValueError: tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError("--mirror tensorboard: it is not installed; pip install tensorboard") from None
        self._folder, self._writer = folder / LOGS, SummaryWriter

    def write(self, run: Run, result: dict[str, Any]) -> None:
        final = {f"final/{one['name']}": float(one["value"]) for one in result["metrics"]}
        with self._writer(str(self._folder / _name(run).replace("/", "_"))) as writer:
            for epoch, metric, value in _curves(result):
                writer.add_scalar(metric, value, epoch)
            writer.add_hparams(_facts(run), final, run_name=".")


class MLflow:
    """A study is an experiment, named after its folder, and a run a run of it: curves by epoch, the final metrics under
    final/, and the arm, the network and the seed as parameters. Characters that MLflow takes in no name are "_".

    They go where MLFLOW_TRACKING_URI says, or else to the database mlflow.db in the study's folder.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the study. Raises: ValueError: MLflow is not installed."""
        self._name, self._address = str(folder.absolute()), os.environ.get(TRACKING)
        try:
            self._mlflow = importlib.import_module("mlflow")
            self._entities = importlib.import_module("mlflow.entities")
            if not self._address:
                importlib.import_module("sqlalchemy")  # for its databases
        except ImportError as error:
            raise ValueError(f"--mirror mlflow: it is not installed ({error}); pip install mlflow") from None
        self._client: Any = None

    def write(self, run: Run, result: dict[str, Any]) -> None:
        if self._client is None:
            self._client = self._mlflow.MlflowClient(self._address or f"sqlite:///{self._name}/{DATABASE}")
        there = self._client.get_experiment_by_name(self._name)
        experiment = self._client.create_experiment(self._name) if there is None else there.experiment_id
        number = self._client.create_run(experiment, run_name=_name(run)).info.run_id
        for name, value in _facts(run).items():
            self._client.log_param(number, name, value)
        rows = [(0, f"final/{one['name']}", one["value"]) for one in result["metrics"]] + _curves(result)
        names, now = [re.sub(r"[^\w\-. /]", "_", name) for _, name, _ in rows], int(1000 * time.time())
        metrics = [
            self._entities.Metric(name, value, now, epoch) for name, (epoch, _, value) in zip(names, rows, strict=True)
        ]
        for first in range(0, len(metrics), AT_A_TIME):
            self._client.log_batch(number, metrics[first : first + AT_A_TIME])
        self._client.set_terminated(number)


class Trackio:
    """A study is a project, named after its folder, and a run a run of it: curves by epoch, and after them the final
    metrics under final/; the arm, the network and the seed are its configuration. trackio keeps them in
    TRACKIO_DIR or in its cache.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the study. Raises: ValueError: trackio is not installed."""
        try:
            self._trackio = importlib.import_module("trackio")
        except ImportError as error:
            raise ValueError(f"--mirror trackio: it is not installed ({error}); pip install trackio") from None
        self._project = folder.absolute().name

    def write(self, run: Run, result: dict[str, Any]) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of --json
            there = self._trackio.init(
                project=self._project, name=_name(run), config=_facts(run), embed=False, auto_log_gpu=False,
                auto_log_cpu=False,
            )  # fmt: skip
            for epoch, rows in itertools.groupby(_curves(result), key=lambda row: row[0]):
                there.log({name: value for _, name, value in rows}, step=epoch)
            there.log({f"final/{one['name']}": float(one["value"]) for one in result["metrics"]})
            self._trackio.finish()


def _name(run: Run) -> str:
    return f"{run.arm}, seed {run.seed} ({run.key[:6]})"


def _facts(run: Run) -> dict[str, str | int]:
    return {"arm": run.arm, "network": run.network, "seed": run.seed}


def _curves(result: dict[str, Any]) -> list[tuple[int, str, float]]:
    """(epoch, metric, value) of everything that was logged."""
    return [
        (int(entry["epoch"]), name, float(value))
        for entry in result["history"]
        for name, value in entry.items()
        if name != "epoch"
    ]


MIRRORS: dict[str, Callable[[Path], Mirror]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "trackio": Trackio}


def open_mirrors(names: str | None, folder: Path) -> list[Mirror]:
    """Mirrors by their names, parted by commas. Raises: ValueError: there is no such mirror, or its library is not
    installed."""
    found = []
    for name in [] if names is None else names.split(","):
        if name.strip() not in MIRRORS:
            raise ValueError(f"--mirror: there is no {name.strip()!r}; {nearest(name.strip(), MIRRORS)}")
        found.append(MIRRORS[name.strip()](folder))
    return found
