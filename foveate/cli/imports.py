"""--import FILE on every command: a person's own files, run before the command looks anything up."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

_GIVEN: list[str] = []
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", help="A Python file that registers names; again for another.", metavar="FILE"),
]


def with_imports(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option --import, whose files are run before it."""

    @functools.wraps(command)
    def run(*args: Any, own_files: list[str] | None = None, **options: Any) -> None:
        from foveate.registry import run_file

        _GIVEN[:] = own_files or []
        for file in _GIVEN:
            run_file(file)
        command(*args, **options)

    signature = inspect.signature(command)
    added = inspect.Parameter("own_files", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Imports)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "own_files": Imports}
    return run


def given_imports() -> list[str]:
    """The files that this command was given."""
    return list(_GIVEN)
