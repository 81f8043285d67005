"""The tensors of a file of weights: opened without running anything in it, found where a training script keeps them."""

import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

NESTS = (  # where training scripts keep the weights beside their optimiser; of two the first is taken
    "state_dict", "model_state_dict", "model", "net", "network", "module", "params",
    "state_dict_ema", "model_ema", "ema", "params_ema",
)  # fmt: skip
WRAPPERS = ("model.", "net.", "network.", "backbone.")  # before the names of a network inside a training module
COUNTER = "num_batches_tracked"  # absent from files of before torch 0.4.1, and used by no forward pass
MOST_BYTES = 4_000_000_000  # of a file, of what it unpacks to, and of its tensors
MOST_TENSORS = 100_000
MOST_CLASSES = 1000  # that a checkpoint names
_PARALLEL, _COMPILED, _AVERAGED = "module.", re.compile(r"(^|\.)_orig_mod(?=\.)"), "n_averaged"
_OLD_DENSENET = re.compile(r"\.(norm|relu|conv)\.([12])\.")  # torchvision's released files: norm.1, now norm1


class Weights(dict[str, Tensor]):
    """Tensors by name.

    Attributes:
        file: in words, for messages.
        taken: where in the file they stand, such as "under 'state_dict', below 'model.'"; "" where the file has them
            alone and by their own names.
    """

    def __init__(self, tensors: Mapping[str, Tensor], file: str = "", taken: str = "") -> None:
        super().__init__(tensors)
        self.file, self.taken = file, taken

    @property
    def note(self) -> str:
        """A line for the reader; "" where there is nothing to say."""
        return f"{self.file}: taken are the tensors {self.taken}" if self.taken else ""

    def below(self, prefix: str) -> "Weights":
        """Those whose names begin with the prefix, without it."""
        found = {key.removeprefix(prefix): value for key, value in self.items() if key.startswith(prefix)}
        others = [key for key in self if not key.startswith(prefix)]
        count = f"1 other is not taken, {others[0]!r}" if len(others) == 1 else f"{len(others)} others are not taken"
        return Weights(found, self.file, f"{_joined(self.taken)}below {prefix!r}" + (f" ({count})" if others else ""))

    def readings(self) -> list["Weights"]:
        """These, and those below each of `WRAPPERS`: for a network whose names are not known beforehand."""
        return [self, *(self.below(prefix) for prefix in WRAPPERS if any(key.startswith(prefix) for key in self))]

    def of_network(self, names: Collection[str]) -> "Weights":
        """The tensors of a network, which may stand below a prefix, as in a training module.

        Args:
            names: of the network's tensors, those that the file must have.

        Returns: all tensors as they are where the names are there, or stand nowhere.
        Raises: ValueError: they stand below more than one prefix.
        """
        wanted = [name for name in names if not name.endswith(COUNTER)]
        if not wanted or all(name in self for name in wanted):
            return self
        prefixes = [key.removesuffix(wanted[0]) for key in self if key.endswith(f".{wanted[0]}")]
        found = [prefix for prefix in prefixes if all(f"{prefix}{name}" in self for name in wanted)]
        if len(found) > 1:
            raise ValueError(f"{self.file}: has the network's tensors below {' and '.join(map(repr, found))}; keep one")
        if found:
            return self.below(found[0])
        for renamed in (
            {f"{_PARALLEL}{key}": value for key, value in self.items()},
            {_OLD_DENSENET.sub(r".\1\2.", key): value for key, value in self.items()},
        ):
            if all(name in renamed for name in wanted):
                return Weights(renamed, self.file, self.taken)
        return self


def read_weights(path: str | Path) -> Weights:
    """The tensors of a safetensors file or a torch checkpoint, by their names and on the CPU.

    Nothing in the file is run: objects beside the tensors, such as the settings that a training script keeps, are
    passed over. A checkpoint may keep the tensors as `tensors_by_name` says.

    Raises: ValueError: no such file, no file of weights, one of more than 4 GB, or a tensor that has a value which is
        no finite number.
    """
    tensors = tensors_by_name(open_checkpoint(path), f"weights {path}")
    _check_size(path, sum(value.numel() * value.element_size() for value in tensors.values()), "its tensors have")
    check_values(tensors, f"weights {path}")
    return tensors


