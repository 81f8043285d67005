"""CIFAR-10 in its three forms holds the same pixels, and a pickle gets to run nothing."""

import hashlib
import io
import json
import pickle
import struct
import sys

import numpy as np
import pytest
import torch

from foveate.data import inspect_data, open_data
from foveate.data.cifar import CLASSES, read_pickle
from foveate.data.in_memory import statistics
from foveate.spec import DataSpec

COUNT = 300  # images a hand-made batch


@pytest.fixture(scope="module")
def pack(shared, tmp_path_factory):
    """The whole pack, decoded once."""
    pytest.importorskip("pyarrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_data(DataSpec(source=str(shared / "data" / "cifar10")))


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8), np.arange(COUNT) % 10


def write_pickles(folder, x, y):
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        batch = {"data": x.reshape(len(x), 3072), "labels": y.tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def python2_pickle(x, y):
    """Byte for byte how Python 2 wrote the original files: keys and pixels are its byte strings."""
    text = lambda value: b"U" + bytes([len(value)]) + value  # noqa: E731
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01"
    array += b"M" + struct.pack("<H", len(x)) + b"M\x00\x0c\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03"
    array += text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", x.size) + x.tobytes()
    array += b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + labels + b"u."


def test_the_pack_is_cifar10(pack, shared):
    assert pack.targets["label"].names == CLASSES
    assert (len(pack.train), len(pack.test), pack.inputs) == (30000, 10000, (3, 32, 32))
    info = json.loads((shared / "data" / "cifar10" / "info.json").read_text())
    pixels = np.ascontiguousarray(pack.test.inputs.transpose(0, 2, 3, 1))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == info["test"]["sha256_of_uint8_NHWC"]
    assert hashlib.sha256(pack.test.targets["label"].tobytes()).hexdigest() == info["test"]["sha256_of_int64_labels"]
    mean, std = statistics(pack.train.inputs)
    assert mean == pytest.approx(info["train"]["mean"], abs=1e-3)  # theirs are over all 50,000
    assert std == pytest.approx(info["train"]["std"], abs=1e-3)
    assert "1 of 2 train shards" in pack.description
    x = pack.test.batch(range(0, 10000, 10), None).inputs
    assert x.mean((0, 2, 3)).abs().max() < 0.1
    assert x.std((0, 2, 3)).sub(1).abs().max() < 0.1


def test_standard_files_hold_the_packs_pixels(pack, tmp_path):
    x, y = pack.test.inputs[:COUNT], pack.test.targets["label"][:COUNT]
    folder = write_pickles(tmp_path / "set" / "cifar-10-batches-py", x, y)
    binary = tmp_path / "cifar-10-batches-bin"
    binary.mkdir()
    records = np.concatenate([y[:, None].astype(np.uint8), x.reshape(COUNT, 3072)], 1).tobytes()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        (binary / f"{name}.bin").write_bytes(records)
    for place in (folder, folder.parent, binary, binary.parent):
        data = open_data(DataSpec(source=str(place)))
        assert (len(data.train), len(data.test), data.targets["label"].names) == (2 * COUNT, COUNT, CLASSES)
        assert "2 of 5 train batches" in data.description
        mean, std = (torch.tensor(value)[:, None, None] for value in statistics(x))
        batch = data.test.batch(range(COUNT), None)
        assert torch.allclose(batch.inputs * std + mean, torch.from_numpy(x / np.float32(255)), atol=1e-5)
        assert np.array_equal(batch.targets["label"], y)


def test_subsets_are_stratified_and_repeat(pack, tmp_path, pixels):
    folder = write_pickles(tmp_path / "cifar-10-batches-py", *pixels)
    one, two = (open_data(DataSpec(source=str(folder), train_items=100, test_items=50)) for _ in range(2))
    assert np.bincount(one.train.strata).tolist() == [10] * 10
    assert np.bincount(one.test.strata).tolist() == [5] * 10
    assert torch.equal(one.train.batch(range(100), (0, 0)).inputs, two.train.batch(range(100), (0, 0)).inputs)
    kept = [int(one.test.name_of(item)) for item in range(50)]
    assert np.array_equal(one.test.inputs, pixels[0][kept]), "an item is called by its number in the whole set"
    assert one.fingerprint == two.fingerprint
    larger = open_data(DataSpec(source=str(folder), size=(48, 40), train_items=100))
    assert larger.train.batch([0], (0, 0)).inputs.shape == (1, 3, 48, 40)
    assert larger.inputs == (3, 48, 40)


def test_python_2_pickles(tmp_path, pixels):
    (tmp_path / "data_batch_1").write_bytes(python2_pickle(*pixels))
    x, y = read_pickle(tmp_path / "data_batch_1")
    assert np.array_equal(x, pixels[0])
    assert np.array_equal(y, pixels[1])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("where", ["object", "labels", "codec"])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, pixels, where):
    folder = write_pickles(tmp_path / "cifar-10-batches-py", *pixels)
    batch = pickle.loads((folder / "data_batch_1").read_bytes())
    touched = tmp_path / "touched"
    if where == "object":
        batch["data"] = np.array([Evil(str(touched))], object)
    else:
        batch["labels"] = Evil(str(touched))
    content = pickle.dumps(batch, protocol=2)
    if where == "codec":
        content = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_1: not a CIFAR-10 batch: asks for .*wanted only arrays"):
        open_data(DataSpec(source=str(folder)))
    assert not touched.exists()
    (problem,) = inspect_data(str(folder)).problems
    assert str(problem).startswith(f"{folder / 'data_batch_1'}: not a CIFAR-10 batch")


