"""A network and its attention in one file: weights as safetensors, and in the file's metadata how to build it again.

A file may come from anybody. What it says is checked before anything is built: names that are known here, plain
options, counts within limits, and tensors that are those of the network it names. Nothing in it is ever run.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field, StringConstraints, ValidationError
from torch import Tensor, nn

from foveate.files import write_whole
from foveate.insertion import insertions, reinsert
from foveate.insertion.watch import unwrapped
from foveate.networks import Origin, build_larger, is_narrowed, narrow_to, origin_of
from foveate.registry import is_file_reference
from foveate.spec import Frozen

FORMAT = "foveate-network"
MOST_BYTES = 4_000_000  # of a recipe
MOST_HEADER = 64_000_000  # bytes, of names and shapes
MOST_NUMBER = 1_000_000
_DEPTH = 4  # of lists in options
_FORBIDDEN = frozenset({"pretrained", "checkpoint", "weights", "cfg", "url", "file", "hub", "cache", "dir"})

Text = Annotated[str, StringConstraints(max_length=500)]
Number = Annotated[int, Field(ge=1, le=MOST_NUMBER)]
Count = Annotated[int, Field(ge=0, le=MOST_NUMBER)]


class NetworkPart(Frozen):
    """The plain network, as `build_network` takes it."""

    name: Text
    num_classes: int = Field(ge=0, le=MOST_NUMBER)
    in_channels: int = Field(3, ge=1, le=4096)
    options: dict[Text, Any] = Field(default_factory=dict, max_length=100)
    width: float = Field(1.0, ge=1.0, le=16.0)
    layers: tuple[tuple[Count, Count, Count], ...] = Field((), max_length=10_000)
    block: Text = ""


class SitePart(Frozen):
    """A `foveate.insertion.Site`."""

    name: Text
    kind: Literal["block", "stage", "head", "module"]
    channels: Number
    shape: tuple[Number, ...] = Field(min_length=1, max_length=3)
    stage: Number | None
    attached_to: Text
    side: Literal["output", "input", "instead"]
    module: Text
    layout: str = Field("NCHW", pattern=r"^(N(C(L|HW|DHW|\((HW|DHW)\))|(HW|DHW)C|LC(\+[0-9]{1,3})?)|\(NT\)CHW)$")
    entry: Count | None = None
    input_shape: tuple[Number, ...] = Field((), max_length=3)


class InsertionPart(Frozen):
    """One inserted module."""

    site: SitePart
    attention: Text
    options: dict[Text, Any] = Field(default_factory=dict, max_length=100)
    start: Literal["paper", "identity", "blend"]


class Recipe(Frozen):
    """How a saved network is built again, and what its maker says about it."""

    version: Literal[1] = 1
    network: NetworkPart
    insertions: tuple[InsertionPart, ...] = Field((), max_length=10_000)
    training: bool = False
    other_mode: tuple[Text, ...] = Field((), max_length=100_000)
    pruned: bool = False
    about: dict[Text, str] = Field(default_factory=dict, max_length=1000)


def save(
    model: nn.Module,
    path: str | Path,
    *,
    network: str | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    options: Mapping[str, Any] | None = None,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write a network with its inserted attention to one file that `load` builds again.

    Weights and buffers are kept bit for bit, and so is each module's mode; which parameters take gradients is not. The
    file is replaced whole or not at all.

    Args:
        model: built by `create_network`, `build_network` or a study, or with `network=` given. Of a compiled or
            data-parallel one the network in it is saved.
        path: the file, usually called `*.safetensors`.
        network: "timm:resnet18", "torchvision:resnet18", "foveate:resnet8", or "path.py:function", which `load` takes
            only with a `builder`. None: as the network was built.
        num_classes: with `network`: of its classifier.
        in_channels: with `network`: of its images.
        options: with `network`: of its constructor.
        about: what its users should know: licence of the weights, metrics, free text.

    Returns: the path.
    Raises: ValueError: it is not known how the network was built, or that gives another one than this; attention
        without a registered name; the file cannot be written.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("wanted the network that the TorchScript module was made from; torch.jit.save keeps this one")
    model = unwrapped(model)
    origin = origin_of(model)
    if network is not None:
        if num_classes is None:
            raise ValueError(f"network={network!r} goes with num_classes=, the outputs of its classifier")
        origin = Origin(network, num_classes, in_channels, dict(options or {}))
    elif origin is None:
        raise ValueError(
            f"it is not known how this {type(model).__name__} was built; say so with network='timm:…', 'torchvision:…' "
            "or 'foveate:…', and num_classes="
        )
    modes = [(name, module.training) for name, module in model.named_modules()]
    content = {
        "network": vars(origin),
        "insertions": insertions(model),
        "training": model.training,
        "other_mode": [name for name, mode in modes if mode != model.training],
        "pruned": is_narrowed(model),
        "about": dict(about or {}),
    }
    recipe = _checked(_plain(content, "the recipe"), "this network")
    state = model.state_dict()
    odd = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise ValueError(f"{odd}: wanted a tensor, got {type(state[odd]).__name__}; such state cannot be saved")
    if not is_file_reference(recipe.network.name):
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        different = _mismatch(_expected(recipe, shapes), shapes)
        if different:
            raise ValueError(f"this network is not {recipe.network.name} as built: {different}")
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    path = Path(path)
    try:
        write_whole(path, safetensors.torch.save(tensors, {"format": FORMAT, "recipe": recipe.model_dump_json()}))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    return path


def load(path: str | Path, *, builder: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Build a saved network again: the same weights bit for bit, the same modes, the same outputs; on the CPU.

    Safe for files from anybody: only networks of timm, torchvision and foveate and registered attention are built.

    Args:
        path: as `save` wrote it.
        builder: makes the plain network, for one from a file of your own; then what the file says of it is not used.

    Raises: ValueError: in one line, what is wrong with the file.
    """
    path = Path(path)
    recipe = describe(path)
    try:
        with torch.inference_mode(False), safetensors.safe_open(path, "pt") as file:  # weights for any use
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            if builder is None and (different := _mismatch(_expected(recipe, shapes), shapes)):
                raise ValueError(f"the tensors are not those of {recipe.network.name}: {different}")
            with torch.random.fork_rng(devices=[]):
                model = _built(recipe, builder, shapes)
            wanted = model.state_dict(keep_vars=True)
            if different := _mismatch({key: tuple(value.shape) for key, value in wanted.items()}, shapes):
                raise ValueError(f"the tensors are not those of the network: {different}")
            for key, value in wanted.items():
                tensor = file.get_tensor(key)
                value.data = value.data.to(tensor.dtype)
                value.data.copy_(tensor)
    except (LookupError, TypeError, ValueError, RuntimeError, OSError, safetensors.SafetensorError) as error:
        reason = str(error.args[0] if error.args else error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path}: {reason[0]}") from None
    other = set(recipe.other_mode)
    for name, module in model.named_modules():
        module.training = recipe.training != (name in other)
    return model


