"""Kind "cifar": CIFAR-10 in its own files, the "python version" or the binary one. The first are pickles, read by an
unpickler that runs nothing.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layout as in
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import Dataset, LabelledImages, Progress, Target, register_data
from foveate.data.in_memory import in_memory
from foveate.data.problems import one_line
from foveate.data.source import folder_of
from foveate.spec import DataSpec

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")


def find_cifar(folder: Path) -> Path | None:
    """The folder with the batches, which is this one or its standard child, or None."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        if any(
            (place / name).is_file() for name in ("data_batch_1", "data_batch_1.bin", "test_batch", "test_batch.bin")
        ):
            return place
    return None


def _is_cifar(source: str) -> bool:
    folder = Path(source).expanduser()
    return folder.is_dir() and find_cifar(folder) is not None


def evaluation_images(folder: Path) -> LabelledImages:
    """The test batch alone, for evaluation. Raises: ValueError: if there is none, or it is damaged."""
    batches = find_cifar(folder) or folder
    file = next((batches / name for name in ("test_batch", "test_batch.bin") if (batches / name).is_file()), None)
    if file is None:
        raise ValueError(f"{batches}: wanted test_batch or test_batch.bin, got neither")
    images, labels = (read_binary if file.suffix == ".bin" else read_pickle)(file)
    names = [f"{file}, image {number}" for number in range(len(labels))]
    return LabelledImages("CIFAR-10", list(images.transpose(0, 2, 3, 1)), names, labels.tolist(), CLASSES, SHAPE[-1])


@register_data("cifar", recognises=_is_cifar, evaluation_images=evaluation_images)
def open_cifar(spec: DataSpec, *, progress: Progress | None = None) -> Dataset:
    """CIFAR-10 from the folder that holds its batches; fewer than five train batches are taken as they are.

    Raises: ValueError: if a file is missing, damaged or suspicious, by path.
    """
    folder = folder_of(spec.source)
    folder = find_cifar(folder) or folder
    ending = ".bin" if (folder / "data_batch_1.bin").is_file() or (folder / "test_batch.bin").is_file() else ""
    read = read_binary if ending else read_pickle
    files = [folder / f"data_batch_{number}{ending}" for number in range(1, 6)]
    files = [file for file in files if file.is_file()]
    held_out = folder / f"test_batch{ending}"
    for file, there in ((folder / f"data_batch_1{ending}", bool(files)), (held_out, held_out.is_file())):
        if not there:
            raise ValueError(f"{folder}: wanted data_batch_1{ending} … and test_batch{ending}, got no {file.name}")
    batches = [read(file) for file in files]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test, test_labels = read(held_out)
    part = "" if len(files) == 5 else f", {len(files)} of 5 train batches"
    return in_memory(
        spec,
        (images, {"label": labels}),
        (test, {"label": test_labels}),
        {"label": Target("class", CLASSES)},
        name="CIFAR-10",
        fingerprint=contents([*files, held_out]),
        content=f"{'binary' if ending else 'python'} version{part}",
        shift=4,
        flip=True,
    )


def contents(files: Sequence[Path]) -> str:
    """16 hexadecimal digits of a hash of the files' names and contents."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def read_binary(path: Path) -> Labelled:
    """Images (n, 3, 32, 32) and labels of a binary batch: records of a label byte and 3,072 pixel bytes."""
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if not raw.size or raw.size % 3073:
        raise ValueError(f"{path}: wanted records of 3,073 bytes, got {raw.size:,} bytes: cut short, or not CIFAR-10")
    records = raw.reshape(-1, 3073)
    return records[:, 1:].reshape(-1, *SHAPE), _labels(path, records[:, 0].astype(np.int64), len(records))


def read_pickle(path: Path) -> Labelled:
    """Images (n, 3, 32, 32) and labels of a pickled batch."""
    try:
        with path.open("rb") as file:
            batch = _Plain(file, encoding="latin1").load()  # the original files were written by Python 2
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # damage shows in many ways
        raise ValueError(f"{path}: not a CIFAR-10 batch: {one_line(error) or type(error).__name__}") from None
    content = {str(_text(key)): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    images, labels = content.get("data"), content.get("labels")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072:
        got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"{path}: wanted 'data' of uint8 (n, 3072), got {got}")
    if not isinstance(labels, (list, tuple, np.ndarray)) or any(not isinstance(v, (int, np.integer)) for v in labels):
        raise ValueError(f"{path}: wanted 'labels' of whole numbers, got {type(labels).__name__}")
    return images.reshape(-1, *SHAPE), _labels(path, np.asarray(labels, np.int64), len(images))


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.shape != (count,):
        raise ValueError(f"{path}: wanted a label for each of the {count:,} images, got {labels.size:,}")
    if count and not 0 <= labels.min() <= labels.max() < len(CLASSES):
        raise ValueError(f"{path}: wanted labels from 0 to 9, got {labels.min()} to {labels.max()}")
    return labels


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"asks for the codec {encoding!r}; wanted only arrays and plain values")
    return text.encode("latin1")


class _Plain(pickle.Unpickler):
    """Reads arrays of numbers, lists, dicts, text and numbers; whatever else a pickle asks for is refused unread."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in an old protocol
            return _latin1
        raise pickle.UnpicklingError(f"asks for {module}.{name}; wanted only arrays and plain values")
