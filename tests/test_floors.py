"""What may import what: a part of foveate imports only from floors below its own, and by absolute name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import foveate

FLOORS = [
    # what a control and a metric are, device check, whole-file writes, machine facts, names
    {"controls", "devices", "files", "machine", "metric", "registry"},
    {
        "compression",
        "explaining",
        "published",
        "robustness",
        "training",
    },  # what is measured besides; how a network is trained, and made smaller
    {"variant"},  # one thing to compare
    {"spec"},  # facts: what a run is
    {"study_file", "items", "detections", "summary"},  # a study as TOML; what was found on each item and in all
    {"store"},  # facts: where results are kept
    {"counting", "waves"},  # what operators compute and move; acoustic waves: gathers, misfit, classical inversion
    {"kernels"},  # fused passes over maps
    {"attention"},  # the mechanisms
    {"insertion"},  # sites, insert, remove
    {"networks"},  # whole networks
    {"architecture", "data", "official", "saving"},  # what a network consists of; what comes from outside, goes there
    {"tasks"},  # head, loss, metrics over data
    {"trained", "compress"},  # a network with trained weights, by name; smaller networks from trained ones
    {"train", "costs", "explain"},  # work
    {"study", "report"},  # story
    {"web"},  # the explorer page
    {"cli"},  # door
]
FLOOR_OF = {part: height for height, parts in enumerate(FLOORS) for part in parts}
WITHOUT_TORCH = {
    "compression", "controls", "explaining", "files", "metric", "published", "registry", "robustness", "training",
    "variant", "spec", "study_file", "items", "detections", "summary", "store", "report",
}  # fmt: skip
ROOT = Path(foveate.__file__).parent
FILES = [path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name not in {"__init__.py", "__main__.py"}]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    part = path.relative_to(ROOT).with_suffix("").parts[0]
    for name in imported(path):
        if name.startswith("foveate."):
            other = name.split(".")[1]
            if other == "__version__":
                continue
            assert other == part or FLOOR_OF[other] < FLOOR_OF[part], f"{part} imports {name}, which is not below it"
        if part in WITHOUT_TORCH:
            assert name.split(".")[0] not in {"torch", "triton"}, f"{part} knows no torch, yet imports {name}"


def test_every_part_has_a_floor():
    parts = {path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES}
    assert parts == set(FLOOR_OF)