def test_damaged_and_missing_files_are_named(tmp_path, pixels):
    folder = write_pickles(tmp_path / "cifar-10-batches-py", *pixels)
    whole = (folder / "data_batch_2").read_bytes()
    batches = {
        "not a CIFAR-10 batch": whole[:5000],
        "wanted 'data' of uint8": pickle.dumps({"data": [1], "labels": [1]}),
        "label for each of the 300 images, got 2": pickle.dumps({"data": pixels[0].reshape(300, -1), "labels": [1, 2]}),
        "labels from 0 to 9, got 0 to 11": pickle.dumps({"data": pixels[0].reshape(300, -1), "labels": [0, 11] * 150}),
        "wanted 'labels' of whole numbers": pickle.dumps({"data": pixels[0].reshape(300, -1), "labels": ["a"] * 300}),
    }
    for told, content in batches.items():
        (folder / "data_batch_2").write_bytes(content)
        with pytest.raises(ValueError, match=f"data_batch_2: .*{told}"):
            open_data(DataSpec(source=str(folder)))
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match="got no test_batch"):
        open_data(DataSpec(source=str(folder)))
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073 * 2 + 5))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(ValueError, match=r"data_batch_1\.bin: wanted records of 3,073 bytes, got 6,151"):
        open_data(DataSpec(source=str(tmp_path)))


