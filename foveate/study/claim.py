"""Who works on something in a shared folder: a lock that needs neither locks of files nor clocks that agree.

A claim is a file NAME-N which one process alone can make, and which it rewrites every few seconds. Whoever sees it
unchanged for long, by a clock of its own that no one sets, makes NAME-(N+1); the owner of a lower number finds that out
before it writes anything else. On one machine a claim of a process that is gone counts for nothing at once.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BEAT_S = 5.0  # between rewritings by the owner
SILENT_S = 60.0  # unchanged for this long: the owner is gone; files on a network may be shown as they were seconds ago
LOOK_S = 0.5  # between looks of who waits


class ClaimTaken(RuntimeError):
    """Another process has the claim; the message says which."""


class Claim:
    """A claim that this process has.

    Args:
        place: folder and name of its files.
    """

    def __init__(self, place: Path, number: int, about: dict[str, object]) -> None:
        self._place, self._path, self._about = place, _file(place, number), about
        self._number, self._beats = number, 0

    def check(self) -> None:
        """Raises: ClaimTaken: another process has it by now."""
        number, content = _latest(self._place)
        if number != self._number or content.get("nonce") != self._about["nonce"]:
            raise ClaimTaken(f"it was taken over by {_who(content)}")

    def beat(self) -> None:
        """Show that the owner is there. Raises: ClaimTaken, as `check`."""
        self.check()
        self._beats += 1
        try:
            with open(self._path, "r+b") as file:  # never makes a file that was taken away
                file.write(_content(self._about, self._beats))
        except FileNotFoundError:
            raise ClaimTaken("it was taken over by another process") from None

    def drop(self) -> None:
        """Give it up."""
        with contextlib.suppress(ClaimTaken):
            self.check()
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def claim(
    place: Path,
    *,
    wait: bool = False,
    on_wait: Callable[[str], None] = lambda who: None,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[Claim]:
    """Have a claim while the with block runs.

    Args:
        place: folder and name of its files, such as folder / ".claim".
        wait: wait for another process that has it.
        on_wait: called once with the name of that process.
        on_lost: called, from another thread, when another process has taken it over.

    Raises: ClaimTaken: another process has it and `wait` is False.
    """
    own = _take(place, wait, on_wait)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            try:
                own.beat()
            except ClaimTaken:
                on_lost()
                return
            except OSError:  # a server that is away for a while
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield own
    finally:
        ended.set()
        thread.join()
        own.drop()


def _take(place: Path, wait: bool, on_wait: Callable[[str], None]) -> Claim:
    told = False
    number, seen = _latest(place)
    since, changed = time.monotonic(), False
    while True:
        here = _is_here(seen)
        if number == 0 or here is False or time.monotonic() - since > SILENT_S:
            own = _make(place, number + 1)
            if own is not None:
                for older in range(max(1, number - 2), number + 1):
                    _file(place, older).unlink(missing_ok=True)
                return own
        elif here or changed:
            if not wait:
                raise ClaimTaken(_who(seen))
            if not told:
                on_wait(_who(seen))
            told = True
        time.sleep(LOOK_S if number else 0)
        latest = _latest(place)
        changed = latest != (number, seen)
        if changed:
            (number, seen), since = latest, time.monotonic()


def _make(place: Path, number: int) -> Claim | None:
    """None: another process was first."""
    about = {**_this_process(), "nonce": secrets.token_hex(8)}
    try:
        handle = os.open(_file(place, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return None
    with os.fdopen(handle, "wb") as file:
        file.write(_content(about, 0))
    return Claim(place, number, about)


def _latest(place: Path) -> tuple[int, dict[str, object]]:
    """The highest number and what its file says, {} while it is being written; 0: there is none."""
    prefix = f"{place.name}-"
    names = [name for name in os.listdir(place.parent) if name.startswith(prefix)]
    number = max((int(name.removeprefix(prefix)) for name in names), default=0)
    try:
        content = json.loads(_file(place, number).read_bytes()) if number else {}
    except (OSError, ValueError):
        content = {}
    return number, content


def _file(place: Path, number: int) -> Path:
    return place.with_name(f"{place.name}-{number}")


def _content(about: dict[str, object], beats: int) -> bytes:
    return json.dumps({**about, "beats": f"{beats:012d}"}).encode()  # always as long, so that none is cut short


def _this_process() -> dict[str, object]:
    return {"machine": _this_machine(), "host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def _this_machine() -> str:
    """What a process number belongs to: this start of this machine, and its namespace of processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str:
    """When the process began, in ticks since the machine did; "" where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_here(content: dict[str, object]) -> bool | None:
    """Is the owner a process of this machine that is alive? None: it is one of another machine."""
    if content.get("machine") != _this_machine():
        return None
    pid = int(str(content["pid"]))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not content.get("began") or _began(pid) == content["began"]


def _who(content: dict[str, object]) -> str:
    return f"process {content['pid']} on {content['host']}" if content else "another process"
