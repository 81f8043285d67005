"""Who works on something in a shared folder: a lock that needs neither locks of files nor clocks that agree.

A claim is a file NAME-N which one process alone can make, and which it rewrites every few seconds. Whoever sees it
unchanged for long, by a clock of its own that no one sets, makes NAME-(N+1); the owner of a lower number finds that out
before it writes anything else. On one machine a claim of a process that is gone counts for nothing at once.

The last file stays when its owner gives the claim up, and says so: were numbers used again, whoever is about to follow
a claim that was there a moment ago would take the number after it beside a new owner.
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
FREE = {"free": True}  # what the file of a claim that was given up says
UNREADABLE_S = (0.1, 1.0)  # before a claim that cannot be read, as while a server is away, counts as taken over


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
        for pause in (0, *UNREADABLE_S):
            time.sleep(pause)
            number, content = _latest(self._place)
            if number == self._number and content.get("nonce") == self._about["nonce"]:
                return
            if content:
                break
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
        """Give it up; a file that cannot be written now is silent from now on."""
        _own.discard(str(self._about["nonce"]))
        with contextlib.suppress(ClaimTaken, OSError):
            self.check()
            with open(self._path, "r+b") as file:
                file.write(json.dumps(FREE).encode().ljust(len(_content(self._about, 0))))


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
        on_wait: called once with the name of a process that is waited for: until it ends or, if it is of another
            machine and `wait` is False, until it has shown that it is there or has been silent for long.
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


_own: set[str] = set()  # nonces of this process's claims; of one that it dropped, the file may have stayed
_seen: dict[Path, tuple[object, float]] = {}  # claims of other machines: what was read last, and since when


def is_claimed(place: Path) -> bool:
    """Has a process this claim? One of another machine counts until it has been seen unchanged for long."""
    try:
        latest = number, content = _latest(place)
    except OSError:
        return False
    if not number or (here := _is_here(content)) is not None:
        return bool(number and here)
    before, since = _seen.get(place, (None, 0.0))
    if before != latest:
        _seen[place] = latest, time.monotonic()
        return True
    return time.monotonic() - since <= SILENT_S


def _take(place: Path, wait: bool, on_wait: Callable[[str], None]) -> Claim:
    announced = False
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
        elif (here or changed) and not wait:
            raise ClaimTaken(_who(seen))
        if number and here is not False and not announced:
            on_wait(_who(seen))
            announced = True
        time.sleep(LOOK_S if number else 0)
        latest = _latest(place)
        changed = latest != (number, seen)
        if changed:
            (number, seen), since = latest, time.monotonic()


def _make(place: Path, number: int) -> Claim | None:
    """None: another process was first."""
    nonce = secrets.token_hex(8)
    about = {**_this_process(), "nonce": nonce}
    _own.add(nonce)
    try:
        handle = os.open(_file(place, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        _own.discard(nonce)
        return None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_content(about, 0))
        if _latest(place)[0] == number:
            return Claim(place, number, about)
    except OSError:  # no room: an empty claim would be waited for
        _own.discard(nonce)
        _file(place, number).unlink(missing_ok=True)
        raise
    _own.discard(nonce)  # the claim that this was to follow was followed before
    _file(place, number).unlink(missing_ok=True)
    return None


def _latest(place: Path) -> tuple[int, dict[str, object]]:
    """The highest number and what its file says, {} while it is being written; 0: there is none."""
    prefix = f"{place.name}-"
    ends = [name.removeprefix(prefix) for name in os.listdir(place.parent) if name.startswith(prefix)]
    number = max((int(end) for end in ends if end.isdecimal()), default=0)
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
    """When the process began, in ticks since the machine did; "" on a system without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_here(content: dict[str, object]) -> bool | None:
    """Is the owner a process of this machine that is alive? None: it is one of another machine."""
    if content == FREE:
        return False
    if content.get("machine") != _this_machine():
        return None
    pid = int(str(content["pid"]))
    if pid == os.getpid():
        return content["nonce"] in _own
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not content.get("began") or _began(pid) == content["began"]


def _who(content: dict[str, object]) -> str:
    return f"process {content['pid']} on {content['host']}" if "pid" in content else "another process"
