"""Guarantees that take longer, on a few networks: compiled, exported, in two processes, prepared for quantisation."""

import copy
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from guarantee_networks import Case, networks
from guarantees import OPTIONS, Verdict, attended, difference, let_speak, outputs, tensors
from torch import nn

from foveate.insertion import insert, inserted

SAMPLE = ("resnet10t", "mobilenetv3_small_050", "convnext_atto", "Residual")
WIDE = ("resnet10t", "Signal", "Volume")
"""Networks of images, signals and clips, for every mechanism."""


def cases(names: tuple[str, ...]) -> list[Case]:
    """The first network of each name."""
    found: dict[str, Case] = {}
    for case in networks():
        found.setdefault(case.name, case)
    return [found[name] for name in names]


def _speaking(case: Case, mechanism: str) -> nn.Module:
    model = case.build()
    attended(model, case.example(), mechanism)
    let_speak(model)
    return model


def compiled(case: Case, mechanism: str) -> Verdict:
    """torch.compile(fullgraph=True), forward."""
    torch._dynamo.reset()
    model, x = _speaking(case, mechanism), case.example()
    gap = difference(outputs(torch.compile(model, fullgraph=True, backend="aot_eager"), x), outputs(model, x))
    return gap <= 1e-4 or f"relative difference {gap:.1e}"


def exported(case: Case, mechanism: str) -> Verdict:
    """torch.export with a free batch size, run at another one."""
    model, x = _speaking(case, mechanism), case.example()
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=8)},))
    twice = torch.cat([x, x.flip(0), x])
    gap = difference(outputs(program.module(), twice), outputs(model, twice))
    return gap <= 1e-4 or f"relative difference {gap:.1e}"


def quantised(case: Case, mechanism: str) -> Verdict:
    """torch.ao's eager prepare_qat: as many of the network's own layers are prepared as without attention; it runs."""
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    def prepared(model: nn.Module) -> tuple[int, nn.Module]:
        model.train()
        model.qconfig = get_default_qat_qconfig("x86")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated in favour of torchao, which is not installed
            model = prepare_qat(model)
        own = [m for n, m in model.named_modules() if "foveate" not in n.split(".")]
        return sum(".qat." in type(m).__module__ for m in own), model

    own, _ = prepared(case.build())
    model = _speaking(case, mechanism)
    count = len(inserted(model))
    now, model = prepared(model)
    sum(y.sum() for y in tensors(model(case.example()))).backward()
    if len(inserted(model)) != count:
        return f"{count - len(inserted(model))} of {count} modules lost"
    return now == own or f"{now} of {own} layers prepared"


def parallel(names: tuple[str, ...], mechanisms: tuple[str, ...]) -> dict[tuple[str, str], Verdict]:
    """DistributedDataParallel on two gloo processes: gradients are the mean of what each part of the batch gives."""
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(_rank, (folder, names, mechanisms), nprocs=2)
        found: dict[tuple[str, str], Verdict] = torch.load(Path(folder) / "found", weights_only=True)
    return found


def _rank(rank: int, folder: str, names: tuple[str, ...], mechanisms: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[tuple[str, str], Verdict] = {}
    for case in cases(names):
        for mechanism in mechanisms:
            model, x = _speaking(case, mechanism), case.example()
            expected = [torch.zeros_like(p) for p in model.parameters()]
            for part in (0, 1):
                twin = copy.deepcopy(model)
                sum(y.square().sum() for y in tensors(twin(x[part : part + 1]))).backward()
                for total, p in zip(expected, twin.parameters(), strict=True):
                    total += p.grad / 2 if p.grad is not None else 0
            wrapped = nn.parallel.DistributedDataParallel(model)
            sum(y.square().sum() for y in tensors(wrapped(x[rank : rank + 1]))).backward()
            gap = max(difference([p.grad], [e]) for p, e in zip(model.parameters(), expected, strict=True)
                      if p.grad is not None and e.abs().max() > 1e-6)  # fmt: skip
            missing = any(p.grad is None for m in dict(inserted(model)).values() for p in m.parameters())
            found[case.name, mechanism] = (gap <= 1e-4 and not missing) or f"relative difference {gap:.1e}"
    if rank == 0:
        torch.save(found, Path(folder) / "found")
    dist.barrier()
    dist.destroy_process_group()


NOT_FOR = {
    "attention_gate": dict.fromkeys(WIDE, "missing 1 required positional argument: 'g'"),  # it takes two maps
    "cbam_temporal": dict.fromkeys(("resnet10t", "Signal"), "spatial_dims must be 3"),
    "temporal": {"resnet10t": "spatial_dims must be 1 or 3"},
}
"""Mechanisms that are not made for the maps of a network, and what insertion says."""


def mechanism_starts_as_identity(case: Case, mechanism: str) -> Verdict:
    """Inserted with init="identity", the outputs stay; None where the mechanism is refused as `NOT_FOR` says."""
    model, x = case.build(), case.example()
    before = outputs(model, x)
    refusal = NOT_FOR.get(mechanism, {}).get(case.name)
    try:
        insert(model, mechanism, at="stage", example=x, init="identity", seed=0, **OPTIONS.get(mechanism, {}))
    except (ValueError, TypeError) as error:
        if refusal is None or refusal not in str(error):
            raise
        return None
    if refusal is not None:
        return "inserted, though it is not made for such maps"
    gap = difference(outputs(model, x), before)
    return gap <= 1e-6 or f"relative difference {gap:.1e}"
