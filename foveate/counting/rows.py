"""The rows of a count, and their sums."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True)
class Row:
    """One operator that ran, over the whole batch.

    operator: "aten.convolution". module: dotted path of the module whose forward called it, "" the network's own.
    stage: "" without stages. kind: product, elementwise, reduction, normalisation, pooling, resampling, copy
    or unknown. macs: multiply-adds of products. elementwise, reductions: further arithmetic operations. bytes_read,
    bytes_written: each operand once, views free. inputs, outputs: shapes of the tensors. dtype: of what it wrote.
    launches: 1; an operator that only views or allocates has no row.
    """

    operator: str
    module: str
    kind: str
    macs: int
    elementwise: int
    reductions: int
    bytes_read: int
    bytes_written: int
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    dtype: str
    launches: int = 1
    stage: str = ""


@dataclass(frozen=True)
class Kept:
    """Bytes kept for the backward pass: of a tensor that `operator` in `module` made ("input": that came with x)."""

    operator: str
    module: str
    bytes: int
    stage: str = ""


@dataclass
class Sums:
    """Rows added up. macs are multiply-adds: two FLOPs each."""

    parameters: int = 0
    macs: int = 0
    elementwise: int = 0
    reductions: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    activation_bytes: int = 0
    launches: int = 0
    unknown: int = 0

    @property
    def bytes_moved(self) -> int:
        return self.bytes_read + self.bytes_written

    def add(self, row: Row) -> None:
        self.macs += row.macs
        self.elementwise += row.elementwise
        self.reductions += row.reductions
        self.bytes_read += row.bytes_read
        self.bytes_written += row.bytes_written
        self.launches += row.launches
        self.unknown += row.kind == "unknown"

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True)
class Count:
    """What one forward pass over a batch computes and moves (rows) and, in training, keeps (kept).

    parameters: module → its own, each tensor once. inputs: shapes of the batch. data_dependent: operators whose shapes
    or values decide what runs, so that the counts hold for this input only. untrained: why the network could not be
    run in training mode on this batch, so that `kept` is that of evaluation mode; "" where it could.
    """

    rows: tuple[Row, ...]
    kept: tuple[Kept, ...] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[tuple[int, ...], ...] = ()
    data_dependent: tuple[str, ...] = ()
    untrained: str = ""

    @property
    def total(self) -> Sums:
        return self._summed(lambda _: ("",))[""]

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers, matrix products and attention; half their FLOPs."""
        return self.total.macs

    @property
    def bytes_moved(self) -> int:
        return self.total.bytes_moved

    @property
    def unknown(self) -> dict[str, int]:
        """Operators whose arithmetic is not known, and how often each ran; their bytes are counted all the same."""
        found: dict[str, int] = {}
        for row in self.rows:
            if row.kind == "unknown":
                found[row.operator] = found.get(row.operator, 0) + 1
        return found

    def per_operator(self) -> dict[str, Sums]:
        """Sums by operator, in the order of their first run; the parameters belong to modules and are 0 here."""
        found: dict[str, Sums] = {}
        for row in self.rows:
            found.setdefault(row.operator, Sums()).add(row)
        for kept in self.kept:
            found.setdefault(kept.operator, Sums()).activation_bytes += kept.bytes
        return found

    def per_module(self) -> dict[str, Sums]:
        """Sums by module, each with all that runs within it; "" is the whole network."""

        def within(path: str) -> Sequence[str]:
            names = path.split(".") if path else []
            return [".".join(names[:end]) for end in range(len(names) + 1)]

        return self._summed(within)

    def per_stage(self) -> dict[str, Sums]:
        """Sums by stage, in order."""
        stage_of = {row.module: row.stage for row in reversed(self.rows)}
        found: dict[str, Sums] = {row.stage: Sums() for row in self.rows}
        for row in self.rows:
            found[row.stage].add(row)
        for kept in self.kept:
            found.setdefault(kept.stage, Sums()).activation_bytes += kept.bytes
        for path, number in self.parameters.items():
            below = (p for p in stage_of if p.startswith(f"{path}."))
            near = next((p for p in (path, *below, *_above(path)) if p in stage_of), None)
            found.setdefault("" if near is None else stage_of[near], Sums()).parameters += number
        return found

    def staged(self, ends: Sequence[str]) -> "Count":
        """The same with stages: each runs up to the last operator of the module that ends it; then comes the head.

        What runs before the first stage's module is entered is the stem; there is none where a stage has no module of
        its own, only one that is its last.
        """
        last = {end: max((i for i, row in enumerate(self.rows) if _under(row.module, end)), default=-1) for end in ends}
        ends = sorted((end for end in ends if last[end] >= 0), key=last.__getitem__)
        if not ends:
            return self
        whole = any(row.module.startswith(f"{ends[0]}.") for row in self.rows)
        first = next(i for i, row in enumerate(self.rows) if _under(row.module, ends[0])) if whole else 0
        stages = [
            "stem" if i < first else next((end for end in ends if i <= last[end]), "head")
            for i in range(len(self.rows))
        ]
        rows = tuple(replace(row, stage=stage) for row, stage in zip(self.rows, stages, strict=True))
        by_module = {row.module: row.stage for row in reversed(rows)}
        kept = tuple(replace(k, stage=by_module.get(k.module, "stem")) for k in self.kept)
        return replace(self, rows=rows, kept=kept)

    def _summed(self, keys: Callable[[str], Sequence[str]]) -> dict[str, Sums]:
        found: dict[str, Sums] = {"": Sums()}
        for row in self.rows:
            for key in keys(row.module):
                found.setdefault(key, Sums()).add(row)
        for kept in self.kept:
            for key in keys(kept.module):
                found.setdefault(key, Sums()).activation_bytes += kept.bytes
        for path, number in self.parameters.items():
            for key in keys(path):
                found.setdefault(key, Sums()).parameters += number
        return found


def _above(path: str) -> list[str]:
    """The modules that hold this one, the nearest first: they may use its weights without calling it."""
    parts = path.split(".")
    return [".".join(parts[:k]) for k in range(len(parts) - 1, 0, -1)]


def _under(path: str, end: str) -> bool:
    return path == end or path.startswith(f"{end}.")
