"""Scores of items in their file: written whole, read back with names, refused where they do not fit."""

import numpy as np
import pytest

from foveate.items import read_groups, read_items, write_items


def test_names_and_arrays_of_any_rank_come_back_as_they_were(tmp_path):
    arrays = {"mIoU": np.array([0.5, 0.25], np.float32), "mIoU.union": np.arange(6).reshape(2, 3)}
    write_items(tmp_path / "items.npz", ["a/ö 1.png", "b"], arrays)
    names, found = read_items(tmp_path / "items.npz")
    assert names == ("a/ö 1.png", "b")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_an_array_without_a_row_for_each_item_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"items: wanted 2 rows of 'error', one an item; got 3"):
        write_items(tmp_path / "items.npz", ["a", "b"], {"error": np.zeros(3)})
    assert not (tmp_path / "items.npz").exists()


def test_no_file_is_none_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "items.npz"
    assert read_items(path) is None
    write_items(path, ["a"], {"error": np.zeros(1)})
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no archive at all"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"items\.npz: no scores of items"):
            read_items(path)


def test_pickled_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError):
        write_items(tmp_path / "items.npz", ["a"], {"error": np.array([{"a": 1}], object)})
    np.savez(tmp_path / "items.npz", names=np.array([print], object))
    with pytest.raises(ValueError, match="no scores of items"):
        read_items(tmp_path / "items.npz")


def test_what_items_belong_to_stands_beside_their_scores(tmp_path):
    path = tmp_path / "items.npz"
    assert read_groups(path) == {}
    write_items(path, ["a", "b"], {"error": np.zeros(2)}, np.array(["s1", "s2"]))
    assert read_groups(path) == {"a": "s1", "b": "s2"}
    assert list(read_items(path)[1]) == ["error"]
    write_items(path, ["a"], {"error": np.zeros(1)})
    assert read_groups(path) == {}
