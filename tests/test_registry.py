"""Names for what people add: found by their nearest, taken once, and the files that they stand in."""

import subprocess
import sys

import pytest

from foveate.registry import (
    Registry,
    UnknownNameError,
    check_options,
    error_in,
    is_file_reference,
    nearest,
    read_from_file,
    run_file,
    user_file_in,
)


def test_an_unknown_name_gets_the_nearest_or_all_where_none_is_near():
    registry = Registry("thing")
    registry.add("cbam", object())
    registry.add("se", object())
    with pytest.raises(UnknownNameError, match=r"no thing is called 'cbma'; did you mean 'cbam'\?"):
        registry.get("cbma")
    with pytest.raises(UnknownNameError, match=r"no thing is called 'zzzz'; known: cbam, se"):
        registry.get("zzzz")
    assert nearest("zzzz", [str(number) for number in range(1000)]) == "there are 1000 others"


def test_a_taken_name_is_refused_and_a_users_class_may_be_registered_again(tmp_path):
    registry = Registry("thing")
    for folder, name in (("a", "Thing"), ("b", "Thing"), ("c", "Other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "has_a_class.py").write_text(f"class {name}:\n    pass\n")
    first, again, other = (run_file(tmp_path / folder / "has_a_class.py") for folder in "abc")
    registry.add("mine", first.Thing)
    registry.add("mine", again.Thing)
    assert registry.get("mine") is again.Thing
    with pytest.raises(ValueError, match=r"'mine' is taken by foveate_user_has_a_class_\.Thing in .*b/has_a_class\.py"):
        registry.add("mine", other.Other)
    registry.add("of the library", Registry)
    with pytest.raises(ValueError, match=r"'of the library' is taken by foveate\.registry\.Registry$"):
        registry.add("of the library", type("Registry", (), {}))


def test_the_file_of_a_name_is_the_users_and_none_for_the_librarys(tmp_path):
    from foveate.tasks import TASKS

    assert TASKS.file_of("classification") is None
    (tmp_path / "things_of_mine.py").write_text("def thing():\n    pass\n")
    registry = Registry("thing")
    registry.add("mine", run_file(tmp_path / "things_of_mine.py").thing)
    assert registry.file_of("mine") == tmp_path / "things_of_mine.py"


def test_what_is_defined_at_a_prompt_has_no_file_and_the_error_says_what_to_do():
    code = (
        "from foveate.registry import Registry\nclass Thing: pass\nr = Registry('thing')\nr.add('mine', Thing)\n"
        "try:\n    r.file_of('mine')\nexcept ValueError as error:\n    print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "thing 'mine' was defined at a prompt" in answer.stdout
    assert 'imports = ["my.py"]' in answer.stdout


def test_a_file_runs_once_may_import_its_neighbour_and_leaves_the_path_as_it_was(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("VALUE = 7\n")
    (tmp_path / "runs_once.py").write_text("import neighbour_of_mine\nvalue = [neighbour_of_mine.VALUE]\n")
    before = list(sys.path)
    module = run_file(tmp_path / "runs_once.py")
    module.value.append(8)
    assert run_file(str(tmp_path / ".." / tmp_path.name / "runs_once.py")).value == [7, 8]
    assert sys.path == before


def test_a_file_that_raises_is_named_with_the_line_and_can_be_run_again(tmp_path):
    path = tmp_path / "raises_at_first.py"
    path.write_text("a = 1\nb = a / 0\n")
    with pytest.raises(ValueError, match=r"raises_at_first\.py cannot be read: ZeroDivisionError in line 2: division"):
        run_file(path)
    path.write_text("a = (\n")
    with pytest.raises(ValueError, match=r"cannot be read: SyntaxError in line 1: .* was never closed"):
        run_file(path)
    path.write_text("a = 1\n")
    assert run_file(path).a == 1
    with pytest.raises(LookupError, match=r"nowhere\.py: no such file"):
        run_file(tmp_path / "nowhere.py")


def test_a_reference_names_a_function_of_a_file_or_the_nearest(tmp_path):
    path = tmp_path / "has_functions.py"
    path.write_text("def train():\n    pass\nnumber = 3\n")
    assert read_from_file(f"{path}:train", "a function").__name__ == "train"
    with pytest.raises(LookupError, match=r"has no function 'trian'; did you mean 'train'\?"):
        read_from_file(f"{path}:trian", "a function")
    with pytest.raises(LookupError, match=r"has no function 'number'"):
        read_from_file(f"{path}:number", "a function")
    with pytest.raises(LookupError, match=r"wanted a function as path\.py:name"):
        read_from_file("train", "a function")
    assert [is_file_reference(name) for name in ("a.py:b", "foveate:resnet8", "a.py")] == [True, False, False]


def test_an_error_is_one_line_with_the_last_line_of_the_users_file(tmp_path):
    path = tmp_path / "fails_deep.py"
    path.write_text(
        "import json\n\n\ndef outer():\n    return inner()\n\n\ndef inner():\n    return json.loads('{\\n')\n"
    )
    module = run_file(path)
    with pytest.raises(ValueError) as caught:
        module.outer()
    assert error_in(caught.value, path).startswith("JSONDecodeError in line 9: Expecting")
    assert "\n" not in error_in(caught.value, path)
    assert user_file_in(caught.value) == path
    with pytest.raises(ValueError) as caught:
        int("a")
    assert user_file_in(caught.value) is None


def test_an_option_that_a_signature_lacks_is_named_with_the_nearest():
    def build(data, *, width=1, depth=2):
        pass

    check_options("net", build, ["width"], skip=("data",))
    with pytest.raises(TypeError, match=r"net has no option 'widht'; did you mean 'width'\?"):
        check_options("net", build, ["widht"], skip=("data",))
    with pytest.raises(TypeError, match=r"net has no option 'data'"):
        check_options("net", build, ["data"], skip=("data",))
    check_options("net", lambda **options: None, ["anything"])
