"""A kind of data is found by its name, by its source, or in a person's own file; and what it holds is told."""

import json

import numpy as np
import pytest
from PIL import Image

from foveate.data import inspect_data, open_data, register_data
from foveate.data.dataset import CHECKS, EVALUATION, KINDS, RECOGNISERS
from foveate.data.open import kind_of, open_images
from foveate.spec import DataSpec

OWN = """import numpy as np

from foveate.data import Target, in_memory


def open_waves(spec, *, progress=None, length=100):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 1, length)).astype(np.float32)
    targets = {"mean": x.mean((1, 2))[:, None]}
    kinds = {"mean": Target("values", ("mean",), "V")}
    whole = x, targets
    return in_memory(spec, whole, whole, kinds, name="waves", fingerprint="0" * 16, edge="reflect", shift=3)


def broken(spec, *, progress=None):
    return 1 / 0


def nothing(spec, *, progress=None):
    return None
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def forgets():
    """What a test registers is forgotten afterwards."""
    KINDS.names()
    kept = [(hooks, dict(hooks)) for hooks in (KINDS._entries, RECOGNISERS, CHECKS, EVALUATION)]
    yield
    for hooks, before in kept:
        hooks.clear()
        hooks.update(before)


def photo(path, colour=(9, 9, 9), size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pets(tmp_path):
    for index in range(8):
        photo(tmp_path / "pets" / ("cat", "dog")[index % 2] / f"{index}.png", (index, 0, 0), (20 + index, 20))
    return tmp_path / "pets"


def test_the_kinds_of_the_library_are_found_without_an_import():
    assert {"auto", "cifar", "embedded", "folders", "listed", "parquet"} <= set(KINDS.names())
    with pytest.raises(LookupError, match="no kind of data is called 'folder'; did you mean 'folders'"):
        open_data(DataSpec(kind="folder", source="x"))


def test_a_kind_named_and_a_kind_seen_are_the_same(pets):
    assert kind_of(str(pets)) == "folders"
    named, seen = (open_data(DataSpec(kind=kind, source=str(pets), size=16)) for kind in ("folders", "auto"))
    assert named.fingerprint == seen.fingerprint
    assert named.description == seen.description


def test_a_later_kind_adds_itself_with_its_source(pets, forgets):
    embedded = open_data(DataSpec(train_items=10, test_items=10))

    @register_data("scans", recognises=lambda source: (pets / "scans").is_dir() and source == str(pets))
    def open_scans(spec, *, progress=None):
        return embedded

    assert kind_of(str(pets)) == "folders"
    (pets / "scans").mkdir()
    assert open_data(DataSpec(source=str(pets))) is embedded
    assert inspect_data(str(pets)).kind == "scans"
    with pytest.raises(ValueError, match="data of kind 'scans' are no images to test a classifier on"):
        open_images(pets)
    register_data("other", recognises=lambda source: source == str(pets))(lambda spec: embedded)
    with pytest.raises(ValueError, match=r"pets: could be other or scans; say which with kind = …"):
        open_data(DataSpec(source=str(pets)))
    with pytest.raises(ValueError, match="kind of data name 'scans' is taken"):
        register_data("scans")(lambda spec: embedded)


def test_a_kind_of_a_persons_own_file(tmp_path):
    (tmp_path / "my.py").write_text(OWN)
    data = open_data(DataSpec(kind=f"{tmp_path / 'my.py'}:open_waves", options={"length": 64}, train_items=10))
    assert data.inputs == (1, 64)
    batch = data.train.batch([0, 1], (0, 0))
    assert batch.inputs.shape == (2, 1, 64)
    assert batch.targets["mean"].shape == (2, 1)
    for name, error, message in (
        ("broken", ValueError, r"my\.py:broken raised ZeroDivisionError in line 16: division by zero"),
        ("nothing", ValueError, r"my\.py:nothing: wanted a foveate\.data\.Dataset; got NoneType"),
        ("opne", LookupError, "has no function 'opne'"),
    ):
        with pytest.raises(error, match=message):
            open_data(DataSpec(kind=f"{tmp_path / 'my.py'}:{name}"))
    with pytest.raises(TypeError, match="no option 'lenght'; did you mean 'length'"):
        open_data(DataSpec(kind=f"{tmp_path / 'my.py'}:open_waves", options={"lenght": 64}))


def test_a_list_of_labels_is_a_data_set(tmp_path):
    rows = []
    for number in range(12):
        photo(tmp_path / "set" / "images" / f"{number}.png", (20 * number, 0, 0))
        rows.append({"file": f"images/{number}.png", "index": (10, 2)[number % 2]})
    (tmp_path / "set" / "labels.json").write_text(json.dumps(rows))
    assert kind_of(str(tmp_path / "set")) == "listed"
    data = open_data(DataSpec(source=str(tmp_path / "set"), size=16, test_fraction=0.34))
    assert data.targets["label"].names == ("2", "10")
    assert (len(data.train), len(data.test)) == (8, 4)
    for split in (data.train, data.test):
        labels = split.batch(range(len(split)), None).targets["label"].tolist()
        names = [split.name_of(item) for item in range(len(split))]
        assert [int(name[7:-4]) % 2 for name in names] == [1 - label for label in labels]
    (tmp_path / "own.txt").write_text("images/0.png cat\nimages/1.png dog\nimages/2.png cat\nimages/3.png dog\n")
    own = open_data(
        DataSpec(kind="listed", source=str(tmp_path / "set"), options={"labels": str(tmp_path / "own.txt")})
    )
    assert own.targets["label"].names == ("cat", "dog")
    (tmp_path / "set" / "images" / "3.png").write_bytes(b"no image")
    found = inspect_data(str(tmp_path / "set"))
    assert [problem.path.name for problem in found.problems] == ["3.png"]
    (tmp_path / "set" / "labels.json").write_text('[{"file": "images/0.png", "index": 1}]')
    assert "wanted at least two classes, got 1" in str(inspect_data(str(tmp_path / "set")).problems[0])


def test_a_file_of_labels_that_is_about_something_else_is_no_list(pets):
    for content in ('{"0": "cat", "1": "dog"}', "[1, 2]", "not JSON"):
        (pets / "labels.json").write_text(content)
        assert kind_of(str(pets)) == "folders", content
        assert len(open_data(DataSpec(source=str(pets))).train) == 6


def test_what_a_folder_holds_is_told(pets):
    row = inspect_data(str(pets)).row()
    assert row["usable"]
    assert row["kind"] == "folders"
    assert row["train"] == {"items": 6, "classes": {"cat": 3, "dog": 3}}
    assert row["test"] == {"items": 2, "classes": {"cat": 1, "dog": 1}}
    assert row["about"]["photo sizes"] == "20×20 to 27×20 pixels (width × height)"
    assert row["problems"] == []
    (pets / "cat" / "bad.jpg").write_bytes(b"no")
    (pets / "mouse").mkdir()
    bad = inspect_data(str(pets))
    assert bad.serious == 2, "folders and files in one round"
    assert not bad.row()["usable"]
    assert {problem["kind"] for problem in bad.row()["problems"]} == {"file", "folder"}
    json.dumps(bad.row())
    embedded = inspect_data("embedded")
    assert embedded.row()["targets"] == {"label": "class", "mask": "mask", "box": "values", "centre": "values"}


def test_what_no_reader_of_zip_files_can_read_is_made_again(tmp_path):
    """A cached archive of a version of zip that Python does not read."""
    data = open_data(DataSpec(train_items=10, test_items=10))
    for kept in (tmp_path / "cache").glob("*.npz"):
        content = bytearray(kept.read_bytes())
        place = content.find(b"PK\x01\x02")
        while place >= 0:
            content[place + 6] = 250  # version needed to extract
            place = content.find(b"PK\x01\x02", place + 4)
        kept.write_bytes(bytes(content))
    again = open_data(DataSpec(train_items=10, test_items=10))
    assert np.array_equal(again.train.inputs, data.train.inputs)
