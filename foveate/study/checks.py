"""Are the names of a study known, and do its files reach every process? Checked before data are opened."""

import tomllib
from pathlib import Path

import foveate.data  # noqa: F401  registers the kinds of data
from foveate.attention import ATTENTION, check_attention_options
from foveate.data.dataset import KINDS, opener_of
from foveate.devices import require_device
from foveate.networks import NETWORKS
from foveate.registry import Registry, check_options, is_file_reference, read_from_file, run_file
from foveate.spec import Study, Variant
from foveate.study.start import find_start
from foveate.study.teacher import teacher_fingerprint
from foveate.study_file import line_of
from foveate.tasks import TASKS


def check_names(study: Study, *, file: Path | None = None, device: bool = True) -> Study:
    """Is there every mechanism, task, kind of data, trainer and file that the study names, with such options, the
    weights that it starts from, and the device?

    Args:
        file: that the study was read from; its line then stands before the error.
        device: is it to be on this machine?

    Returns: the study, its imports completed by the scripts in which names were registered, so that every process of
        the study knows them.
    Raises: ValueError: if there is not; the nearest is named.
    """
    for path in study.files():
        try:
            run_file(path)
        except LookupError as error:
            raise ValueError(str(error)) from None
    for variant in study.variants:
        _check_variant(variant, file)
        if variant.distill is not None:
            try:
                teacher_fingerprint(variant.distill)
            except LookupError as error:
                raise ValueError(f"variant {variant.name!r}: distill: {error.args[0]}") from None
            except ValueError as error:
                raise ValueError(f"variant {variant.name!r}: distill: {error}") from None
    try:
        task = read_from_file(study.task, "a class") if is_file_reference(study.task) else TASKS.get(study.task)
        check_options(f"task {study.task!r}", task, study.task_options, skip=("self", "data"))
        opener_of(study.data)
    except (LookupError, TypeError) as error:
        raise ValueError(str(error.args[0])) from None
    try:
        for network in study.networks():
            find_start(study, network)
    except LookupError as error:
        raise ValueError(f"weights: {error.args[0]}") from None
    if study.trainer is not None:
        try:
            read_from_file(study.trainer, "a function")
        except LookupError as error:
            raise ValueError(f"trainer: {error.args[0]}") from None
    try:
        if device:
            require_device(study.train.device)
    except ValueError as error:
        raise ValueError(f"train.{error}") from None
    return study.model_copy(update={"imports": (*study.imports, *_unnamed_files(study))})


def _check_variant(variant: Variant, file: Path | None) -> None:
    for part in variant.insert:
        try:
            check_attention_options(part.attention, {})
        except LookupError as error:
            raise ValueError(f"{_place(file, variant)}variant {variant.name!r}: {error}") from None
        for option in part.options:
            try:
                check_attention_options(part.attention, {option: None})
            except TypeError as error:
                raise ValueError(f"{_place(file, variant, option)}variant {variant.name!r}: {error}") from None


def _unnamed_files(study: Study) -> list[str]:
    """Scripts that registered something the study names, and that it does not name itself."""
    used: list[tuple[Registry, str]] = [(ATTENTION, part.attention) for v in study.variants for part in v.insert]
    for name in study.networks():
        source, _, network = name.rpartition(":")
        used += [(NETWORKS, network)] if source in ("", "foveate") and network in NETWORKS.names() else []
    used += [
        (registry, name)
        for registry, name in ((TASKS, study.task), (KINDS, study.data.kind))
        if not is_file_reference(name)
    ]
    named = {Path(path).resolve() for path in study.files()}
    found = [registry.file_of(name) for registry, name in used]
    return list(dict.fromkeys(str(path) for path in found if path is not None and path not in named))


def _place(file: Path | None, variant: Variant, option: str | None = None) -> str:
    """ "study.toml:7: ", where this variant's attention or option stands; "" without a file."""
    if file is None:
        return ""
    text = file.read_text(encoding="utf-8")
    written = [Variant.model_validate(entry) for entry in tomllib.loads(text).get("variants", [])]
    if variant not in written:  # given by a flag
        return ""
    path = ["variants", written.index(variant), *(["attention"] if option is None else ["options", option])]
    line = line_of(text, path)
    return f"{file}:{line}: " if line else f"{file}: "
