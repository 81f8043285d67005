"""Names for what people add: mechanisms, networks, tasks, kinds of data. And the files in which they add it."""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
USER_MODULE = "foveate_user_"  # begins the names of modules that are users' files


class UnknownNameError(LookupError, ValueError):
    """Nothing is registered under this name; the message gives the nearest names."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The hint of an error: the nearest of the known names; all of them where none is near and they are few."""
    names = [str(one) for one in known]
    near = get_close_matches(str(name), names, count)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(names) or 'none'}" if len(names) <= 30 else f"there are {len(names)} others"


class Registry(Generic[Entry]):
    """Names for entries of one kind. Those of the library register themselves when their files are first imported.

    Args:
        kind: what an entry is called in messages, such as "attention".
        package: whose files are imported at the first look-up; those whose names begin with "_" are not.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}
        self._discovered = package is None

    def add(self, name: str, entry: Entry) -> None:
        """Register the entry. A user's class or function of the same name replaces it, as when a cell is run again.

        Raises: ValueError: the name is taken by another.
        """
        taken = self._entries.get(name)
        if taken is not None and taken is not entry and not _replaces(taken, entry):
            raise ValueError(f"{self.kind} name {name!r} is taken by {_called(taken)}")
        self._entries[name] = entry

    def get(self, name: str) -> Entry:
        """The entry. Raises: UnknownNameError (a LookupError and a ValueError): no such name; the nearest is given."""
        if name not in self._entries:
            self._discover()
        if name not in self._entries:
            raise UnknownNameError(f"no {self.kind} is called {name!r}; {nearest(name, self.names())}")
        return self._entries[name]

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match the glob pattern, sorted; those that begin with "_" are found and not listed."""
        self._discover()
        return sorted(name for name in self._entries if fnmatchcase(name, pattern) and not name.startswith("_"))

    def file_of(self, name: str) -> Path | None:
        """The user's file that defines the entry; None for the library's own and for what no file defines.

        Raises: ValueError: the entry was defined at a prompt or in a notebook, where no other process finds it.
        """
        entry: Any = self.get(name)
        while isinstance(entry, functools.partial):
            entry = entry.func
        module = inspect.getmodule(entry)
        if module is not None and module.__name__.split(".")[0] == "foveate":
            return None
        try:
            file = Path(inspect.getfile(entry if inspect.isroutine(entry) or inspect.isclass(entry) else type(entry)))
        except (TypeError, OSError):
            file = Path("<unknown>")
        if not file.is_file():
            raise ValueError(
                f"{self.kind} {name!r} was defined at a prompt; each run is a process of its own and needs it in a "
                'file: put it into one and name that file with imports = ["my.py"]'
            )
        return file.resolve()

    def _discover(self) -> None:
        if self._discovered or self.package is None:
            return
        self._discovered = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")


def _replaces(taken: Any, entry: Any) -> bool:
    """Is this a user's class or function of the same name as the one before?"""
    names = [getattr(one, "__qualname__", None) for one in (taken, entry)]
    return names[0] is not None and names[0] == names[1] and not _is_own(taken)


def _is_own(entry: Any) -> bool:
    """Is this one of the library's?"""
    return str(getattr(entry, "__module__", "")).split(".")[0] == "foveate"


def _called(entry: Any) -> str:
    module = getattr(entry, "__module__", "?")
    file = getattr(sys.modules.get(module), "__file__", None)
    where = f" in {file}" if file and module.startswith(USER_MODULE) else ""
    return f"{module}.{getattr(entry, '__qualname__', type(entry).__name__)}{where}"


def check_options(name: str, builder: Callable[..., Any], options: Iterable[str], *, skip: Iterable[str] = ()) -> None:
    """Raise TypeError, with the nearest name, for an option that the builder's signature does not have.

    skip: parameters of the builder that are no options.
    """
    parameters = inspect.signature(builder).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.name not in set(skip) and p.kind is not p.VAR_POSITIONAL]
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}; {nearest(option, known)}")


@functools.cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def run_file(path: Path | str) -> ModuleType:
    """The module of a user's Python file, run once a process; what it registers is known afterwards.

    Its folder is importable while it runs, so that a file may import its neighbour.

    Raises: LookupError: no such file. ValueError: it raises an error; the message has the line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise LookupError(f"{path}: no such file; wanted a Python file")
    place = path.resolve()
    for module in list(sys.modules.values()):
        with contextlib.suppress(OSError, TypeError, ValueError):
            if getattr(module, "__file__", None) and _resolved(str(module.__file__)) == place:
                return module
    name = USER_MODULE + path.stem
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise LookupError(f"{path}: wanted a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be pickled
    sys.path.append(str(place.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be read: {error_in(error, place)}") from error
    finally:
        sys.path.remove(str(place.parent))
    return module


def read_from_file(reference: str, wanted: str) -> Callable[..., Any]:
    """What "path.py:name" names: a function or class of a user's file.

    wanted: what it should be, for messages, such as "a function".

    Raises: LookupError: no such file, or no such name in it. ValueError: the file raises an error.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not file.endswith(".py") or not name:
        raise LookupError(f"{reference!r}: wanted {wanted} as path.py:name")
    module = run_file(file)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LookupError(f"{file} has no {wanted.removeprefix('a ')} {name!r}; {nearest(name, own)}")
    return found


def is_file_reference(name: str) -> bool:
    """Is this "path.py:name"?"""
    return name.rpartition(":")[0].endswith(".py")


def user_file_in(error: BaseException) -> Path | None:
    """The file of a user's, run by `run_file`, that the error came through last; None: it came through none."""
    files = {getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith(USER_MODULE)}
    frames = traceback.extract_tb(error.__traceback__)
    return next((Path(frame.filename) for frame in reversed(frames) if frame.filename in files), None)


def error_in(error: BaseException, path: Path) -> str:
    """An error in one line, with the last line of the user's file that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).splitlines()
    return f"{type(error).__name__}{f' in line {line}' if line else ''}{f': {text[0]}' if text else ''}"
