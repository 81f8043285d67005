"""Decoded photos kept on the disk: the same batches with and without, whatever happens to the files."""

import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import open_data, pixel_cache
from foveate.data.pixel_cache import OFF, ROW, PixelCache
from foveate.spec import DataSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_cache, "LEFT_BYTES", 0)


@pytest.fixture
def folder(tmp_path):
    """Two classes of JPEGs and PNGs of several sizes, one grey, one turned."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (40 + 7 * number, 60, 3), np.uint8)
            image = Image.fromarray(pixels) if number else Image.fromarray(pixels).convert("L")
            exif = Image.Exif()
            exif[0x0112] = 6 if number == 2 else 1
            kind = {"format": "JPEG", "quality": 90, "exif": exif} if number % 2 == 0 else {"format": "PNG"}
            image.save(tmp_path / "set" / label / f"{number}.img", **kind)
            (tmp_path / "set" / label / f"{number}.img").rename(
                tmp_path / "set" / label / f"{number}.{'jpg' if number % 2 == 0 else 'png'}"
            )
    return tmp_path / "set"


def batches(folder, epochs=(0, 1, None)):
    """Every training item in these epochs (None: as evaluation shows it), of a data set opened anew."""
    split = open_data(DataSpec(source=str(folder), size=24)).train
    return [split.batch(range(len(split)), None if epoch is None else (3, epoch)).inputs for epoch in epochs]


def equal(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batches_are_bit_equal_with_and_without_the_cache_and_decoded_once(folder, monkeypatch):
    monkeypatch.setenv(OFF, "off")
    without = batches(folder)
    monkeypatch.delenv(OFF)
    first = batches(folder)
    monkeypatch.setattr("foveate.data.photos.read_image", lambda *_: pytest.fail("decoded again"))
    assert equal(without, first)
    assert equal(without, batches(folder))


def test_a_damaged_cache_is_made_again(folder, tmp_path, monkeypatch):
    whole = batches(folder)
    for number, cache in enumerate(sorted((tmp_path / "cache").glob("pixels-*"))):
        content = bytearray((cache / "pixels").read_bytes())
        content[50:60] = bytes(10)
        (cache / "pixels").write_bytes(content if number else content[: len(content) // 2])
        with (cache / "index").open("ab") as index:
            index.write(b"half a row")
    assert equal(whole, batches(folder))
    monkeypatch.setattr("foveate.data.photos.read_image", lambda *_: pytest.fail("decoded again"))
    assert equal(whole, batches(folder))


def test_changed_photos_and_another_size_have_a_cache_of_their_own(folder):
    before = batches(folder)
    pixels = np.asarray(Image.open(folder / "cat" / "1.png"))
    Image.fromarray(255 - pixels).save(folder / "cat" / "1.png")
    assert not equal(before, batches(folder))
    other = open_data(DataSpec(source=str(folder), size=16)).train
    assert other.batch([0], None).inputs.shape[-1] == 16


def test_threads_and_caches_that_add_at_once_keep_every_array_once():
    arrays = {f"photo {n}": np.full((5 + n % 3, 4, 3), n, np.uint8) for n in range(40)}
    caches = [PixelCache("one set") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(cache.add, name, array) for cache in caches for name, array in arrays.items()]
        [job.result() for job in jobs]
    fresh = PixelCache("one set")
    assert all(np.array_equal(fresh.get(name), array) for name, array in arrays.items())
    assert (fresh.folder / "index").stat().st_size == ROW.size * len(arrays)
    assert fresh.get("another") is None


@pytest.mark.parametrize("what", ["full", "written half", "read-only"])
def test_without_room_one_line_is_logged_and_photos_are_decoded_anew(folder, monkeypatch, caplog, what):
    monkeypatch.setenv(OFF, "off")
    without = batches(folder)
    monkeypatch.delenv(OFF)
    if what == "full":
        monkeypatch.setattr(pixel_cache, "LEFT_BYTES", 2**60)
    elif what == "written half":
        write = os.write

        def half(handle, content):
            if len(content) < 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(handle, content[: len(content) // 2])

        monkeypatch.setattr(pixel_cache.os, "write", half)
    else:
        monkeypatch.setenv("FOVEATE_CACHE", "/proc/none")
    with caplog.at_level(logging.WARNING, "foveate"):
        assert equal(without, batches(folder))
    lines = [record.getMessage() for record in caplog.records if "decoded anew" in record.getMessage()]
    assert len(lines) == 2  # one for each of the two caches, of training and of evaluation
    assert all("\n" not in line for line in lines)
