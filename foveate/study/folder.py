"""A study's folder: its lock, and its specification as study.toml."""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foveate.files import write_whole
from foveate.networks import is_release
from foveate.registry import is_file_reference
from foveate.spec import EMBEDDED, PRETRAINED, Study
from foveate.study.claim import ClaimTaken, claim, is_claimed
from foveate.study_file import read_study, study_toml

STUDY, RESULTS = "study.toml", "results.db"
LOCK, CLAIM, PAUSE = ".lock", ".claim", ".pause"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of file systems where the claim alone decides
FIXED = (
    "fast", "network", "network_options", "weights", "task", "task_options", "data", "train", "trainer",
    "trainer_options", "resplit", "null_check",
)  # fmt: skip


class FolderInUse(ValueError):
    """Another process works in the study's folder; the message says which."""


@contextlib.contextmanager
def lock_folder(
    folder: Path, *, wait: bool = False, on_wait: Callable[[str], None] = lambda who: None
) -> Iterator[Callable[[], None]]:
    """Work in the study's folder alone, also where machines share it and its file system keeps no locks.

    Yields: a function that raises FolderInUse if another process has taken the folder over, as it may where this one
        was suspended for long.
    Raises: FolderInUse: if another process works in it and `wait` is False. ValueError: if it cannot be made or
        written.
    """

    def check() -> None:
        try:
            own.check()
        except ClaimTaken as error:
            raise FolderInUse(f"{folder}: {error}, and this process stops") from None

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); name another with --out") from None
    with lock:
        if not any(try_lock(lock, after_s=pause) for pause in (0, 0.05, 0.1)):  # `is_locked` takes it for an instant
            lock.seek(0)
            who = lock.read().strip() or "another process"
            if not wait:
                raise _in_use(folder, who)
            on_wait(who)
            try_lock(lock, wait=True)
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        lock.flush()
        try:
            with claim(folder / CLAIM, wait=wait, on_wait=on_wait) as own:
                yield check
        except ClaimTaken as error:
            raise _in_use(folder, str(error)) from None
        lock.truncate(0)


def _in_use(folder: Path, who: str) -> FolderInUse:
    return FolderInUse(f"{folder} is in use by {who}; wait until it ends (a study has --wait) or name another --out")


def try_lock(file: Any, *, wait: bool = False, after_s: float = 0) -> bool:
    """Lock an open file until it is closed or the process ends; False if another process has it and `wait` is False.

    On a file system without locks always True.
    """
    import fcntl

    time.sleep(after_s)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    return True


def is_locked(folder: Path) -> bool:
    """Does a process work in the study's folder? One of another machine counts until it has been silent for long."""
    with contextlib.suppress(OSError), open(folder / LOCK, "r+", encoding="utf-8") as lock:
        if not try_lock(lock):
            return True
    return is_claimed(folder / CLAIM)


def is_paused(folder: Path) -> bool:
    """Is the study to stop at the next checkpoints?"""
    return (folder / PAUSE).exists()


def set_paused(folder: Path, paused: bool) -> None:
    """Ask the study to stop at the next checkpoints, or no longer."""
    if paused:
        write_whole(folder / PAUSE, b"")
    else:
        (folder / PAUSE).unlink(missing_ok=True)


def write_study(folder: Path, study: Study) -> None:
    """Write study.toml."""
    write_whole(folder / STUDY, study_toml(study).encode())


def refuse_another(folder: Path, study: Study, planned: Study | None = None) -> None:
    """A folder has one study; seeds, variants and controls may be added to it, and its files may have moved.

    planned: the study of the folder's results, as a person may have changed its study.toml since.

    Raises: ValueError: if the folder has a study of another network, task, data or training; the first difference is
        named.
    """
    path = folder / STUDY
    for there in (read_study(path) if path.is_file() else None, planned):
        if there is not None and (difference := first_difference(there, study)) is not None:
            key, old, new = difference
            raise ValueError(f"{folder} holds another study ({key}: {old!r} there, {new!r} now); use another --out")


def first_difference(ours: Study, theirs: Study) -> tuple[str, Any, Any] | None:
    """Name and values of what tells two studies apart, where files may have moved; None: they are one."""
    before, now = _without_places(ours), _without_places(theirs)
    return next((_difference(part, before[part], now[part]) for part in FIXED if before[part] != now[part]), None)


def _without_places(study: Study) -> dict[str, Any]:
    """The study's values; of files their names alone, as their contents are compared by fingerprints."""
    values = study.model_dump(mode="json")
    data = values["data"]
    for entry, name in ((values, "network"), (values, "task"), (values, "trainer"), (data, "kind")):
        if entry[name] is not None and is_file_reference(entry[name]):
            entry[name] = Path(entry[name]).name
    if data["source"] != EMBEDDED:
        data["source"] = "a folder"
    if study.weights is not None:
        values["weights"] = PRETRAINED if is_release(study.weights) else "a file"
    return values


def _difference(part: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"{part}.{key}", before.get(key), now.get(key)
    return part, before, now
