"""The contract that every attention mechanism keeps, over the rows of attention_cases.py; none is named here."""

import copy
import inspect
import math
import re
import sys

import pytest
import torch
from attention_cases import BY_NAME, CASES, ODD, build, create, inputs_for, map_for
from golden import OWN_GOLDEN, check, golden_files, golden_loader

import foveate
from foveate.attention import attention_class, attention_facts, attention_options
from foveate.costs import macs

ROWS = [(case, options) for case in CASES for options in case.variants]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def each(rows, names=("case", "options")):
    """Parametrise over rows of a case, a set of its options, and more."""

    def named(value):
        if isinstance(value, dict):
            return ",".join(f"{k}={v}" for k, v in value.items())
        return getattr(value, "name", str(value))

    return pytest.mark.parametrize(names, rows, ids=["-".join(map(named, row)) for row in rows])


each_row = each(ROWS)
each_row_with_maps = each([row for row in ROWS if row[0].maps])
each_row_with_affinity = each([row for row in ROWS if row[0].affinity])


def test_every_mechanism_has_a_row():
    assert sorted(BY_NAME) == [
        n for n in foveate.list_attention() if attention_class(n).__module__.startswith("foveate")
    ]


GOLDEN = [(case, path) for case in CASES for path in golden_files(*case.golden)]


@pytest.mark.parametrize(("case", "path"), GOLDEN, ids=[path.stem for _, path in GOLDEN])
def test_equals_the_official_numbers(case, path):
    module, to_ours = golden_loader(path)
    check(path, module, to_ours)


@pytest.mark.parametrize("pattern", [pattern for case in CASES for pattern in case.golden])
def test_has_golden_files_here_and_where_they_are_shared(pattern, shared):
    files = list((shared / "golden").glob(pattern))
    assert files, "no golden file matches"
    for path in files:
        assert (OWN_GOLDEN / path.name).read_bytes() == path.read_bytes(), "tests/golden keeps a copy of each"


@each_row
@pytest.mark.parametrize("size", ODD, ids=str)
def test_odd_maps_keep_their_shape_and_have_true_gradients(case, options, size):
    module = build(case, options, dtype=torch.float64)
    x = map_for(case, size, dtype=torch.float64)
    given = tuple(t.requires_grad_() for t in inputs_for(case, x))
    assert module(*given).shape == x.shape
    assert module(*given).isfinite().all()
    if any(getattr(part, "estimates", False) for part in module.modules()):
        return  # no true gradients; test_hard_gates.py has what they are instead
    assert torch.autograd.gradcheck(module, given, fast_mode=True, atol=1e-6)


@each([(case, dims) for case in CASES for dims in (0, 1, 2, 3, 4) if dims not in case.dims], ("case", "dims"))
def test_a_number_of_dimensions_without_a_meaning_is_refused(case, dims):
    with pytest.raises(ValueError, match=rf"{case.name}: spatial_dims must be .*; got {dims}"):
        foveate.create_attention(case.name, case.channels, spatial_dims=dims)


@each([(*row, dims) for row in ROWS for dims in row[0].dims], ("case", "options", "dims"))
def test_one_two_and_three_dimensions(case, options, dims):
    module = build(case, options, dims).train()
    x = map_for(case, (2, 6, 5), dims).requires_grad_()
    y = module(*inputs_for(case, x))
    assert y.shape == x.shape
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"


def assert_rounded(actual, exact, options, tolerance):
    """Equal but for rounding, by which a hard gate near its border may turn over: here a few of them."""
    far = (actual - exact).abs() > tolerance * exact.abs().max()
    assert far.float().mean() <= (0.1 if options.get("hard") and tolerance > 0.01 else 0)
    assert actual.isfinite().all()


@each_row
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes_agree_with_float32(case, options, dtype):
    module = build(case, options)
    x = map_for(case, (2, 7, 5))
    given = inputs_for(case, x)
    exact = copy.deepcopy(module).double()(*(t.double() for t in given))
    actual = module.to(dtype)(*(t.to(dtype) for t in given))
    assert actual.dtype == dtype
    assert_rounded(actual.double(), exact, options, 1e-9 if dtype == torch.float64 else 0.1)


@each_row
def test_autocast_and_channels_last_change_nothing_but_rounding(case, options):
    module = build(case, options)
    given = inputs_for(case, map_for(case, (2, 7, 5)))
    plain = module(*given)
    last = torch.channels_last_3d if case.home == 3 else torch.channels_last
    torch.testing.assert_close(module(*(t.to(memory_format=last) for t in given)), plain)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(*given)
    assert_rounded(mixed.float(), plain, options, 0.1)


