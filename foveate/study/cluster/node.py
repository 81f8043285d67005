"""What runs on a machine of a cluster: a description of it, and one job."""

import contextlib
import functools
import hashlib
import os
import platform
import time
from pathlib import Path
from typing import Any

from foveate.files import write_json
from foveate.machine import machine_name, versions
from foveate.study.claim import claim
from foveate.study.executor import Job, JobProgress, WorkerResult
from foveate.study.local import LocalProcesses

QUESTION, ANSWER = "question", "answer"  # names of the files of a check, in a folder of its own
PROGRESS = "progress.json"  # in a run's folder
CLAIMS = ".claims"  # folder in the study's: who works on a run, a folder a run
TELL_S = 2.0  # between writings of a job's progress
_here: dict[
    str, LocalProcesses
] = {}  # of each study's folder; processes that imported what jobs need stay for the next


def describe(place: str, name: str, files: dict[str, str | None], device: str) -> dict[str, Any]:
    """What this machine is and sees.

    Args:
        place: folder of the check: its file "question" is copied to "answer-NAME".
        name: of this machine in the check.
        files: path → hash of its content; None: a folder, or a file too large to read for this.
        device: such as "cuda".

    Returns: {"machine": in words, "host", "versions", "folder": is the study's folder seen?, "missing": paths that are
        not there, "other": paths with another content, "device": is it there?}
    """
    from foveate.devices import require_device

    question = Path(place) / QUESTION
    seen = question.is_file()
    if seen:
        (question.parent / f"{ANSWER}-{name}").write_bytes(question.read_bytes())
    missing = [path for path in files if not Path(path).exists()]
    other = [path for path, one in files.items() if one and path not in missing and one != file_hash(Path(path))]
    try:
        require_device(device)
        has_device = True
    except ValueError:
        has_device = False
    return {
        "machine": machine_name(),
        "host": platform.node(),
        "versions": versions() | {"source": package_hash()},
        "folder": seen,
        "missing": missing,
        "other": other,
        "device": has_device,
    }


def carry_out(folder: str, job: dict[str, Any], source: str, stays: bool) -> dict[str, Any]:
    """Do a job of the study in a folder, in a process of its own, as on one machine; its end as plain values.

    A process elsewhere that still works on the same run, as one that a coordinator left behind, is waited for.

    Args:
        source: `package_hash` of the coordinator; a machine that came later may have another.
        stays: will this process be given further jobs?
    """
    if package_hash() != source:
        return {"crash": f"{platform.node()} has another foveate than the coordinator"}
    key = job["key"]
    place = Path(folder) / CLAIMS / key / "claim"
    place.parent.mkdir(parents=True, exist_ok=True)
    # whoever took over runs it again from its checkpoint: nothing is to be written here any more
    with claim(place, wait=True, on_lost=lambda: os._exit(3)):
        here = _here.setdefault(folder, LocalProcesses(Path(folder), fork=stays))
        if job["kind"] == "train" and (result := here.finished(key)) is not None:
            return {"result": result}
        jobs, written = [Job(**job)], 0.0

        def take(machine: str = "") -> Job | None:
            return jobs.pop() if jobs else None

        def tell(key: str, news: JobProgress) -> None:
            nonlocal written
            if time.monotonic() - written > TELL_S:
                written = time.monotonic()
                with contextlib.suppress(OSError):  # a full disk: the run says so when its results do not fit
                    write_json(Path(folder) / "runs" / key / PROGRESS, news)

        (ended,) = here.work(take, tell)
        return plain(ended)


def plain(ended: WorkerResult) -> dict[str, Any]:
    """What a job's end says, without its key."""
    return {name: value for name, value in vars(ended).items() if name != "key" and value is not None}


@functools.cache
def package_hash() -> str:
    """Of every Python and C file of foveate: tells two versions apart that have one number."""
    import foveate

    root = Path(foveate.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".c", ".h")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
