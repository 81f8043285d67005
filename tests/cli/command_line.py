"""The command line in this process, which saves five seconds of imports a call."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from foveate.attention import ATTENTION
from foveate.cli import main
from foveate.data.dataset import KINDS
from foveate.networks import NETWORKS
from foveate.registry import USER_MODULE
from foveate.tasks import TASKS

REGISTRIES = (ATTENTION, KINDS, NETWORKS, TASKS)


def foveate(*arguments, cwd=None):
    """Status and output of `foveate ARGUMENTS`, run in the folder `cwd`."""
    words = ["foveate", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    for registry in REGISTRIES:
        registry.names()  # those of the library are there before and after
    with (
        contextlib.ExitStack() as stack,
        contextlib.chdir(cwd or os.getcwd()),
        mock.patch.dict(os.environ, COLUMNS="120"),
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for registry in REGISTRIES:  # what a user's file registers is gone with the call
            stack.enter_context(mock.patch.dict(registry._entries))
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code
    for name in [name for name in sys.modules if name.startswith(USER_MODULE)]:
        del sys.modules[name]
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