@each_row
def test_compiles_whole_exports_and_builds_on_meta(case, options):
    module = build(case, options)
    given = inputs_for(case, map_for(case, (2, 6, 6)))
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(*given), module(*given))
    exported = torch.export.export(module, given).module()
    torch.testing.assert_close(exported(*given), module(*given))
    with torch.device("meta"):
        empty = create(case, options)
        assert empty(*(torch.empty_like(t, device="meta") for t in given)).shape == given[0].shape


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")  # torch.jit, checks of shapes
@each([(case, training) for case in CASES for training in (False, True)], ("case", "training"))
def test_a_trace_under_gradients_has_the_outputs_and_gradients_of_the_module(case, training):
    module = build(case, {}, dtype=torch.float64).train(training)
    given = inputs_for(case, map_for(case, (3, 7, 5), dtype=torch.float64))
    traced = torch.jit.trace(module, given)  # which itself compares two traces
    close = {"rtol": 1e-5, "atol": 1e-5}  # a trace stores numbers of the code in float32
    torch.testing.assert_close(traced(*given), module(*given), **close)
    x = given[0].requires_grad_()
    gradients = [torch.autograd.grad(one(*given).square().sum(), [x, *one.parameters()]) for one in (traced, module)]
    torch.testing.assert_close(*gradients, **close)


@each_row
def test_state_survives_a_copy_and_a_save(case, options, tmp_path):
    module = build(case, options)
    given = inputs_for(case, map_for(case, (2, 7, 5)))
    torch.save(module.state_dict(), tmp_path / "state.pt")
    fresh = create(case, options).eval()
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    for other in (fresh, copy.deepcopy(module)):
        assert torch.equal(other(*given), module(*given))


def numbers_of(case, options, x):
    """What a mechanism's formulas are evaluated in: the map's sizes, the options, the values of `where`."""
    known = {
        "C": case.channels,
        "P": math.prod(x.shape[2:]),
        "S": tuple(x.shape[2:]),
        "d": case.home,
        **attention_options(case.name),
        **options,
    }
    known |= {
        "int": int,
        "abs": abs,
        "log2": math.log2,
        "len": len,
        "max": max,
        "min": min,
        "sum": sum,
        "prod": math.prod,
    }
    for name, expression in attention_facts(case.name).where.items():
        known[name] = eval(expression, {}, dict(known))
    return known


@each_row
def test_costs_what_its_formulas_say(case, options):
    facts = attention_facts(case.name)
    module = build(case, options)
    x = map_for(case, (1, 12, 10))
    known = numbers_of(case, options, x)
    assert eval(facts.parameters, {}, dict(known)) == sum(p.numel() for p in module.parameters())
    assert eval(facts.macs, {}, dict(known)) == macs(module, inputs_for(case, x))


@each_case
def test_says_where_it_comes_from_and_what_it_costs(case):
    cls = attention_class(case.name)
    facts = attention_facts(case.name)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.", sys.modules[cls.__module__].__doc__)
    assert all(f"{word}:" in cls.__doc__ for word in ("Args", "Shape", "Cost", "Init", "Raises", "Source"))
    assert all(deviation.point in cls.__doc__ for deviation in facts.deviations)
    assert facts.year > 2010
    assert facts.equation
    options = [p for p in inspect.signature(cls).parameters.values() if p.name != "channels"]
    assert all(p.kind is p.KEYWORD_ONLY for p in options), "options are keyword-only"
    assert all(re.search(rf"\b{p.name}\b", inspect.getdoc(cls)) for p in options), "every option is described"


@each_row
def test_nan_in_gives_nan_out(case, options):
    module = build(case, options)
    x = map_for(case, (2, 7, 5))
    x[0, 3, 1 % x.shape[2], 1 % x.shape[3]] = math.nan
    y = module(*inputs_for(case, x))
    assert y[0].isnan().any()
    assert not y[1].isnan().any(), "a NaN in one sample spoils another"


