"""Files written whole or not at all, and the folder where made data are cached between runs."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_whole(path: Path | str, content: bytes) -> None:
    """Write the file whole or not at all: a reader sees the old content or the new one, never half of either.

    The content is on the disk when this returns.

    Raises: OSError: it cannot be written; names the file, and what stood there before is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from None


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON value as `write_whole` does. Raises: ValueError: nan or infinity; OSError as there."""
    write_whole(path, json.dumps(value, allow_nan=False).encode())


def read_json(path: Path | str) -> Any:
    """The JSON value in a file. Raises: OSError: it cannot be read; ValueError: it is not JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def cache_folder() -> Path:
    """$FOVEATE_CACHE, or $XDG_CACHE_HOME/foveate, or ~/.cache/foveate. It need not exist."""
    if own := os.environ.get("FOVEATE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foveate"
