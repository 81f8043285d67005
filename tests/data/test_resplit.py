"""Other divisions of a set, and items that belong together."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import open_data
from foveate.data.subset import hold_out, positions, together
from foveate.spec import DataSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def photo(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (colour % 256, colour // 256, 7)).save(path)


@pytest.fixture
def scans(tmp_path):
    """Ten subjects with four photos each in two classes, their own folders; the last photo of each is a copy."""
    for subject in range(10):
        for number in range(4):
            label = "ill" if (subject + number % 2) % 2 else "well"
            photo(tmp_path / "scans" / label / f"s{subject}" / f"{number}.png", 10 * subject + min(number, 2))
    return tmp_path / "scans"


def names(split):
    return {split.name_of(item) for item in range(len(split))}


def subjects(split):
    return {name.split("/")[-2] for name in names(split)}


def test_a_draw_is_another_division_of_the_same_items(scans):
    spec = DataSpec(source=str(scans), size=12, options={"group": "^(s\\d+)/"})
    usual = open_data(spec)
    draws = [open_data(spec.model_copy(update={"split": number})) for number in (0, 0, 1, 2)]
    assert names(draws[0].test) == names(draws[1].test)
    assert len({frozenset(names(one.test)) for one in draws}) == 3
    for one in (usual, *draws):
        assert names(one.train) | names(one.test) == names(usual.train) | names(usual.test)
        assert not subjects(one.train) & subjects(one.test)
        assert set(one.test.groups) == subjects(one.test)
        assert one.fingerprint == usual.fingerprint
        assert set(one.test.strata) == set(one.train.strata) == {0, 1}


def test_copies_stay_on_one_side_and_batches_are_the_items(scans):
    spec = DataSpec(source=str(scans), size=12)
    whole = open_data(spec)
    looks = {}
    for split in (whole.train, whole.test):
        batch = split.batch(range(len(split)), None)
        looks |= {split.name_of(i): (batch.inputs[i], int(batch.targets["label"][i])) for i in range(len(split))}
    drawn = open_data(spec.model_copy(update={"split": 5}))
    seen = []
    for split in (drawn.train, drawn.test):
        items = list(reversed(range(len(split))))
        batch = split.batch(items, None)
        assert batch.items.tolist() == items
        for row, item in enumerate(items):
            inputs, label = looks[split.name_of(item)]
            assert torch.equal(batch.inputs[row], inputs)
            assert int(batch.targets["label"][row]) == label == split.strata[item]
        assert split.batch(items, (1, 2)).inputs.shape == batch.inputs.shape
        seen.append({tuple(one.flatten().tolist()) for one in batch.inputs})
    assert not seen[0] & seen[1]


def test_arrays_are_pooled_with_their_copies(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part, count in (("train", 16), ("test", 8)):
        colours = [number % 6 + 10 * (number % 2) for number in range(count)]
        rows = {"label": [number % 2 for number in range(count)], "who": [f"p{colour}" for colour in colours]}
        cells = []
        for colour in colours:
            photo(tmp_path / "one.png", colour)
            cells.append({"bytes": (tmp_path / "one.png").read_bytes(), "path": ""})
        (tmp_path / "set").mkdir(exist_ok=True)
        parquet.write_table(arrow.table({"img": cells, **rows}), tmp_path / "set" / f"{part}-0.parquet")
    spec = DataSpec(source=str(tmp_path / "set"), split=3)
    drawn = open_data(spec)
    pixels = [
        {tuple(x.flatten().tolist()) for x in s.batch(range(len(s)), None).inputs} for s in (drawn.train, drawn.test)
    ]
    assert not pixels[0] & pixels[1]
    assert names(drawn.train) | names(drawn.test) == {f"train {n}" for n in range(16)} | {f"test {n}" for n in range(8)}
    fixed = open_data(spec.model_copy(update={"options": {"group": "who"}, "split": None}))
    assert fixed.notes[-1].startswith("6 groups of items both in the training and in the test part: 'p0', 'p11', 'p13'")
    belonging = open_data(spec.model_copy(update={"options": {"group": "who"}, "test_items": 4}))
    assert not set(belonging.train.groups) & set(belonging.test.groups)
    assert not any("groups" in note for note in belonging.notes)
    with pytest.raises(ValueError, match="group: has no column 'whom'; did you mean 'who'"):
        open_data(spec.model_copy(update={"options": {"group": "whom"}}))


def test_parts_that_must_not_be_mixed_are_refused():
    with pytest.raises(
        ValueError, match="resplit: scattered digits cannot be divided anew: its test digits are of other"
    ):
        open_data(DataSpec(split=1, train_items=20, test_items=10))
    with pytest.raises(ValueError, match="resplit: own data cannot be divided anew: it has no items"):
        open_data(DataSpec(kind="none", split=1, size=8))


def test_groups_of_a_list_are_a_key_of_its_rows(tmp_path):
    rows = []
    for number in range(12):
        photo(tmp_path / f"{number}.png", number)
        rows.append({"file": f"{number}.png", "index": number % 2, "patient": number // 3})
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    spec = DataSpec(source=str(tmp_path), size=12, options={"group": "patient"}, test_fraction=0.3)
    data = open_data(spec)
    assert not set(data.train.groups) & set(data.test.groups)
    rows[0]["patient"] = 3
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    assert open_data(spec).fingerprint != data.fingerprint
    del rows[0]["patient"]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"labels\.json: group: '0\.png' has no 'patient'"):
        open_data(spec)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "wanted a regular expression; got"),
        ("s1", "with one group in brackets"),
        ("x(\\d)", "finds no group in 's"),
    ],
)
def test_a_pattern_that_finds_no_group_is_refused(scans, pattern, said):
    with pytest.raises(ValueError, match=said):
        open_data(DataSpec(source=str(scans), size=12, options={"group": pattern}))


def test_groups_of_several_classes_stay_whole():
    draw = np.random.default_rng(0)
    groups, strata = np.repeat(np.arange(30), 10), draw.integers(0, 3, 300)
    train, test = hold_out(strata, positions(300), 0.2, groups)
    assert not set(groups[train]) & set(groups[test])
    assert 30 <= len(test) <= 60


def test_what_belongs_together_does_so_in_turn():
    copies, groups = np.array([0, 0, 2, 3, 4, 5]), np.array(["a", "b", "b", "c", "c", "d"])
    found = together(copies, groups)
    assert found[0] == found[1] == found[2] != found[3] == found[4] != found[5]
