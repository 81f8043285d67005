"""Copies of a study's rows for the tools that a person already looks at runs with. The store stays the one that counts.

A mirror is given each run when it is done; it never reads one back, and a study goes on without it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from foveate.registry import nearest
from foveate.spec import Run

LOGS = "tensorboard"  # folder in the study's


class Mirror(Protocol):
    """Takes the rows of finished runs."""

    def write(self, run: Run, result: dict[str, Any]) -> None:
        """result: {"metrics": [{"name", "value", …}], "history": [{"epoch", metric: value, …}]}."""


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
        name = f"{run.arm.replace('/', '_')}, seed {run.seed} ({run.key[:6]})"
        with self._writer(str(self._folder / name)) as writer:
            for entry in result["history"]:
                for metric, value in entry.items():
                    if metric != "epoch":
                        writer.add_scalar(metric, value, int(entry["epoch"]))
            facts = {"arm": run.arm, "network": run.network, "seed": run.seed}
            writer.add_hparams(facts, final, run_name=".")


MIRRORS: dict[str, Callable[[Path], Mirror]] = {"tensorboard": TensorBoard}


def open_mirrors(names: str | None, folder: Path) -> list[Mirror]:
    """Mirrors by their names, parted by commas. Raises: ValueError: there is no such mirror, or its library is not
    installed."""
    found = []
    for name in [] if names is None else names.split(","):
        if name.strip() not in MIRRORS:
            raise ValueError(f"--mirror: there is no {name.strip()!r}; {nearest(name.strip(), MIRRORS)}")
        found.append(MIRRORS[name.strip()](folder))
    return found
