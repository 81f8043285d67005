"""Calls of the C functions: a declared signature for each, by which every argument is checked before the call.

A declaration lists the arguments in the order of the C function, without the number of threads, which comes last:

    T name[count]       a map, in the dtype that maps are stored in; all maps of a call have one memory layout
    T[] name[count]     M maps, as a list
    A name[count]       a contiguous tensor in the dtype of the computation: float64 for float64, else float32
    S name[count]       as A, for the rows or columns of a map, whose channels are last in memory if the map's are
    int32 name[count]   a contiguous tensor of indices
    {…} name            several tensors, as a tuple; C receives the array of their addresses
    double name         a number
    name                a whole number or bool

A question mark after the name allows None. Counts are Python expressions in the whole numbers and `threads`; conditions
follow a semicolon. Since checks in a loop would take as long as a call on a small map, each declaration is compiled to
one straight-line function.
"""

import ctypes
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.kernels import _native
from foveate.kernels._dispatch import STORED
from foveate.kernels._layout import computed, is_dense

_GATE = "A row?[N*I], A column?[N*J], A row_added?[N*I], A column_added?[N*J]"
_NORM = "{A mean[%s], A variance[%s], A weight?[%s], A bias?[%s]}"
_TRANSFORM = "{A w1[H*C], A b1?[H], A weight?[H], A bias?[H], A w2[C*H], A b2?[C]}"

