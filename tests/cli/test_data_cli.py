"""foveate data make | check on the command line."""

import json
import sys

import pytest
from PIL import Image

from foveate.cli import main


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FOVEATE_DEBUG", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", "data", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def photos(tmp_path):
    for label, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (9, 9 + number), colour).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def test_check_tells_classes_counts_sizes_and_split(command, photos):
    (photos / "loose.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    status, out, error = command("check", "photos")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "note: photos: 1 loose image beside the class folders left out: loose.png"
    assert lines[1] == "photos: 8 train and 2 test photos at 224×224 pixels, 2 classes"
    assert [line.split() for line in lines[2:5]] == [["class", "train", "test"], ["cat", "4", "1"], ["dog", "4", "1"]]
    assert "photo sizes: 9×9 to 9×13 pixels (width × height)" in lines
    assert lines[-1] == "photos: can be used (kind folders)"
    row = json.loads(command("check", "photos", "--json")[1])
    assert row["train"]["classes"] == {"cat": 4, "dog": 4}


def test_check_lists_everything_at_once_and_may_skip_what_is_bad(command, photos):
    (photos / "cat" / "0.png").write_bytes(b"")
    (photos / "cat" / "1.png").write_bytes(b"junk")
    (photos / "dog" / "notes.txt").write_text("mine")
    status, out, error = command("check", "photos")
    assert (status, error) == (1, "3 problems in photos\n")
    assert len(out.splitlines()) == 3
    status, out, error = command("check", "photos", "--skip-bad")
    assert (status, error) == (0, "")
    assert out.count("left out: ") == 3
    assert "photos: 6 train and 2 test photos" in out
    row = json.loads(command("check", "photos", "--json")[1])
    assert [problem["path"] for problem in row["problems"]] == [
        "photos/cat/0.png",
        "photos/dog/notes.txt",
        "photos/cat/1.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("check", ""), 2, "wanted a data folder; got an empty name"),
        (("check", "nowhere"), 2, "nowhere: wanted 'embedded' or a folder, got neither"),
        (("check", "photos", "--kind", "folder"), 2, "no kind of data is called 'folder'; did you mean 'folders'"),
        (("check", "photos", "--option", "skip=1"), 2, "no option 'skip'; did you mean 'skip_bad'"),
        (("check", "embedded", "--skip-bad"), 2, "'embedded' has no option 'skip_bad'"),
    ],
)
def test_mistakes_are_one_line(command, photos, arguments, status, message):
    found, _, error = command(*arguments)
    assert found == status
    assert message in error
    assert len(error.splitlines()) == 1


def test_make_writes_a_folder_that_check_takes(command, tmp_path):
    assert command("make", "digits", "--images", "30", "--test-images", "20")[0] == 0
    status, out, _ = command("check", "digits")
    assert status == 0
    assert "digits: 30 train and 20 test photos" in out
