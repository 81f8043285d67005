"""A study's folder: who holds it, what was asked, and whether it can be written."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foveate.spec import Study, check_study, read_study

STUDY, RESULTS, LOCK = "study.toml", "results.db", ".lock"


class FolderInUse(ValueError):
    """Another process works in the study's folder; the message says which."""


@contextlib.contextmanager
def held(folder: Path, *, wait: bool = False, on_wait: Callable[[str], None] = lambda who: None) -> Iterator[None]:
    """Hold the study's folder alone.

    Raises: FolderInUse: another process holds it and `wait` is False. ValueError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); name another with --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "another process"
            if not wait:
                raise FolderInUse(f"{folder} is held by {who}; wait for it (--wait) or name another --out") from None
            on_wait(who)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        lock.flush()
        yield
        lock.truncate(0)


def keep_study(folder: Path, study: Study) -> None:
    """Write study.toml. A folder holds one study; more seeds, variants or controls may be asked of it later.

    Raises: ValueError: the folder holds a study of another network, data or training; the first difference is named.
    """
    path = folder / STUDY
    if path.is_file():
        before, now = read_study(path).model_dump(mode="json"), study.model_dump(mode="json")
        for part in ("network", "network_options", "weights", "data", "train"):
            if before.get(part) != now.get(part):
                key, old, new = _difference(part, before.get(part), now.get(part))
                raise ValueError(
                    f"{folder} holds another study ({key}: {old!r} there, {new!r} asked); use another --out"
                )
    temporary = path.with_suffix(".part")
    temporary.write_text(study_toml(study), encoding="utf-8")
    os.replace(temporary, path)


def _difference(part: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"{part}.{key}", before.get(key), now.get(key)
    return part, before, now


def study_toml(study: Study) -> str:
    """The study as TOML that `read_study` takes back unchanged."""
    content = study.model_dump(mode="json", exclude_none=True)
    tables = {name: content.pop(name) for name in ("data", "train")}
    variants = content.pop("variants")
    lines = [_line(key, value) for key, value in content.items() if value not in ({}, "")]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(_line(key, value) for key, value in table.items())]
    for variant in variants:
        lines += ["", "[[variants]]", *(_line(key, value) for key, value in variant.items() if value not in ({}, ""))]
    text = "\n".join(lines) + "\n"
    assert check_study_text(text) == study, "what is written must read back the same"
    return text


def check_study_text(text: str) -> Study:
    """The study in this TOML text."""
    import tomllib

    return check_study(tomllib.loads(text), text=text)


def _line(key: str, value: Any) -> str:
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)
