"""One place where attention can stand, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.insertion.probe import Call, Trace


@dataclass(frozen=True)
class Site:
    """A place where an attention module can stand.

    Attributes:
        name: dotted name of the module that was chosen, such as ``"layer3"``; of one tensor among several that a module
            returns together, that tensor's key behind a colon, ``"backbone:p6"``.
        kind: ``"block"`` (end of a residual branch or of a repeated unit), ``"stage"`` (last map before resolution or
            width changes), ``"head"`` (a map that is given to prediction heads) or ``"module"`` (any module that gives
            a map).
        channels: C of the features there.
        shape: S, the spatial sizes at the example that was probed; of tokens, those of their grid.
        stage: number of the stage it lies in, from 1; None outside of all stages.
        attached_to: dotted name of the module that carries the attention; differs from ``name`` for containers, whose
            last child carries it.
        side: ``"output"``; ``"input"`` where no module outputs the tensor but the next one takes it; ``"instead"``
            where the module itself is bypassed.
        module: class name of the module called ``name``.
        layout: ``"NCHW"``, ``"NHWC"``, ``"NLC+1"``, ...: channels second, channels last, or tokens (here behind one
            class token), ``"NC(HW)"``: tokens second, ``"(NT)CHW"``: frames of clips in the batch. Attention sees
            ``(N, C, *S)`` in each.
        entry: number of the tensor among those that the module returns together; None where it returns one.
        input_shape: of tokens and of frames in the batch, the spatial sizes of the network's input at the example; else
            empty.
    """

    name: str
    kind: str
    channels: int
    shape: tuple[int, ...]
    stage: int | None
    attached_to: str
    side: str = "output"
    module: str = ""
    layout: str = "NCHW"
    entry: int | None = None
    input_shape: tuple[int, ...] = ()

    @property
    def prefix(self) -> int:
        """Tokens before the grid, which attention never sees."""
        return int(self.layout.partition("+")[2] or 0)

    def call(self, trace: Trace) -> Call:
        """The call of the module that was chosen."""
        return trace.call_of(self.name if self.entry is None else self.attached_to)

    def takes(self, trace: Trace) -> tuple[int, ...]:
        """The shape of the tensor that attention takes here."""
        return self._shape(trace, "output")

    def gives(self, trace: Trace) -> tuple[int, ...]:
        """The shape of the tensor that attention gives here, which is that of what stood there before."""
        return self._shape(trace, "output", "instead")

    def _shape(self, trace: Trace, *at_the_output: str) -> tuple[int, ...]:
        call = trace.call_of(self.attached_to)
        if self.entry is not None:
            return trace.nodes[call.entries[self.entry][1]].shape
        node = call.output if self.side in at_the_output else call.inputs[0]
        assert node is not None, self.name
        return trace.nodes[node].shape