class TestParquet:
    """Any folder of this layout, not only the pack."""

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path, monkeypatch):
        self.arrow, self.parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        self.cache = tmp_path / "cache"
        monkeypatch.setenv("FOVEATE_CACHE", str(self.cache))

    def write(self, path, x, y, *, column="img"):
        from PIL import Image

        cells = []
        for image in x:
            content = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(content, "PNG")
            cells.append({"bytes": content.getvalue(), "path": None})
        path.parent.mkdir(exist_ok=True, parents=True)
        self.parquet.write_table(self.arrow.table({column: cells, "label": list(y)}), path)

    @pytest.fixture
    def folder(self, tmp_path, pixels):
        x, y = pixels[0][:40, :, :20, :24], pixels[1][:40]
        self.write(tmp_path / "mine" / "data" / "train-00000-of-00002.parquet", x[:20], y[:20], column="image")
        self.write(tmp_path / "mine" / "data" / "train-00001-of-00002.parquet", x[20:], y[20:], column="image")
        self.write(tmp_path / "mine" / "data" / "test-00000-of-00001.parquet", x[:10], y[:10])
        return tmp_path / "mine"

    def test_validation_shards_are_the_validation_part(self, folder, pixels):
        x, y = pixels[0][:40, :, :20, :24], pixels[1][:40]
        self.write(folder / "data" / "validation-00000-of-00001.parquet", x, y)
        data = open_data(DataSpec(source=str(folder)))
        assert "40 train, 40 validation and 10 test images" in data.description
        assert np.array_equal(data.validation.inputs, x)
        (folder / "data" / "test-00000-of-00001.parquet").unlink()
        data = open_data(DataSpec(source=str(folder)))
        assert (len(data.test), data.validation) == (40, None)
        assert data.notes == ("validation is the test part, as there are no test shards",)

    def test_decoded_once_and_then_mapped(self, folder, pixels):
        data = open_data(DataSpec(source=str(folder)))
        assert (data.name, data.targets["label"].names, data.inputs) == ("mine", tuple("0123456789"), (3, 20, 24))
        assert np.array_equal(data.train.inputs, pixels[0][:40, :, :20, :24])
        (kept,) = self.cache.iterdir()
        stamp = (kept / "train_images.npy").stat().st_mtime_ns
        again = open_data(DataSpec(source=str(folder)))
        assert torch.equal(again.train.batch(range(40), (0, 0)).inputs, data.train.batch(range(40), (0, 0)).inputs)
        assert (kept / "train_images.npy").stat().st_mtime_ns == stamp
        cut = (kept / "train_images.npy").read_bytes()[:3000]
        (kept / "train_images.npy").unlink()  # the old one is still mapped
        (kept / "train_images.npy").write_bytes(cut)
        assert np.array_equal(open_data(DataSpec(source=str(folder))).train.inputs, data.train.inputs)
        assert [entry.name for entry in self.cache.iterdir()] == [kept.name]

    def test_without_a_cache(self, folder, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file" / "cache"))
        assert len(open_data(DataSpec(source=str(folder))).train) == 40

    def test_bad_rows_are_named(self, folder, pixels):
        shard = folder / "data" / "train-00001-of-00002.parquet"
        table = self.parquet.read_table(shard).to_pydict()
        for change, told in (
            (lambda rows: rows["image"][7].update(bytes=b"junk"), "row 7: not an image"),
            (lambda rows: rows["image"][7].update(bytes=None), "row 7: wanted the bytes of an image file"),
            (lambda rows: rows["label"].__setitem__(3, None), "row 3: wanted a label from 0 upwards, got None"),
            (
                lambda rows: rows.update(image=rows.pop("image"), label=rows.pop("label")) or rows.pop("label"),
                "columns",
            ),
        ):
            rows = {key: [dict(v) if isinstance(v, dict) else v for v in values] for key, values in table.items()}
            change(rows)
            self.parquet.write_table(self.arrow.table(rows), shard)
            with pytest.raises(ValueError, match=f"{shard.name}: .*{told}"):
                open_data(DataSpec(source=str(folder)))
        self.write(shard, pixels[0][:20], pixels[1][:20])
        with pytest.raises(ValueError, match="wanted 20×24 pixels, got 32×32 pixels"):
            open_data(DataSpec(source=str(folder)))
        shard.write_bytes(b"PAR1 junk")
        with pytest.raises(ValueError, match=shard.name):
            open_data(DataSpec(source=str(folder)))

    def test_a_type_that_arrow_cannot_write_or_read_is_one_line(self, folder, monkeypatch):
        shard = folder / "data" / "train-00001-of-00002.parquet"
        told = "Unsupported type\n" + "x" * 3000

        def unsupported(*args, **options):
            raise self.arrow.ArrowNotImplementedError(told)

        monkeypatch.setattr(self.parquet.ParquetFile, "iter_batches", unsupported)
        with pytest.raises(ValueError) as error:
            open_data(DataSpec(source=str(folder)))
        message = str(error.value)
        assert "Unsupported type xxx" in message
        assert len(message.splitlines()) == 1
        assert len(message) < 500
        monkeypatch.undo()
        monkeypatch.setenv("FOVEATE_CACHE", str(self.cache))
        rows = self.parquet.read_table(shard)
        nested = self.arrow.array([[{"a": [1]}]] * rows.num_rows)
        self.parquet.write_table(rows.set_column(0, "image", nested), shard)
        with pytest.raises(ValueError, match=f"{shard.name}: row 0: wanted the bytes of an image file, got list"):
            open_data(DataSpec(source=str(folder)))

    def test_a_split_is_missing(self, folder):
        (folder / "data" / "test-00000-of-00001.parquet").unlink()
        with pytest.raises(ValueError, match=r"wanted train-\*.parquet and test-\*.parquet, got 2 and 0"):
            open_data(DataSpec(source=str(folder)))

    def test_without_pyarrow(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ValueError, match=r"needs pyarrow: pip install foveate\[parquet\]$"):
            open_data(DataSpec(source=str(folder)))
