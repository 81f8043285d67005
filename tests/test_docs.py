"""What the documents say is what the code does."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from foveate.study_file import read_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})


def test_the_readmes_study_file_is_a_study(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "study.toml").write_text(text)
    study = read_study(tmp_path / "study.toml")
    assert study.variants[1].insert[0].init == "identity"


def test_the_readmes_commands_exist():
    from typer.main import get_command

    from foveate.cli import app

    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ foveate")]
    assert len(commands) >= 5
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        command = get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_our_own_studies_are_studies(path):
    assert len(read_study(path).variants) >= 2


def test_the_mechanisms_page_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("make_mechanisms", ROOT / "docs" / "make_mechanisms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/make_mechanisms.py"