def describe(path: str | Path) -> Recipe:
    """What a saved file says of itself, checked, with nothing built. Raises: ValueError: in one line, what is wrong."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(f"{path}: no file that foveate.save wrote (a header of {length:,} bytes)")
        with safetensors.safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: no file that foveate.save wrote ({error})") from None
    if metadata.get("format") != FORMAT or "recipe" not in metadata:
        raise ValueError(f"{path}: holds weights without a recipe; foveate.save writes both")
    if len(metadata["recipe"]) > MOST_BYTES:
        raise ValueError(
            f"{path}: its recipe has {len(metadata['recipe']):,} characters; at most {MOST_BYTES:,} are read"
        )
    try:
        content = json.loads(metadata["recipe"])
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: its recipe is not JSON") from None
    return _checked(content, str(path))


def _checked(content: Any, where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "recipe"
        raise ValueError(f"{where}: {place}: {first['msg']}; got {str(first['input'])[:80]!r}") from None
    tables = (
        {"attention_options", "encoder_options"} if recipe.network.name.rpartition(":")[0] in ("", "foveate") else set()
    )
    for options in (recipe.network.options, *(entry.options for entry in recipe.insertions)):
        for key, value in options.items():
            if not _is_plain(value, tables=key in tables and options is recipe.network.options):
                raise ValueError(f"{where}: option {key!r}: wanted numbers, words or lists of them; got {value!r:.80}")
    encoder = recipe.network.options.get("encoder_options")
    for key in (*recipe.network.options, *(encoder if isinstance(encoder, dict) else ())):
        if _FORBIDDEN & set(key.lower().split("_")):
            raise ValueError(f"{where}: option {key!r} of the network would open other files; it cannot be in a recipe")
    return recipe


def _is_plain(value: Any, depth: int = 0, *, tables: bool = False) -> bool:
    if tables and isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        few = depth < _DEPTH and len(value) <= 1000
        return few and all(_is_plain(item, depth + 1, tables=tables) for item in value)
    if isinstance(value, str):
        return len(value) <= 100
    return value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) <= MOST_NUMBER)


def _plain(content: Any, what: str) -> Any:
    """As JSON would give it back."""
    try:
        return json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be plain values (numbers, words, lists): {error}") from None


def _built(recipe: Recipe, builder: Callable[[], nn.Module] | None, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """The network with fresh weights; a pruned one is built whole and made as narrow as its tensors are."""
    part = recipe.network
    if builder is not None:
        model = builder()
    elif is_file_reference(part.name):
        raise ValueError(f"the network is {part.name}, code that a file may not run; pass builder=, which makes it")
    else:
        model = build_larger(Origin(**part.model_dump()))
    reinsert(model, [entry.model_dump() for entry in recipe.insertions])
    return narrow_to(model, shapes) if recipe.pruned else model


def _expected(recipe: Recipe, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the tensors, from a network without memory; None where it cannot be built so."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # initialisation of empty tensors
        try:
            model = _built(recipe, None, shapes)
        except (NotImplementedError, RuntimeError):
            return None
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _mismatch(wanted: dict[str, tuple[int, ...]] | None, got: dict[str, tuple[int, ...]]) -> str:
    """The first difference in words; "" if there is none, or nothing to compare with."""
    if wanted is None:
        return ""
    for key in _first(key for key in wanted if key not in got):
        return f"{key!r} is missing"
    for key in _first(key for key in got if key not in wanted):
        return f"{key!r} is surplus"
    for key in _first(key for key in got if got[key] != wanted[key]):
        return f"{key}: wanted the shape {wanted[key]}, got {got[key]}"
    return ""


def _first(keys: Iterable[str]) -> list[str]:
    return list(keys)[:1]
