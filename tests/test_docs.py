"""What the documents say is what the code does."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from foveate.study_file import read_study

ROOT = Path(__file__).parents[1]


WRITTEN = ("README.md", *(f"docs/{name}.md" for name in (
    "five_minutes", "my_photos", "segmentation", "detection", "clips", "signals", "my_network", "studies", "own_task",
    "own_trainer", "compression", "compare", "explain", "advise", "speed", "cluster", "when_not",
)))  # fmt: skip


def blocks(language, page="README.md"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def module_of(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})


def test_the_python_of_my_network_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python", "docs/my_network.md"):
        exec(compile(code, "docs/my_network.md", "exec"), names)
    assert "layer1.0" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(blocks("python", "docs/my_network.md")[-1])
    from foveate.networks import build_network

    assert build_network("mine.py:network", num_classes=3).fc.out_features == 3


@pytest.mark.slow
def test_the_python_of_the_page_on_salt_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("python", "docs/salt.md"):
        exec(compile(code, "docs/salt.md", "exec"), names)
    assert "data misfit" in capsys.readouterr().out


def test_a_non_local_block_with_fixed_weights_denoises_the_photo_of_the_page_on_clips():
    (code,) = blocks("python", "docs/clips.md")
    names = {}
    exec(compile(code, "docs/clips.md", "exec"), names)
    noisy, denoised = ((names[one] - names["clean"]).square().mean().sqrt() for one in ("noisy", "denoised"))
    assert (round(noisy.item(), 2), round(denoised.item(), 2)) == (0.1, 0.06)


@pytest.mark.parametrize("page", WRITTEN)
def test_the_python_of_a_page_is_python(page):
    for code in blocks("python", page):
        compile(code, page, "exec")


def test_the_readmes_study_file_is_a_study(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "study.toml").write_text(text)
    study = read_study(tmp_path / "study.toml")
    assert study.variants[1].insert[0].init == "identity"


def test_the_study_files_of_the_page_on_studies_are_studies(tmp_path):
    pages = ("studies", "segmentation", "detection", "compression", "explain")
    for text in (text for page in pages for text in blocks("toml", f"docs/{page}.md")):
        (tmp_path / "study.toml").write_text(text)
        assert read_study(tmp_path / "study.toml").variants[0].name == "none"


@pytest.mark.parametrize("page", WRITTEN)
def test_the_commands_of_a_page_exist(page):
    from typer.main import get_command

    from foveate.cli import app

    text = "".join(blocks("console", page)).replace("\\\n", " ")
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ foveate")]
    assert commands
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        command = get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_page_stands_in_the_table_of_contents_once():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    named = [line for block in re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL) for line in block.split()]
    pages = [name for name in named if not name.startswith(":") and (ROOT / "docs" / f"{name}.md").is_file()]
    assert sorted(pages) == sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index")


def test_the_pages_of_commands_and_python_are_what_the_code_says():
    made = module_of("make_reference")
    again = "run: python docs/make_reference.py"
    assert made.COMMANDS.read_text(encoding="utf-8") == made.commands_page(), again
    assert made.API.read_text(encoding="utf-8") == made.api_page(), again


def test_the_figures_of_when_not_to_add_attention_are_those_of_the_results():
    made = module_of("make_when_not")
    page = made.PAGE.read_text(encoding="utf-8")
    assert page == made.page_with_figures(page, json.loads(made.FOUND.read_text(encoding="utf-8")))
    assert page.count("| narrow-") == page.count("| wide-") == 3


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_our_own_studies_are_studies(path):
    assert read_study(path).variants


def test_the_mechanisms_page_is_what_the_code_says():
    module = module_of("make_mechanisms")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/make_mechanisms.py"
