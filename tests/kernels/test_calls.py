"""Calls into C: each declared signature is that of the C source; arguments that differ from it are refused."""

import re
from pathlib import Path

import pytest
import torch

from foveate.kernels import _calls, _native, why_not
from foveate.kernels._calls import SIGNATURES, call, declared

NATIVE = Path(_native.__file__).parent / "native"
FLOAT = torch.float32
C_TYPES = {
    "const T *": "T",
    "T *": "T",
    "const A *": "A",
    "A *": "A",
    "const int32_t *": "int32",
    "int32_t *": "int32",
    "const A *const *": "{}",
    "const FN(Parts) * ": "{}",
    "const int64_t *": "T[]",
    "int64_t ": "int",
}
KINDS = {"S": "A", "double": "int"}  # of these C sees the pointer, the bits


@pytest.fixture(autouse=True)
def _native_code():
    if reason := why_not("cpu", torch.ones(1, 1, 1)):
        pytest.skip(reason)


def in_c():
    """{function: [(kind, name)]} of every function in the C sources that is not static."""
    found = {}
    for source in NATIVE.glob("*.h"):
        for name, parameters in re.findall(r"^void FN\((\w+)\)\(([^{]*)\) \{", source.read_text(), re.MULTILINE):
            each = [re.fullmatch(r"(.*[ *])(\w+)", part.strip()) for part in parameters.replace("\n", " ").split(",")]
            found[name] = [(C_TYPES[re.sub(r" +", " ", part[1])], part[2]) for part in each]
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_declared_signature_is_that_of_the_c_source(name):
    *arguments, threads = in_c()[name]
    assert threads == ("int", "threads")
    assert [(KINDS.get(a.kind, a.kind), a.name) for a in declared(name)[0]] == arguments


def test_the_parts_of_a_gradient_are_the_fields_of_the_c_struct():
    struct = re.search(r"typedef struct \{(.*?)\} FN\(Parts\)", (NATIVE / "gates.h").read_text(), re.DOTALL)[1]
    fields = re.findall(r"\*(\w+)", struct)
    assert [member.name for member in declared("gradient")[0][0].members] == fields


def scale(**changed):
    """The arguments of the C function `scale`, y = x · row + column_added, for a map of 2 × 3 × 4."""
    given = {
        "x": torch.ones(2, 3, 4),
        "row": torch.full((2, 3), 2.0),
        "column": None,
        "row_added": None,
        "column_added": torch.ones(2, 4),
        "y": torch.empty(2, 3, 4),
        "N": 2,
        "I": 3,
        "J": 4,
        "past": False,
    }
    assert changed.keys() <= given.keys()
    return list({**given, **changed}.values())


def test_arguments_as_declared_reach_c():
    given = scale()
    call("scale", FLOAT, *given)
    assert torch.equal(given[5], torch.full((2, 3, 4), 3.0))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": torch.ones(2, 3, 5)}, ValueError, r"x must have 24 elements, dense, on the CPU; got \(2, 3, 5\)"),
        ({"x": torch.ones(2, 3, 8)[..., ::2]}, ValueError, r"dense, on the CPU; got \(2, 3, 4\) with strides"),
        ({"x": torch.ones(2, 3, 4).double()}, TypeError, "x must be torch.float32; got torch.float64"),
        ({"x": torch.ones(2, 3, 4, device="meta")}, ValueError, "on the CPU; got .* on meta"),
        ({"x": [1.0]}, TypeError, "x must be a tensor; got list"),
        ({"x": None}, TypeError, "x must be a tensor; got NoneType"),
        ({"row": torch.ones(3)}, ValueError, "row must have 6 elements"),
        ({"row": torch.ones(3, 2).T}, ValueError, r"row must have 6 elements, dense.* strides \(1, 2\)"),
        ({"row": torch.ones(2, 3).half()}, TypeError, "row must be torch.float32; got torch.float16"),
        ({"row": 1.0}, TypeError, "row must be a tensor or None; got float"),
        ({"y": torch.zeros(2, 4, 3).mT}, ValueError, "y must have 24 elements, dense"),
        ({"J": 4.0}, TypeError, "J must be a whole number; got float"),
        ({"I": 4}, ValueError, "x must have 32 elements"),
    ],
)
def test_an_argument_that_is_not_as_declared_is_refused_in_one_line(changed, error, message):
    with pytest.raises(error, match=rf"^C function scale: .*{message}") as refused:
        call("scale", FLOAT, *scale(**changed))
    assert "\n" not in str(refused.value)


def test_another_number_of_arguments_is_refused():
    with pytest.raises(TypeError, match=r"scale\(\) missing 1 required positional argument: 'past'"):
        call("scale", FLOAT, *scale()[:-1])
    with pytest.raises(TypeError, match=r"scale\(\) takes 10 positional arguments but 11 were given"):
        call("scale", FLOAT, *scale(), True)


def test_maps_of_different_layouts_are_refused_and_channels_last_ones_are_not():
    last = torch.ones(2, 3, 4).movedim(1, -1).contiguous().movedim(-1, 1)
    call("scale", FLOAT, *scale(x=last, y=torch.empty_like(last)))
    with pytest.raises(ValueError, match="y must have 24 elements, dense"):
        call("scale", FLOAT, *scale(x=last))


def test_lists_and_groups_of_tensors_are_checked_one_by_one():
    maps, weights, y = [torch.ones(2, 3, 4)] * 2, torch.ones(2, 2, 3), torch.empty(2, 3, 4)
    call("mix_branches", FLOAT, maps, weights, None, y, 2, 2, 3, 4, False)
    assert torch.equal(y, torch.full((2, 3, 4), 2.0))
    for wrong, message in (
        (maps[:1], "x must have 2 tensors; got 1"),
        ([maps[0], torch.ones(2, 3, 5)], "each must have 24 elements"),
    ):
        with pytest.raises(ValueError, match=message):
            call("mix_branches", FLOAT, wrong, weights, None, y, 2, 2, 3, 4, False)
    with pytest.raises(TypeError, match="x must hold tensors; got NoneType"):
        call("mix_branches", FLOAT, [maps[0], None], weights, None, y, 2, 2, 3, 4, False)
    parts = [None] * len(declared("gradient")[0][0].members)
    parts[0], parts[4] = maps[0], torch.ones(2, 3)
    call("gradient", FLOAT, tuple(parts), y, 2, 3, 4, False)
    assert torch.equal(y, torch.ones(2, 3, 4))
    parts[4] = torch.ones(2, 4)
    with pytest.raises(ValueError, match="row_added must have 6 elements"):
        call("gradient", FLOAT, tuple(parts), y, 2, 3, 4, False)
    with pytest.raises(ValueError, match="p must have .* tensors; got 18"):
        call("gradient", FLOAT, tuple(parts[:-1]), y, 2, 3, 4, False)


def test_whole_numbers_that_the_function_does_not_take_are_refused():
    x, w, y = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 67, 67), torch.empty(1, 1, 3, 3)
    with pytest.raises(ValueError, match="C function convolve: wanted K <= 65 and L <= 65"):
        call("convolve", FLOAT, x, w, y, 67, 67, 1, 1, 3, 3)


def test_every_function_is_declared_that_the_library_calls():
    sources = "".join(path.read_text() for path in Path(_calls.__file__).parent.rglob("*.py"))
    called = set(re.findall(r'call(?:_named)?\(\s*"(\w+)"', sources))
    assert len(called) > 25
    assert called <= SIGNATURES.keys()