@each_row
def test_a_map_of_one_position_trains(case, options):
    module = build(case, options).train()
    x = map_for(case, (case.train_from, 1, 1)).requires_grad_()
    y = module(*inputs_for(case, x))
    assert y.isfinite().all()
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def has_one_value_a_channel(case, options):
    """Does a batch norm of the module see one value a channel in a batch of one map of one position?"""
    norms = [m for m in create(case, options).modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    return case.train_from > 1 and bool(norms) and map_for(case, (1, 1, 1))[0, 0].numel() == 1


@each([row for row in ROWS if has_one_value_a_channel(*row)])
def test_training_on_one_value_a_channel_is_refused_by_the_batch_norm(case, options):
    module = build(case, options).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(*inputs_for(case, map_for(case, (1, 1, 1))))


@each([row for row in ROWS if not has_one_value_a_channel(*row)])
def test_other_mechanisms_train_on_one_map_of_one_position(case, options):
    module = build(case, options).train()
    x = map_for(case, (1, 1, 1)).requires_grad_()
    module(*inputs_for(case, x)).square().sum().backward()
    assert x.grad.isfinite().all()


@each_row
def test_a_capture_leaves_the_output_alone_and_ends(case, options):
    module = build(case, options)
    given = inputs_for(case, map_for(case, (2, 6, 5)))
    with torch.no_grad():
        plain = module(*given)
        with foveate.capture(module) as seen:
            torch.testing.assert_close(module(*given), plain)
    known = dict(seen.maps)
    with foveate.capture(module) as later:
        pass
    module(*given)
    assert not later.maps
    assert seen.maps.keys() == known.keys()


@each_case
def test_its_variants_together_show_every_map_of_the_table(case):
    shown = set()
    for options in case.variants:
        with foveate.capture(module := build(case, options)) as seen:
            module(*inputs_for(case, map_for(case, (2, 6, 5))))
        shown |= seen.maps.get("", {}).keys()
    assert shown == case.maps.keys()


@each_row_with_maps
def test_capture_shows_the_maps(case, options):
    module = torch.nn.Sequential()
    module.add_module("here", build(case, options))
    given = inputs_for(case, map_for(case, (2, 6, 5)))
    side = given[0].shape[2:]
    plain = module.here(*given)
    with foveate.capture(module) as seen:
        assert torch.equal(module.here(*given), plain)
    sizes = {"n": [2], "c": [case.channels], "*s": [*side], "p": [side.numel()], "t": [side[0]]}
    sizes |= {name: [value] for name, value in numbers_of(case, options, given[0]).items() if isinstance(value, int)}
    assert seen.maps["here"].keys() <= case.maps.keys()
    assert seen.maps["here"]
    for key, value in seen.maps["here"].items():
        wanted = [n for letter in case.maps[key].split() for n in sizes.get(letter, [letter])]
        assert [str(n) for n in value.shape] == [str(n) for n in wanted], key
        assert not value.requires_grad


@each_row_with_affinity
@pytest.mark.parametrize("training", [False, True])
def test_capture_shows_the_affinity_rows_of_its_queries(case, options, training):
    module = build(case, options).train(training)
    given = inputs_for(case, map_for(case, (2, 6, 5)))
    with foveate.capture(module, queries="all") as whole:
        module(*given)
    sizes = (case.channels,) if case.affinity == "channels" else (6, 5)
    rows = whole.maps[""]["affinity"]
    assert rows.shape[:2] == (2, math.prod(sizes))
    points = [7, 0] if case.affinity == "channels" else [(1, 2), 0]
    with foveate.capture(module, queries=points) as some:
        module(*given)
    torch.testing.assert_close(some.maps[""]["affinity"], rows[:, [7, 0]])
    assert not rows.requires_grad
    with pytest.raises(ValueError, match="is no position of the module"), foveate.capture(module, queries=[1000]):
        module(*given)
    with foveate.capture(module) as none:
        module(*given)
    assert "affinity" not in none.maps.get("", {})


@each_case
def test_wrong_maps_are_refused_in_one_line(case):
    module = create(case, case.variants[0]).eval()
    side = (6,) * case.home
    if case.any_width:
        assert module(*inputs_for(case, torch.randn(2, case.channels + 1, *side))).shape[1] == case.channels + 1
    for x in (
        *([] if case.any_width else [torch.randn(2, case.channels + 1, *side)]),
        torch.randn(2, case.channels, *side[1:]),
        torch.randn(2, case.channels, *side, 6),
        torch.randn(2, case.channels, *side, dtype=torch.float64),
    ):
        with pytest.raises(ValueError, match=rf"{case.name}.*: .*(wanted|weights are)") as error:
            module(*inputs_for(case, x))
        assert "\n" not in str(error.value)


@each_case
def test_wrong_options_are_refused_with_the_nearest(case):
    name = next(iter(attention_options(case.name)))
    with pytest.raises(TypeError, match=f"{case.name} has no option '{name}x'; did you mean '{name}'"):
        foveate.create_attention(case.name, case.channels, **{f"{name}x": 1})
    with pytest.raises(ValueError, match="channels must be a positive whole number; got 0"):
        foveate.create_attention(case.name, 0)


@pytest.mark.parametrize("name", [case.name for case in CASES if "variant" in attention_options(case.name)])
def test_a_wrong_variant_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: variant must be one of 'official', 'paper'; got 'papr'"):
        create(BY_NAME[name], {"variant": "papr"})
