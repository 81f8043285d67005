"""The command line in this process, which saves five seconds of imports a call."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from foveate.cli import main


def foveate(*arguments, cwd=None):
    """Status and output of `foveate ARGUMENTS`, run in the folder `cwd`."""
    words = ["foveate", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or os.getcwd()),
        mock.patch.dict(os.environ, COLUMNS="120"),
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
