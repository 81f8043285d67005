"""A process that has imported what jobs need, of which each job is a fork: imports take longer than a small run.

On Linux without an accelerator only: a fork cannot use a GPU that its parent's imports have asked for, and elsewhere a
fork after imports is not safe.
"""

import contextlib
import errno
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import IO, NoReturn

import numpy
import torch

from foveate.attention import ATTENTION
from foveate.data.dataset import KINDS
from foveate.networks import NETWORKS
from foveate.study.worker import work
from foveate.tasks import TASKS

NEEDED = (
    "torch._dynamo",  # by optimisers
    "PIL.PngImagePlugin",
    "foveate.costs",
    "foveate.study.run",
    "foveate.train",
)
LIBRARIES = ("timm", "torchvision")
LONGEST = 2**16  # bytes of a request


def can_fork() -> bool:
    """Whether jobs are forks on this machine."""
    return sys.platform == "linux" and not torch.accelerator.is_available()


class Forked:
    """A job's process; the names are those of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], report: IO[str]) -> None:
        self.pid, self.stdin, self.stdout, self._report = pid, stdin, stdout, report
        self.returncode: int | None = None
        self._waiting = threading.Lock()

    def wait(self) -> int:
        """The exit status once it has ended; negative: the signal that killed it."""
        with self._waiting:
            if self.returncode is None:
                with self._report:
                    self.returncode = int(self._report.readline() or -signal.SIGKILL)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class ForkServer:
    """Starts the jobs of a study's folder, each as a fork of one process.

    Args:
        folder: of the study; it stands in the command line of the process.
        environment: of the process and its forks.
        library: of networks, imported as well: "timm", "torchvision" or another, which is not.
        log: takes what the process says while it imports.
    """

    def __init__(self, folder: Path, environment: dict[str, str], library: str, log: IO[bytes]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(folder), str(theirs.fileno()), library],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
            )

    def start(self, place: Path, log: IO[bytes]) -> Forked:
        """Start the job of the folder `place`. Raises: OSError: the process has ended."""
        (their_in, stdin), (stdout, their_out), (read, report) = os.pipe(), os.pipe(), os.pipe()
        ours = os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb"), os.fdopen(read, encoding="ascii")
        try:
            try:
                socket.send_fds(
                    self._socket, [os.fsencode(place.absolute())], (their_in, their_out, log.fileno(), report)
                )
            finally:
                for end in (their_in, their_out, report):
                    os.close(end)
            pid = ours[2].readline()
            if not pid:
                raise ConnectionResetError(errno.ECONNRESET, "the process that starts runs has ended")
        except BaseException:  # also Ctrl-C, after which the job must not go on: it ends with its standard input
            for file in ours:
                file.close()
            raise
        return Forked(int(pid), *ours)

    def close(self) -> None:
        """End the process, which waits for the jobs that still run."""
        self._socket.close()
        self._process.wait()


def serve(channel: socket.socket, library: str) -> None:
    """The process: a fork for every folder that comes through the socket, until the coordinator is gone and the forks
    have ended. Each one's pipe gets its number, and its exit status when it has ended."""
    for name in (*NEEDED, *((library,) if library in LIBRARIES else ())):
        with contextlib.suppress(ImportError):  # a job that needs it says so
            importlib.import_module(name)
    for registry in (ATTENTION, KINDS, NETWORKS, TASKS):
        registry.names()  # imports every file
    gc.freeze()  # a collection would copy the pages that forks share
    died, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written into the pipe
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    running: dict[int, int] = {}  # process → end of its pipe
    there = True
    while there or running:
        ready, _, _ = select.select([died, channel.fileno()] if there else [died], [], [])
        if died in ready:
            os.read(died, 4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    _write(running.pop(pid), str(os.waitstatus_to_exitcode(status)), last=True)
        if channel.fileno() in ready:
            place, ends, _, _ = socket.recv_fds(channel, LONGEST, 4)
            if not place:
                there = False
                continue
            *standard, report = ends
            pid = _fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                channel.close()
                for end in (died, wakeup, report, *running.values()):
                    os.close(end)
                _do_the_job(Path(os.fsdecode(place)), standard)
            for end in standard:
                os.close(end)
            running[pid] = report
            _write(report, f"{pid}\n")


def _do_the_job(place: Path, standard: list[int]) -> NoReturn:
    """In the fork, with its standard input, output and error."""
    for number, end in enumerate(standard):
        os.dup2(end, number)
        os.close(end)
    numpy.random.seed()  # torch's and Python's generators are as in a fresh process already
    work(place)


def _write(pipe: int, text: str, *, last: bool = False) -> None:
    with contextlib.suppress(BrokenPipeError):  # the coordinator is gone
        os.write(pipe, text.encode())
    if last:
        os.close(pipe)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # BLAS may have threads, and takes care of them
        return os.fork()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as channel:
        serve(channel, sys.argv[3])
    os._exit(0)  # libraries that complain as they are taken down say nothing in a run's log
