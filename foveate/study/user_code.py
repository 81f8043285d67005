"""The user's own code that a study runs: the files it names, and those beside them that they import."""

import ast
import hashlib
from pathlib import Path

from foveate.spec import Study


def code_files(study: Study) -> list[Path]:
    """Each once; those that the study names come first, in its order.

    A file's imports are read, not run: of `import helper` and `from helper import f` the file helper.py in its folder,
    or every Python file of a package there, also one that is not valid Python; and what those import, in turn.
    """
    found = [Path(path) for path in study.files()]
    for path in found:  # grows as it goes
        found += [file for file in _imported(path) if file not in found]
    return found


def code_fingerprint(study: Study) -> str:
    """Of the contents and names of `code_files`; "" where there are none."""
    files = code_files(study)
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16] if files else ""


def _imported(path: Path) -> list[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # a file of a package that nobody imports, such as a template
        return []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    found = []
    for name in sorted(names):
        package = path.parent / name
        if (package / "__init__.py").is_file():
            found += sorted(package.rglob("*.py"))
        elif package.with_suffix(".py").is_file():
            found.append(package.with_suffix(".py"))
    return found
