"""The C sources of this package as a shared library: compiled with the system's C compiler on first use, then cached.

The library is cached in $FOVEATE_CACHE/native (or $XDG_CACHE_HOME/foveate/native, or ~/.cache/foveate/native) under a
hash of the sources, the compiler, its flags and the processor. FOVEATE_NATIVE=0 switches native code off.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from foveate.files import cache_folder
from foveate.machine import processor_features

SOURCES = Path(__file__).parent / "native"
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-fno-math-errno", "-fopenmp-simd")

word = ctypes.c_int64  # the type of every argument: an address or a whole number

_lock = threading.Lock()
_libraries: dict[str, ctypes.CDLL | str] = {}  # by the storage of maps; a str is the reason why there is none


def why_not(stored: str) -> str | None:
    """Why native code cannot run; None if it can. The first call compiles the library if it is not in the cache.

    stored: "f32", "bf16" or "f64", how maps are stored.
    """
    if os.environ.get("FOVEATE_NATIVE") == "0":
        return "FOVEATE_NATIVE=0 switches native code off"
    if stored not in _libraries:
        with _lock:
            if stored not in _libraries:
                _libraries[stored] = _load(stored)
    found = _libraries[stored]
    return found if isinstance(found, str) else None


def library(stored: str) -> ctypes.CDLL:
    """The library for maps of this storage, after `why_not` has returned None."""
    found = _libraries[stored]
    assert isinstance(found, ctypes.CDLL)
    return found


def _load(stored: str) -> ctypes.CDLL | str:
    try:
        return ctypes.CDLL(str(_compiled(stored)))
    except (OSError, subprocess.SubprocessError) as error:
        return _one_line(error)


def _one_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.splitlines()
        errors = [line for line in lines if "error" in line] or lines or [""]
        return f"the C compiler failed: {errors[0].strip()}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"the C compiler was stopped after {error.timeout:g} s"
    return str(error)


def _compiled(stored: str) -> Path:
    """The library's file, compiled if it does not exist. Raises: OSError, SubprocessError: it cannot be compiled."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError("no C compiler (cc, gcc or clang) was found")
    runtime = _openmp()
    flags = (*FLAGS, "-fopenmp") if runtime is not None else FLAGS
    found = os.stat(os.path.realpath(compiler))
    facts = hashlib.sha256(repr((compiler, found.st_size, found.st_mtime_ns, flags, processor_features())).encode())
    for source in sorted(SOURCES.iterdir()):
        facts.update(source.read_bytes())
    folder = _folder()
    kept = folder / f"{stored}-{facts.hexdigest()[:32]}.so"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            compiled, linked = Path(scratch) / "kernels.o", Path(scratch) / "kernels.so"
            # Linked without an OpenMP library: the symbols come from the one that torch has loaded.
            for command in (
                [compiler, *flags, f"-DSTORED={stored}", "-c", str(SOURCES / "kernels.c"), "-o", str(compiled)],
                [compiler, "-shared", str(compiled), "-o", str(linked), "-lm"],
            ):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            os.replace(linked, kept)
    return kept


def _openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP that torch has loaded, with its symbols made global; None where torch has another or none."""
    try:
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}
        return ctypes.CDLL(loaded.pop(), mode=ctypes.RTLD_GLOBAL | os.RTLD_NOLOAD) if len(loaded) == 1 else None
    except (OSError, AttributeError):
        return None


def _folder() -> Path:
    """A folder that no other user can write to: in the cache, or else in the temporary folder."""
    refused: list[str] = []
    for folder in (
        cache_folder() / "native",
        Path(tempfile.gettempdir()) / f"foveate-native-{os.getuid()}",
    ):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                raise PermissionError(f"{folder} can be written by others")
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            refused.append(str(error))
    raise OSError("no folder for the compiled kernels: " + "; ".join(refused))