def check_values(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises: ValueError: a tensor is sparse or without values, or has NaN or infinity; with its name."""
    for name, value in tensors.items():
        if value.is_meta or value.layout != torch.strided:
            where = "one on the meta device, without values" if value.is_meta else "a sparse one"
            raise ValueError(f"{what}: {name}: wanted a dense tensor; got {where}")
        if count := _not_finite(value):
            numbers = f"{count:,} of its {value.numel():,} values are"
            raise ValueError(f"{what}: {name}: {numbers} no finite numbers (NaN or infinity)")


def open_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a safetensors file or a torch checkpoint holds, as `read_weights` opens it. Raises: ValueError."""
    place = Path(path).expanduser()
    try:
        there = place.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise ValueError(f"weights {path}: wanted a safetensors file or a torch checkpoint; there is no such file")
    try:
        _check_size(path, place.stat().st_size, "the file has")
        return _safetensors(place) if _is_safetensors(place) else _checkpoint(place)
    except OSError as error:
        raise ValueError(f"weights {path}: cannot be read: {error.strerror or error}") from None


def tensors_by_name(content: Mapping[str, Any], what: str) -> Weights:
    """The weights among what a training script keeps.

    They may stand under one of the names in `NESTS`, also under one in another; "module." of a parallel wrapper and
    "_orig_mod." of a compiled one are taken off the names; a list of tensors by name becomes "list.0.name",
    "list.1.name", …

    Args:
        what: is named in the error.

    Raises: ValueError: it is something else than tensors by name, or more than 100,000 of them.
    """
    taken = ""
    while nests := [name for name in NESTS if isinstance(content.get(name), Mapping)]:
        others = f" (not {' and '.join(map(repr, nests[1:]))})" if nests[1:] else ""
        taken = f"{_joined(taken)}under {nests[0]!r}{others}"
        content = content[nests[0]]
    content = _with_lists(content)
    whole = [name for name in NESTS if isinstance(content.get(name), _Unread)]  # a network pickled with its code
    odd = [*whole, *(key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor)))]
    if odd or not content:
        got = f"{str(odd[0])[:200]!r}: {_kind(content[odd[0]])}" if content else "nothing"
        raise ValueError(f"{what}: wanted tensors by name, at the top or under 'state_dict', 'model', …; got {got}")
    if len(content) > MOST_TENSORS:
        raise ValueError(f"{what}: {len(content):,} tensors; at most {MOST_TENSORS:,} are taken")
    plain = {_COMPILED.sub("", key).removeprefix("."): value for key, value in content.items()}
    if len(plain) == len(content) and plain.keys() != content.keys():
        content, taken = plain, f"{_joined(taken)}without '_orig_mod.'"
    while all(key.startswith(_PARALLEL) for key in content if key != _AVERAGED) and content.keys() != {_AVERAGED}:
        content = {key.removeprefix(_PARALLEL): value for key, value in content.items() if key != _AVERAGED}
        taken = f"{_joined(taken)}without {_PARALLEL!r}"
    return Weights(content, what, taken)


def _joined(taken: str) -> str:
    return f"{taken}, " if taken else ""


def _check_size(path: str | Path, count: int, what: str) -> None:
    if count > MOST_BYTES:
        raise ValueError(f"weights {path}: {what} {count / 1e9:,.1f} GB; at most {MOST_BYTES / 1e9:.0f} GB are read")


def _not_finite(value: Tensor) -> int:
    """How many values are NaN or infinite; none in a mask, which is 0 and -infinity."""
    if not (value.is_floating_point() or value.is_complex()):
        return 0
    value = value if value.is_complex() or value.element_size() > 1 else value.float()
    count = value.numel() - int(torch.isfinite(value).sum())
    return 0 if count and not value.is_complex() and bool(((value == 0) | (value == -torch.inf)).all()) else count


def _with_lists(content: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            flat |= {f"{key}.{place}.{name}": part for place, entry in enumerate(value) for name, part in entry.items()}
        else:
            flat[key] = value
    return flat


def _is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then the opening brace of the header."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"weights {path}: a damaged safetensors file ({error})") from None


class _Unread:
    """Stands for an object of a checkpoint that is no tensor: its class is named and nothing of it is run."""

    name = "an object"

    def __new__(cls, *args: Any, **options: Any) -> "_Unread":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _kind(value: Any) -> str:
    if isinstance(value, _Unread):
        return f"a pickled {value.name:.100}, which is not read; save the network's state_dict() alone"
    return type(value).__name__


def _stand_ins(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For each class and function that the checkpoint names and torch would not call: what stands in its place."""
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # of the oldest format, or damaged: torch.load says what is wrong
        return []
    return [(type("_Unread", (_Unread,), {"name": name}), name) for name in sorted(names)[:MOST_CLASSES]]


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        _check_size(path, _unpacked(path), "it unpacks to")
        with warnings.catch_warnings(), safe_globals(_stand_ins(path)):
            warnings.simplefilter("ignore")  # of old formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows in many ways
        reason = _reason(error)
        raise ValueError(f"weights {path}: no torch checkpoint of tensors alone ({reason})") from None
    if not isinstance(content, dict):
        raise ValueError(f"weights {path}: wanted tensors by name, got {_kind(content)}")
    return content


def _reason(error: Exception) -> str:
    """The error in one line, without torch's advice to open the file without checks."""
    text = str(error).strip()
    if isinstance(error, UnpicklingError):
        text = text.rpartition("WeightsUnpickler error:")[2].partition("Please use")[0].strip() or text
        text = "it is no pickle of tensors" if "weights_only" in text else text
    return (text.splitlines() or [type(error).__name__])[0][:200]


def _unpacked(path: Path) -> int:
    """Bytes that the entries of a zip say they have; 0 for another file."""
    try:
        with zipfile.ZipFile(path) as file:
            return sum(entry.file_size for entry in file.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return 0
