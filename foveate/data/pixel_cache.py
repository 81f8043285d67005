"""Decoded pixels kept on the disk and mapped into memory, so that an image is decoded once and not in each epoch.

A cache is two files that are only appended to, each time by one process that has the lock: `pixels`, array after array,
and `index`, a row for each with its place, shape and checksum. Readers need no lock: a row is written after its pixels.
What is damaged or half written fails its checksum, is decoded again and appended anew.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.files import cache_folder

OFF = "FOVEATE_PIXEL_CACHE"  # "off" in the environment: every image is decoded anew
MOST_BYTES = 16 * 2**30  # of one cache
LEFT_BYTES = 2 * 2**30  # of the disk stay free
ROW = struct.Struct("<16sQIIII")  # name, place in the file, height, width, channels, checksum
LOG = logging.getLogger("foveate")


class PixelCache:
    """Arrays (H, W, C) of uint8 by name; any number of threads and processes read and add at once.

    Where it cannot be written (no room, read-only) one line is logged, and nothing more is added.

    Args:
        what: everything that the arrays depend on beside their names: contents, decoder, transform.
    """

    def __init__(self, what: str) -> None:
        self.folder = cache_folder() / f"pixels-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        self.adds = self.reads = os.environ.get(OFF) != "off"
        self._rows: dict[bytes, tuple[int, tuple[int, int, int], int]] = {}
        self._sound: set[bytes] = set()  # whose checksum was compared
        self._known = 0  # bytes of the index that were read
        self._pixels: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._lock = threading.Lock()

    def get(self, name: str) -> NDArray[np.uint8] | None:
        """The array, read-only; None where there is none that is whole."""
        key = _key(name)
        if not self.reads:
            return None
        with self._lock:
            if key not in self._rows:
                self._read_index()
            if key not in self._rows:
                return None
            place, shape, checksum = self._rows[key]
            end = place + shape[0] * shape[1] * shape[2]
            if end > len(self._pixels):
                self._map()
            found = self._pixels[place:end]
            if key not in self._sound:
                if len(found) != end - place or zlib.crc32(found.data) != checksum:
                    del self._rows[key]  # a later row of the same name replaces it
                    return None
                self._sound.add(key)
        return found.reshape(shape)

    def add(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Keep an array that `get` does not have."""
        if not self.adds:
            return
        content = np.ascontiguousarray(pixels)
        key = _key(name)
        try:
            with self._lock, self._writing() as (index, file):
                self._read_index()
                if key in self._rows:  # another process was faster
                    return
                place = os.fstat(file).st_size
                self._refuse_too_much(place, content.nbytes)
                row = ROW.pack(key, place, *content.shape, zlib.crc32(content.data))
                try:
                    _write(file, content.data.cast("B"))
                    _write(index, memoryview(row))
                except OSError:
                    os.ftruncate(file, place)  # no row speaks of what lies behind
                    raise
        except OSError as error:
            self.adds = False
            LOG.warning("%s: %s; further images are decoded anew in each epoch", self.folder, error.strerror)

    def _read_index(self) -> None:
        """Take up the rows that were added since."""
        with contextlib.suppress(OSError), (self.folder / "index").open("rb") as file:
            file.seek(self._known)
            content = file.read()
            for start in range(0, len(content) - ROW.size + 1, ROW.size):
                key, place, height, width, channels, checksum = ROW.unpack_from(content, start)
                self._rows[key] = place, (height, width, channels), checksum
                self._known += ROW.size
                self._sound.discard(key)

    def _map(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._pixels = np.asarray(np.memmap(self.folder / "pixels", np.uint8, "r"))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[int, int]]:
        """Both files opened to append, by this process alone; half a row at the end of the index is cut off."""
        import fcntl  # not on every system

        self.folder.mkdir(parents=True, exist_ok=True)
        with _appending(self.folder / "index") as index, _appending(self.folder / "pixels") as file:
            fcntl.flock(index, fcntl.LOCK_EX)
            whole = os.fstat(index).st_size // ROW.size * ROW.size
            if whole != os.fstat(index).st_size:
                os.ftruncate(index, whole)
            yield index, file

    def _refuse_too_much(self, there: int, more: int) -> None:
        if there + more > MOST_BYTES:
            raise OSError(0, f"the cache has its {MOST_BYTES / 2**30:.0f} GiB")
        if shutil.disk_usage(self.folder).free - more < LEFT_BYTES:
            raise OSError(0, f"less than {LEFT_BYTES / 2**30:.0f} GiB of the disk would stay free")


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()[:16]


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


def _write(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]
