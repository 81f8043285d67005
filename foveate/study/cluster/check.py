"""Can the machines of a cluster carry out a study? Checked before anything starts: folder, files, versions, device."""

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.machine import versions
from foveate.registry import is_file_reference
from foveate.spec import Study
from foveate.study.cluster.node import ANSWER, QUESTION, describe, file_hash, package_hash
from foveate.study.start import find_start
from foveate.study.user_code import code_files

LARGEST = 2**20  # bytes of a file whose content is compared; of larger ones their place alone
SEEN_S = 60.0  # until what one machine wrote is seen on another


class Check:
    """Asks machines, and reads what they answer.

    Args:
        folder: of the study.
        study: with absolute paths.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder, self._device = folder, study.train.device
        self.needs = "nothing" if self._device == "cpu" else "a run"  # of a machine, to answer
        self._word = secrets.token_hex(16).encode()
        self._place = folder / f".check-{secrets.token_hex(4)}"
        self._place.mkdir(parents=True)
        (self._place / QUESTION).write_bytes(self._word)
        self._files = {str(path): _hash(path) for path in needed_files(study)}
        self._versions = versions() | {"source": package_hash()}

    def close(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    def question(self, name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What a machine is to be called with."""
        return describe, (str(self._place), _file_name(name), self._files, self._device)

    def machine(self, name: str, answer: dict[str, Any] | None, trouble: str | None) -> str:
        """The type of a machine that can be used. Raises: ValueError: it cannot, and why."""
        if answer is None:
            raise ValueError(f"{name}: foveate does not start there ({trouble})")
        for what, here in self._versions.items():
            there = answer["versions"].get(what)
            if there != here:
                library = "other files of foveate" if what == "source" else f"{what} {there}"
                own = "" if what == "source" else f", this machine {here}"
                raise ValueError(f"{name} has {library}{own}; results are equal with equal versions alone")
        if not answer["folder"] or not self._answered(name):
            raise ValueError(
                f"{name} does not see {self._folder}; wanted a folder that the machines share: name one with --out"
            )
        if answer["missing"]:
            raise ValueError(f"{name} does not see {answer['missing'][0]}; put it where the machines share a folder")
        if answer["other"]:
            raise ValueError(f"{name} has another content in {answer['other'][0]}; share one file between the machines")
        if not answer["device"]:
            raise ValueError(f"{name}: train.device: there is no {self._device!r} for a run; see --gpus-per-run")
        return str(answer["machine"])

    def _answered(self, name: str) -> bool:
        """Does what the machine wrote come back? It may take a network's file system a while."""
        path, until = self._place / f"{ANSWER}-{_file_name(name)}", time.monotonic() + SEEN_S
        while time.monotonic() < until:
            if path.is_file() and path.read_bytes() == self._word:
                return True
            time.sleep(0.2)
        return False


def needed_files(study: Study) -> list[Path]:
    """Every file and folder that the study's runs read: those named in it, weights, and the user's own code."""
    named = [Path(text) for text in _texts(study.model_dump(mode="json")) if text.startswith("/")]
    starts = [find_start(study, name).path for name in study.networks()]
    found = [*named, *(Path(path) for path in starts if path is not None), *code_files(study)]
    return list(dict.fromkeys(path.absolute() for path in found if path.exists()))


def _texts(value: Any) -> list[str]:
    """Every text in plain values; of "path.py:name" the path, of "FOLDER:ARM" the folder."""
    if isinstance(value, dict):
        return [text for entry in value.values() for text in _texts(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry)]
    if not isinstance(value, str):
        return []
    return [value.rpartition(":")[0] if is_file_reference(value) else value, value.partition(":")[0]]


def _hash(path: Path) -> str | None:
    return file_hash(path) if path.is_file() and path.stat().st_size <= LARGEST else None


def _file_name(name: str) -> str:
    return "".join(one if one.isalnum() else "_" for one in name)