SIGNATURES = {
    # passes.h, gates.h, join.h, shrink.h: maps x[N][I][J]
    "row_sums": "T x[N*I*J], A column?[N*J], A sum?[N*I], A max?[N*I], int32 at?[N*I], A magnitude?[N*I],"
    " A spread?[N*I], N, I, J",
    "column_sums": "T x[N*I*J], A row?[N*I], A sum?[N*J], A max?[N*J], int32 at?[N*J], A magnitude?[N*J], N, I, J",
    "column_spread": "T x[N*I*J], A mean[N*J], A spread[N*J], N, I, J",
    "scale": f"T x[N*I*J], {_GATE}, T y[N*I*J], N, I, J, past",
    "join": f"T x[N*I*J], {_GATE}, T other?[N*I*J], T y[N*I*J], relu, N, I, J, past",
    "products": "T x[N*I*J], T dy[N*I*J], A row?[N*I], A column?[N*J], A row_sum?[N*I], A column_sum?[N*S*J],"
    " A row_dy?[N*I], A column_dy?[N*S*J], A scratch[threads*2*J], S, N, I, J",
    "gradient": f"{{T x[N*I*J], T dy?[N*I*J], {_GATE}, A row_1?[N*I], A column_1?[N*J], A row_2?[N*I],"
    " A column_2?[N*J], A row_x?[N*I], A row_sign?[N*I], A column_x?[N*J], A column_sign?[N*J], A hot_row?[N*I],"
    " A hot?[N*J], A peak?[N*I], int32 column_at?[N*J], int32 row_at?[N*I]} p, T dx[N*I*J], N, I, J, past",
    "shrink": "T x[N*I*J], A row?[N*I], A column?[N*J], T y[N*I*J], N, I, J, past",
    "shrink_sums": "T x[N*I*J], T dy[N*I*J], A row?[N*I], A column?[N*J], A row_sum?[N*I], A column_sum?[N*S*J],"
    " S, N, I, J",
    "shrink_gradient": "T x[N*I*J], T dy[N*I*J], A row?[N*I], A column?[N*J], A row_sign?[N*I], A column_sign?[N*J],"
    " T dx[N*I*J], N, I, J, past",
    # channels.h
    "rows_weighted": "T x[N*I*J], A even[N*J], int32 at[N*J], A hot[N*J], A out[N*I], N, I, J",
    "columns_weighted": "T x[N*I*J], A even[N*I], int32 at[N*I], A hot[N*I], A out[N*S*J], S, N, I, J",
    # attend.h
    "attend_rows": "T x[N*I*J], A w[I], A b[1], A logits[N*J], A largest[N*S], A weight[N*S], A context[N*S*I],"
    " S, width, N, I, J; width <= 1024",
    "attend_columns": "T x[N*I*J], A w[J], A b[1], A logits[N*I], A largest[N*S], A weight[N*S], A context[N*S*J],"
    " S, width, N, I, J",
    "attend_rows_back": "T x[N*I*J], A a[N*J], A d[N*I], A k_[N], A logits[N*J], A out[N*S*I], S, width, N, I, J;"
    " width <= 1024",
    "attend_columns_back": "T x[N*I*J], A a[N*I], A d[N*J], A k_[N], A logits[N*I], A out[N*S*J], S, width, N, I, J",
    # groups.h: N samples of C channels, or of G groups of K channels
    "sa_gate": "T x[N*C*J], A scale[2*K], A shift[2*K], T y[N*C*J], A mean[N*C], A inverse[N*C], K, N, C, J, past",
    "sa_gate_back": "T x[N*C*J], T dy[N*C*J], A scale[2*K], A shift[2*K], A mean[N*C], A inverse[N*C], T dx[N*C*J],"
    " A d_shift[N*C], A d_scale[N*C], A scratch[threads*2*J], K, N, C, J, past",
    "sge_gate": "T x[N*G*K*J], A w_[G], A b_[G], T y[N*G*K*J], A mean[N*G*K], A middle[N*G], A deviation[N*G],"
    " A scratch[threads*J], count, K, N, G, J, past",
    "sge_gate_back": "T x[N*G*K*J], T dy[N*G*K*J], A w_[G], A b_[G], A mean[N*G*K], A middle[N*G], A deviation[N*G],"
    " T dx[N*G*K*J], A d_shift[N*G], A d_scale[N*G], A scratch[threads*3*J], count, K, N, G, J, past",
    # strips.h: maps x[N][H][W][C]
    "strip_sums": "T x[N*H*W*C], S rows[N*H*C], S columns[N*W*C], N, H, W, C",
    "strip_scale": "T x[N*H*W*C], S rows[N*H*C], S columns[N*W*C], S row_added?[N*H*C], S column_added?[N*W*C],"
    " T y[N*H*W*C], N, H, W, C, past",
    "strip_products": "T x[N*H*W*C], T dy[N*H*W*C], S rows[N*H*C], S columns[N*W*C], S d_rows[N*H*C],"
    " S d_columns[N*W*C], N, H, W, C",
    # convolve.h: a kernel w[M][K][L] over M maps
    "convolve": "T x[N*M*H*W], A w[M*K*L], T y[N*H*W], K, L, N, M, H, W; K <= 65 and L <= 65",
    "convolve_back": "T x[N*M*H*W], T dy[N*H*W], A w[M*K*L], T dx[N*M*H*W], A dw[N*M*K*L], K, L, N, M, H, W;"
    " K <= 65 and L <= 65",
    # branches.h: M maps x[m][N][I][J]
    "branch_sums": "T[] x[N*I*J], A row_sum?[N*I], A column_sum?[N*J], M, N, I, J",
    "mix_branches": "T[] x[N*I*J], A row?[M*N*I], A column?[M*N*J], T y[N*I*J], M, N, I, J, past",
    "branch_products": "T[] x[N*I*J], T dy[N*I*J], A row_sum?[M*N*I], A column_sum?[M*N*S*J], S, M, N, I, J",
    "branch_gradients": "T dy[N*I*J], A row?[M*N*I], A column?[M*N*J], A row_added?[N*I], A column_added?[N*J],"
    " T[] dx[N*I*J], M, N, I, J, past",
    # whole.h: maps of N samples, C channels and P positions
    "squeeze_excite": "T x[N*C*P], A w1[H*C], A b1?[H], A w2[C*H], A b2?[C], T y[N*C*P], A mean[N*C], A hidden[N*H],"
    " A gate[N*C], H, N, C, P, last, past",
    "squeeze_excite_back": "T x[N*C*P], T dy[N*C*P], A w1[H*C], A w2[C*H], A hidden[N*H], A gate[N*C], T dx[N*C*P],"
    " A d_logits[N*C], A d_hidden[N*H], A scratch[threads*(S + 3)*C], S, H, N, C, P, last, past",
    "convolve_channels": "T x[N*C*P], A w[(C if own else 1)*K], T y[N*C*P], A mean[N*C], A gate[N*C], K, own,"
    " N, C, P, last, past",
    "convolve_channels_back": "T x[N*C*P], T dy[N*C*P], A w[(C if own_ else 1)*K], A gate[N*C], T dx[N*C*P],"
    " A d_logits[N*C], A scratch[threads*(S + 3)*C], S, K, own_, N, C, P, last, past",
    "cbam": "T x[N*C*height*width], A w1[H*C], A b1?[H], A w2[C*H], A b2?[C], A w[2*K*K],"
    f" {_NORM % (1, 1, 1, 1)} norm?, T y?[N*C*height*width], A channel?[N*C], A logits?[N*height*width],"
    " A scratch[threads*(3*C + 2*H + 3*height*width)], double eps, max_first, K, H, N, C, height, width, last, past;"
    " K <= 65",
    "coordinate": f"T x[N*C*height*width], A w[H*C], A b?[H], {_NORM % ('H', 'H', 'H', 'H')} norm, A of_rows[C*H],"
    " A b_rows?[C], A of_columns[C*H], A b_columns?[C], T y[N*C*height*width],"
    " A scratch[threads*(2*C + H)*(height + width)], double eps, H, N, C, height, width, past",
    "global_context": f"T x[N*C*P], A w[C], A b[1], {_TRANSFORM} mul?, {_TRANSFORM} add?, T y[N*C*P],"
    " A scratch[threads*((S + 3)*C + 2*S + H + P)], double eps, S, at_once, H, N, C, P, last, past; at_once <= 1024",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a C function; kind is "T", "T[]", "A", "S", "int32", "{}", "double" or "int"."""

    kind: str
    name: str
    optional: bool = False
    count: str = ""
    members: tuple["Argument", ...] = ()


_DECLARED = re.compile(r"(?:(T\[\]|T|A|S|int32|double|\{[^}]*\}) )?(\w+)(\?)?(?:\[([^\]]*)\])?(?:, |$)")


def declared(name: str) -> tuple[list[Argument], str]:
    """The arguments of a C function, and the condition on its whole numbers ("" for none)."""
    arguments, _, condition = SIGNATURES[name].partition("; ")
    return list(_parsed(arguments)), condition


def _parsed(text: str) -> Iterator[Argument]:
    at = 0
    while at < len(text):
        found = _DECLARED.match(text, at)
        assert found, f"cannot be read: {text[at:]}"
        kind, name, optional, count = found.groups()
        members: tuple[Argument, ...] = ()
        if kind is not None and kind.startswith("{"):
            kind, members = "{}", tuple(_parsed(kind[1:-1]))
        yield Argument(kind or "int", name, bool(optional), count or "", members)
        at = found.end()


_checked: dict[tuple[str, torch.dtype], Callable[..., None]] = {}


def call(name: str, dtype: torch.dtype, *given: Any) -> None:
    """Call the C function of this name for maps of this dtype; `given` is what `SIGNATURES[name]` declares.

    Raises: TypeError: another number of arguments, or one of another type or dtype. ValueError: a tensor with another
        number of elements, memory layout or device, or whole numbers that the function does not take.
    """
    checked = _checked.get((name, dtype))
    if checked is None:
        checked = _checked[name, dtype] = _compiled(name, dtype)
    try:
        checked(*given)
    except (AttributeError, ctypes.ArgumentError, struct.error):
        raise TypeError(f"C function {name}: {_wrong_type(declared(name)[0], given)}") from None


def call_named(name: str, dtype: torch.dtype, *given: Any) -> None:
    """`call`, for a function that is no operator: profilers see it as foveate::NAME."""
    if torch._C._autograd._profiler_enabled():
        with torch.profiler.record_function(f"foveate::{name}"):
            call(name, dtype, *given)
    else:
        call(name, dtype, *given)


def _laid_like(t: Tensor, x: Tensor) -> bool:
    """Does a map have the memory layout of x, which is channels-last?"""
    return t.stride() == x.stride() or t.movedim(1, -1).is_contiguous()


# ---- from a declaration to a function -------------------------------------------------------------------------------
def _compiled(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """A function that checks the arguments of a C function and calls it.

    For "column_spread" it reads

        def column_spread(x, mean, spread, N, I, J):
            threads = get_num_threads()
            first = x
            flat = first.is_contiguous()
            if not (flat or is_dense(first)): raise refused('x', x, …)
            if not (x.dtype is T and x.is_cpu and x.numel() == N*I*J): raise refused('x', x, N*I*J, T)
            if not (mean.dtype is A and mean.is_cpu and mean.numel() == N*J and mean.is_contiguous()): raise …
            if not (spread.dtype is A and …
            function(x.data_ptr(), mean.data_ptr(), spread.data_ptr(), N, I, J, threads)
    """
    arguments, condition = declared(name)
    function = getattr(_native.library(STORED[dtype]), f"{name}_{STORED[dtype]}")
    function.restype, function.argtypes = None, [_native.word] * (len(arguments) + 1)
    first = next(_required_maps(arguments))
    lines = ["threads = get_num_threads()", f"first = {first}", "flat = first.is_contiguous()"]
    lines.append(f"if not (flat or is_dense(first)): raise refused({first!r}, first, first.numel(), T)")
    if condition:
        lines.append(f"if not ({condition}): raise ValueError({f'C function {name}: wanted {condition}'!r})")
    for argument in arguments:
        lines += _checks(argument, first)
    lines.append(f"function({', '.join(map(_passed, arguments))}, threads)")
    known: dict[str, Any] = {
        "T": dtype,
        "A": computed(dtype),
        "S": computed(dtype),
        "int32": torch.int32,
        "function": function,
        "word": _native.word,
        "addressof": ctypes.addressof,
        "bits": _bits,
        "get_num_threads": torch.get_num_threads,
        "is_dense": is_dense,
        "laid_like": _laid_like,
        "refused": partial(_refused, name),
    }
    exec("\n    ".join([f"def {name}({', '.join(argument.name for argument in arguments)}):", *lines]), known)
    return known[name]


def _required_maps(arguments: Iterable[Argument]) -> Iterator[str]:
    """Expressions for the maps that cannot be None."""
    for argument in arguments:
        if argument.kind == "T" and not argument.optional:
            yield argument.name
        elif argument.kind == "T[]":
            yield f"{argument.name}[0]"
        for k, member in enumerate(argument.members):
            if member.kind == "T" and not member.optional:
                yield f"{argument.name}[{k}]"


def _checks(argument: Argument, first: str) -> list[str]:
    """Lines that check an argument; several tensors are then replaced by the array of their addresses.

    first: the expression that gave `first`, the map whose layout the others must have.
    """
    name, kind = argument.name, argument.kind
    match kind:
        case "int" | "double":
            return []
        case "T[]":
            lines = [f"if len({name}) != M: raise refused({name!r}, {name}, M, T)", f"for each in {name}:"]
            lines += [f"    {line}" for line in _checks(Argument("T", "each", count=argument.count), first)]
            return [*lines, f"{name} = (word * M)(*[each.data_ptr() for each in {name}])"]
        case "{}":
            members = ", ".join(member.name for member in argument.members)
            lines = [f"if len({name}) != {len(argument.members)}: raise refused({name!r}, {name}, {members!r}, A)"]
            lines.append(f"{members} = {name}")
            lines += [line for member in argument.members for line in _checks(member, first)]
            lines.append(f"{name} = (word * {len(argument.members)})({', '.join(map(_passed, argument.members))})")
        case _:
            test = f"{name}.dtype is {kind} and {name}.is_cpu and {name}.numel() == {argument.count}"
            if kind == "T" and name != first:
                test += f" and ({name}.is_contiguous() if flat else laid_like({name}, first))"
            elif kind != "T":
                test += f" and {f'({name} if flat else {name}.mT)' if kind == 'S' else name}.is_contiguous()"
            lines = [f"if not ({test}): raise refused({name!r}, {name}, {argument.count}, {kind})"]
    return [f"if {name} is not None:", *(f"    {line}" for line in lines)] if argument.optional else lines


def _passed(argument: Argument) -> str:
    """The expression for what C receives."""
    name = argument.name
    match argument.kind:
        case "int":
            return name
        case "double":
            return f"bits({name})"
        case "T[]" | "{}":
            passed = f"addressof({name})"
        case _:
            passed = f"{name}.data_ptr()"
    return f"0 if {name} is None else {passed}" if argument.optional else passed


def _bits(value: float) -> int:
    """The bits of a double, as a word."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


# ---- messages -------------------------------------------------------------------------------------------------------
def _refused(name: str, argument: str, value: Any, count: Any, dtype: torch.dtype) -> Exception:
    """The error for an argument that is not as declared."""
    if not isinstance(value, Tensor):
        return ValueError(f"C function {name}: {argument} must have {count} tensors; got {len(value)}")
    if value.dtype != dtype:
        return TypeError(f"C function {name}: {argument} must be {dtype}; got {value.dtype}")
    got = f"{tuple(value.shape)} with strides {value.stride()} on {value.device}"
    return ValueError(f"C function {name}: {argument} must have {count} elements, dense, on the CPU; got {got}")


def _wrong_type(arguments: Iterable[Argument], given: Iterable[Any]) -> str:
    """Which argument has a wrong type."""
    kinds: dict[str, tuple[Any, str]] = {
        "int": (int, "a whole number"),
        "double": ((int, float), "a number"),
        "T[]": (list, "a list of tensors"),
        "{}": (tuple, "a tuple of tensors"),
    }
    for argument, value in zip(arguments, given, strict=True):
        wanted, words = kinds.get(argument.kind, (Tensor, "a tensor"))
        parts = value if argument.kind in ("T[]", "{}") and isinstance(value, list | tuple) else ()
        if not isinstance(value, wanted) and not (value is None and argument.optional):
            return f"{argument.name} must be {words}{' or None' * argument.optional}; got {type(value).__name__}"
        for part, member in zip(parts, argument.members or [argument] * len(parts), strict=True):
            if not isinstance(part, Tensor) and not (part is None and member.optional):
                return f"{argument.name} must hold tensors; got {type(part).__name__}"
    return "an argument has a wrong type"
