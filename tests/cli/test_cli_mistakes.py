"""Mistakes in a study, told in one line before anything is made; in this process, as the command itself is quick."""

import pytest
from command_line import foveate

OWN = """import torch
from torch import nn

import foveate


@foveate.register_attention("own_gate")
class OwnGate(nn.Module):
    def __init__(self, channels, *, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), float(scale)))

    def forward(self, x):
        return x * self.scale


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, classes)

    def forward(self, x):
        x = self.first(x)
        return self.last((x + self.second(x)).mean((2, 3)))


def good(num_classes):
    return Net(num_classes)


def one_too_many(num_classes):
    return Net(num_classes + 1)


def raising(num_classes):
    return num_classes / 0


class Asserting(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)

    def forward(self, x):
        assert x.shape[2] == 7, "wanted 7 pixels"
        return super().forward(x)
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command line in a folder that holds own.py; gives its status and what it printed on standard error."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOVEATE_DEBUG", raising=False)

    def run(*arguments):
        ended = foveate(*arguments)
        return ended.returncode, ended.stderr

    return run


SMALL = ["--seeds", "1", "--epochs", "1", "--train-images", "40", "--test-images", "20", "--control", "none"]
MISTAKES = [
    (["--attention", ""], "--attention: wanted names"),
    (["--attention", "se:reduction=4:reduction=8"], "reduction is given twice"),
    (["--attention", "none:reduction=4"], "it takes no options"),
    (["--at", ""], "--at: wanted"),
    (["--lr", "inf"], "train.lr: wanted a finite number"),
    (["--lr", "0.1,"], "--lr: wanted a value, or values parted by commas; got '0.1,'"),
    (["--lr", "0.1,0.10"], "train.lr: wanted different values; got 0.1 twice"),
    (["--optimizer", "sgd,adam"], "train.optimizer: wanted 'sgd' or 'adamw'; got 'adam'"),
    (["--lr", "0.1,0.2", "--train-items", "12"], "has 1 item, too few to hold out for validation"),
    (["--device", "gpu"], "train.device: wanted one of this machine's (cpu"),
    (["--device", "meta"], "train.device"),
    (["--pretrained"], "weights: network 'foveate:resnet8': wanted one of timm or torchvision"),
    (["--pretrained", "--weights", "own.py"], "with --weights it takes a folder"),
    (["--network", "timm:test_resnet", "--weights", "."], "fetch https://huggingface.co/timm/test_resnet.r160_in1k/"),
    (["--weights", "w" * 300], "File name too long"),
    (["--image-size", "60000"], "wanted at most 1 images of 60000×60000"),
    (["--network", "own.py:god"], "did you mean 'good'"),
    (["--network", "own.py:one_too_many"], "wanted logits (N, 10) for 10 classes; got (2, 11)"),
    (["--network", "own.py:raising"], "own.py:raising raised ZeroDivisionError in line 38: division by zero"),
    (["--network", "own.py:Asserting"], "wanted 7 pixels"),
    (["--network", "own.py:good", "--attention", "own_gate:scal=2"], "did you mean 'scale'"),
    (["--network", "broken.py:good"], "broken.py cannot be read: SyntaxError in line 2"),
]


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=[" ".join(flags) for flags, _ in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_made(flags, message, command, tmp_path):
    (tmp_path / "broken.py").write_text("import torch\ndef good(:\n")
    status, said = command("study", "run", *SMALL, *flags)
    assert status == 2
    assert message in said
    assert said.startswith("foveate: ")
    assert len(said.splitlines()) == 1, said
    assert not (tmp_path / "foveate-study").exists()


def test_a_mechanism_of_ones_own_file_can_be_studied(command, tmp_path):
    flags = ["--network", "own.py:good", "--attention", "none,own_gate:scale=2", "--jobs", "1"]
    status, said = command("study", "run", *SMALL, *flags, "--json")
    assert status == 0, said
    assert (tmp_path / "foveate-study" / "report" / "index.html").is_file()


WRONG_IN_A_FILE = [
    (
        "[[variants]]\nattention = 'se'\n[[variants]]\nattention = 'cbma'\n",
        "study.toml:4: variant 'cbma': no attention",
    ),
    (
        "[[variants]]\nattention = 'se'\noptions = { reducton = 4 }\n",
        "study.toml:3: variant 'se (reducton=4)': se has no",
    ),
    ("[[variants]]\nattention = 'se'\n[variants.options]\nreducton = 4\n", "study.toml:4: variant"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_IN_A_FILE)
def test_an_unknown_name_or_option_in_a_file_is_told_with_its_line(text, message, command, tmp_path):
    (tmp_path / "study.toml").write_text(text)
    status, said = command("study", "run", "study.toml")
    assert (status, len(said.splitlines())) == (2, 1)
    assert message in said


def test_results_that_are_none_are_told(command, tmp_path):
    (tmp_path / "study.toml").write_text("seeds = 1\n")
    for content in (b"", b"no database at all" * 99):
        (tmp_path / "results.db").write_bytes(content)
        for name in ("status", "report"):
            status, said = command("study", name, str(tmp_path))
            assert status == 2
            assert "not a study's results" in said
            assert len(said.splitlines()) == 1
    status, said = command("study", "resume", str(tmp_path))
    assert status == 2
    assert "not a study's results" in said


def test_a_note_on_a_folder_is_no_problem(command, tmp_path):
    from PIL import Image

    for label, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9 + number), colour).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "loose.png").write_bytes((tmp_path / "photos" / "cat" / "0.png").read_bytes())
    assert command("data", "check", "photos") == (0, "")
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(b"")
    assert command("data", "check", "photos") == (1, "1 problem in photos\n")


def test_colours_and_control_characters_of_other_libraries_reach_no_person():
    from foveate.cli import _printable

    assert _printable("two options, \x1b[1mdo those steps only if\x1b[0m you \x07trust") == (
        "two options, do those steps only if you \ufffdtrust"
    )
