"""A process that has imported what jobs need, of which each job is a fork: imports take longer than a small run.

On Linux without an accelerator only: a fork cannot use a GPU that its parent's imports have asked for, and elsewhere a
fork after imports is not safe.
"""

import contextlib
import errno
import gc
import importlib
import os
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

NEEDED = ("torch._dynamo", "foveate.costs", "foveate.study.run", "foveate.train")  # the first by optimisers
LIBRARIES = ("timm", "torchvision")
LONGEST = 2**16  # bytes of a request


def can_fork() -> bool:
    """Whether jobs are forks on this machine."""
    return sys.platform == "linux" and not torch.accelerator.is_available()


class Forked:
    """A job's process; the names are those of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], status: IO[str]) -> None:
        self.pid, self.stdin, self.stdout, self._status = pid, stdin, stdout, status
        self.returncode: int | None = None
        self._waiting = threading.Lock()

    def wait(self) -> int:
        """The exit status once it has ended; negative: the signal that killed it."""
        with self._waiting:
            if self.returncode is None:
                with self._status:
                    self.returncode = int(self._status.readline() or -signal.SIGKILL)
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
        (their_in, stdin), (stdout, their_out), (status, their_status) = os.pipe(), os.pipe(), os.pipe()
        ours = os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb"), os.fdopen(status, encoding="ascii")
        try:
            try:
                socket.send_fds(
                    self._socket, [os.fsencode(place.absolute())], (their_in, their_out, log.fileno(), their_status)
                )
            finally:
                for end in (their_in, their_out, their_status):
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
    """The process: a fork for every folder that comes through the socket, until the coordinator is gone."""
    for name in (*NEEDED, *((library,) if library in LIBRARIES else ())):
        with contextlib.suppress(ImportError):  # a job that needs it says so
            importlib.import_module(name)
    for registry in (ATTENTION, KINDS, NETWORKS, TASKS):
        registry.names()  # imports every file
    gc.freeze()  # a collection would copy the pages that forks share
    watching: list[int] = []
    while True:
        place, ends, _, _ = socket.recv_fds(channel, LONGEST, 4)
        if not place:
            break
        watching = [pid for pid in watching if os.waitpid(pid, os.WNOHANG)[0] == 0]
        pid = _fork()
        if pid == 0:
            channel.close()
            _watch_a_job(Path(os.fsdecode(place)), *ends)
        watching.append(pid)
        for end in ends:
            os.close(end)
    for pid in watching:  # so that their time counts as the coordinator's
        os.waitpid(pid, 0)


def _watch_a_job(place: Path, stdin: int, stdout: int, log: int, status: int) -> NoReturn:
    """Fork once more, and write the number of that process and, when it has ended, its exit status."""
    pid = _fork()
    if pid == 0:
        os.close(status)
        for end, standard in ((stdin, 0), (stdout, 1), (log, 2)):
            os.dup2(end, standard)
            os.close(end)
        numpy.random.seed()  # torch's and Python's generators are as in a fresh process already
        work(place)
    for end in (stdin, stdout, log):
        os.close(end)
    with contextlib.suppress(BrokenPipeError):  # the coordinator is gone
        os.write(status, f"{pid}\n".encode())
        os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # BLAS may have threads, and takes care of them
        return os.fork()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as channel:
        serve(channel, sys.argv[3])
    os._exit(0)  # libraries that complain as they are taken down say nothing in a run's log
