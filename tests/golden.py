"""Golden files: read one, and hold a module to it."""

import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

import foveate
from foveate.official._conversions import _find, to_ours

SHARED = Path(__file__).resolve().parents[2] / "shared"
OWN_GOLDEN = Path(__file__).resolve().parent / "golden"


def golden_files(*patterns: str) -> list[Path]:
    """Golden files for parametrisation: those beside the project, or else the small ones kept in tests/golden."""
    folder = SHARED / "golden" if (SHARED / "golden").is_dir() else OWN_GOLDEN
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["golden"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def numbered(tensors: dict[str, Tensor], name: str) -> list[Tensor]:
    if name in tensors:
        return [tensors[name]]
    return [tensors[f"{name}.{i}"] for i in range(len(tensors)) if f"{name}.{i}" in tensors]


def assert_golden(actual: Tensor, expected: Tensor, what: str, scale: float | None = None) -> None:
    """Equal as the golden README says; `scale` is the size that zero-by-theory gradients are compared against."""
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} against {tuple(expected.shape)}"
    size = max(expected.abs().max().item(), scale or 0.0) if expected.numel() else 0.0
    rtol, atol = (1e-9, 1e-10 * size) if expected.dtype == torch.float64 else (1e-4, 1e-5)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}")


def check(path: Path, module: nn.Module, to_ours: dict[str, str]) -> None:
    """Outputs, input and parameter gradients and running statistics of the module against the file.

    to_ours: official key → our key, for parameters and buffers.
    """
    header, tensors = read(path)
    module.train(header["mode"] == "train")
    given = numbered(tensors, "input") + numbered(tensors, "theta")
    inputs = [x.clone().requires_grad_() for x in given]
    names = (header.get("call") or "").replace(" ", "")
    outputs = module(**_named(names, inputs)) if "=input" in names else module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    expected, cotangents = numbered(tensors, "output"), numbered(tensors, "cotangent")
    assert len(outputs) == len(expected)
    for i, (y, wanted) in enumerate(zip(outputs, expected, strict=True)):
        assert_golden(y, wanted, f"output {i}")
    sum((y * c).sum() for y, c in zip(outputs, cotangents, strict=True)).backward()
    input_gradients = numbered(tensors, "grad_input") + numbered(tensors, "grad_theta")
    for i, (x, wanted) in enumerate(zip(inputs, input_gradients, strict=True)):
        assert_golden(x.grad, wanted, f"input gradient {i}")
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    grads = part(tensors, "grad.")
    assert grads or not parameters
    scale = max((g.abs().max().item() for g in grads.values()), default=1.0)
    for key, wanted in grads.items():
        grad = parameters[to_ours[key]].grad
        grad = torch.zeros_like(parameters[to_ours[key]]) if grad is None else grad
        assert_golden(grad.reshape(wanted.shape), wanted, f"gradient of {key}", scale)
    for key, wanted in {**part(tensors, "after."), **part(tensors, "after_tf.")}.items():
        assert_golden(buffers[to_ours[key]], wanted, f"{key} after the step")


def _named(call: str, inputs: list[Tensor]) -> dict[str, Tensor]:
    """{"x": inputs[0], …} from a header's "m(x=input.0,g=input.1)|…"."""
    inside = call[call.index("(") + 1 : call.index(")")]
    return {name: inputs[int(at.split(".")[1])] for name, at in (p.split("=") for p in inside.split(","))}


def golden_loader(path: Path) -> tuple[nn.Module, dict[str, str]]:
    """Our module with the file's weights, by way of `foveate.official.load`, and {official key: our key}."""
    header, tensors = read(path)
    state = part(tensors, "param.")
    module = foveate.official.load(header["source"], header["cls"], header["ctor"], state)
    _, prefixes = _find(header["source"], header["cls"]).build(**header["ctor"])
    return module, {key: to_ours(key, prefixes) for key in state}


def by_rule(salt: str, entries: Iterable[tuple[str, list[int], str]]) -> dict[str, Tensor]:
    """Weights that are not stored but made: (key, shape, kind) → values, as the golden README has it."""
    state = {}
    for key, shape, kind in entries:
        random = np.random.RandomState(zlib.crc32(f"{salt}|{key}".encode()))
        n = random.random_sample(shape) if kind == "var" else random.standard_normal(shape)
        made = {
            "conv": lambda n, shape: n / math.sqrt(math.prod(shape[1:])),
            "bias": lambda n, _: 0.3 * n,
            "norm_b": lambda n, _: 0.3 * n,
            "norm_w": lambda n, _: 1 + 0.3 * n,
            "mean": lambda n, _: 0.2 * n,
            "var": lambda n, _: 0.5 + n,
            "free": lambda n, _: 0.3 + 0.7 * n,
        }[kind](n, shape)
        state[key] = torch.from_numpy(np.asarray(made))
    return state


def check_network(path: Path, named: dict[str, str]) -> None:
    """A whole network against its file: logits, means of the stages, gradients; 1e-8 relative.

    named: our name of an official module whose stage mean the file holds, where it is another.
    """
    header, tensors = read(path)
    state = by_rule(header["salt"], header["state"])
    network = foveate.official.load(header["source"], header["cls"], header["ctor"], state)
    _, prefixes = _find(header["source"], header["cls"]).build(**header["ctor"])
    x = np.random.RandomState(zlib.crc32(f"{header['salt']}|input".encode())).standard_normal(header["input_shape"])
    image = torch.from_numpy(x).requires_grad_()

    def same(got: Tensor, wanted: Tensor, what: str) -> None:
        close = 1e-8 * wanted.abs().max().item()
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=close, msg=lambda text: f"{what}: {text}")

    same(image[..., :4, :4].detach(), tensors["input_corner"], "input")
    seen: dict[str, Tensor] = {}
    stages = part(tensors, "stage_mean.")
    for stage in stages:
        module = network.get_submodule(named.get(stage, stage))
        module.register_forward_hook(lambda _, __, y, stage=stage: seen.update({stage: y.detach().mean((2, 3))}))
    logits = network(image)
    for stage, wanted in stages.items():
        same(seen[stage], wanted, f"mean of {stage}")
    same(logits, tensors["logits"], "logits")
    (logits * tensors["cotangent"]).sum().backward()
    same(torch.nn.functional.avg_pool2d(image.grad, 16), tensors["grad_input_pool16"], "input gradient")
    parameters = dict(network.named_parameters())
    norms = torch.stack([parameters[to_ours(key, prefixes)].grad.norm() for key in header["grad_norm_order"]])
    same(norms, tensors["grad_norms"], "norms of the gradients")
