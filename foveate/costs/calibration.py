"""Latency from counts: a device's prices of launches, operations and bytes, fitted to networks; what they predict."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from foveate.costs.latency import forward_step, time_interleaved
from foveate.costs.roofs import device_name, with_threads
from foveate.costs.trace import timed
from foveate.counting import Batch, Row, count, first_tensor
from foveate.devices import require_device
from foveate.files import write_whole
from foveate.networks import build_network

SCHEMA, KIND = 1, "foveate calibration"
CACHED = 2**20  # bytes of one operator; what it moves beyond them has a price of its own
TERMS = ("launch", "work", "near", "far")
NETWORKS = {  # the networks of a calibration, and their image sizes: small, and of every kind of operator
    "torchvision:resnet18": (224, 128),
    "torchvision:squeezenet1_1": (224, 160),
    "torchvision:mobilenet_v2": (224, 128),
    "torchvision:shufflenet_v2_x0_5": (224, 128),
    "torchvision:mnasnet0_5": (224,),
    "torchvision:regnet_y_400mf": (224, 128),
    "torchvision:densenet121": (128,),
    "timm:resnext26ts": (160,),
    "timm:resnet26": (192,),
    "timm:seresnet18": (160,),
    "timm:ghostnet_050": (224,),
    "timm:mobilenetv3_small_100": (224, 128),
    "timm:efficientnet_b0": (160,),
    "timm:convnext_atto": (224, 128),
    "timm:vit_tiny_patch16_224": (224,),
    "timm:levit_128s": (224,),
    "timm:mixer_s32_224": (224,),
}
_CURVED = frozenset(  # elementwise operators that compute a function, not one operation
    ("silu", "gelu", "sigmoid", "tanh", "exp", "erf", "mish", "softplus", "elu", "selu", "log", "pow", "sqrt", "rsqrt")
)


@dataclass(frozen=True)
class Observed:
    """One network on the device: its rows, milliseconds of each where it stands, and of the whole pass."""

    network: str
    image_size: int
    rows: tuple[Row, ...]
    times: tuple[float, ...]
    latency_ms: float


@dataclass(frozen=True)
class Checked:
    """A network of the calibration, and what the others alone predicted for it."""

    network: str
    image_size: int
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True)
class Calibration:
    """What a device pays.

    prices: kind of operator → milliseconds of a launch, of 10⁹ operations (multiply-adds of products), of a gigabyte
    moved (near), and of every gigabyte beyond a mebibyte an operator on top (far). scale, launch_ms: from the operators
    together to the whole pass. error: median of |predicted / measured - 1| over the networks, each left out of the fit
    that predicted it; within: the factor either way within which 90 % of them are. checked: those networks one by one.
    """

    device: str
    name: str
    threads: int
    dtype: str
    batch_size: int
    torch: str
    prices: dict[str, tuple[float, float, float, float]]
    scale: float
    launch_ms: float
    error: float
    within: float
    checked: tuple[Checked, ...]

    def save(self, path: Path | str) -> None:
        """Write it as JSON. Raises: OSError: the file cannot be written."""
        text = json.dumps({"kind": KIND, "schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False)
        write_whole(path, f"{text}\n".encode())

    @staticmethod
    def load(path: Path | str) -> "Calibration":
        """Read one. Raises: ValueError: the file holds none, and why. OSError: there is no such file."""
        from pydantic import TypeAdapter, ValidationError

        try:
            content = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path}: wanted a calibration as foveate calibrate writes it; got no JSON ({error})"
            ) from None
        if not isinstance(content, dict) or content.pop("kind", None) != KIND:
            raise ValueError(f"{path}: wanted a calibration as foveate calibrate writes it; got another JSON file")
        if (schema := content.pop("schema", None)) != SCHEMA:
            raise ValueError(f"{path}: wanted a calibration of schema {SCHEMA}; got {schema!r}: calibrate again")
        try:
            found = TypeAdapter(Calibration).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{path}: not a whole calibration: {where}: {first['msg'].lower()}") from None
        if "elementwise" not in found.prices:
            raise ValueError(f"{path}: not a whole calibration: it has no prices of elementwise operators")
        return found


def kind_of(row: Row) -> str:
    """What a row is priced as, by its counts and shapes."""
    if row.kind == "elementwise" and row.operator.rpartition(".")[2].rstrip("_") in _CURVED:
        return "curved elementwise"
    if row.kind != "product":
        return "batch norm" if "batch_norm" in row.operator else row.kind
    if row.operator != "aten.convolution":
        return "linear" if row.operator in ("aten.addmm", "aten.mm") else "matrix product"
    channels, weight = row.inputs[0][1], row.inputs[1]
    if weight[1] < channels:
        return "depthwise convolution" if weight[1] == 1 else "group convolution"
    if channels < 16:
        return "convolution of few channels"
    return "1×1 convolution" if math.prod(weight[2:]) == 1 else "convolution"


def terms(row: Row) -> list[float]:
    """The terms of one operator, in units that make their prices milliseconds."""
    moved = row.bytes_read + row.bytes_written
    work = row.macs or row.elementwise + row.reductions
    return [float(row.launches), work / 1e9, moved / 1e9, max(0, moved - CACHED) / 1e9]


Prices = Mapping[str, Sequence[float]]


def operators(rows: Iterable[Row], prices: Prices) -> float:
    """Milliseconds of all operators by these prices; of a kind without prices, by those of elementwise ones."""
    whole = 0.0
    for row in rows:
        price = prices.get(kind_of(row), prices["elementwise"])
        whole += sum(one * term for one, term in zip(price, terms(row), strict=True))
    return whole


def fit(observed: Sequence[Observed]) -> tuple[dict[str, tuple[float, ...]], float, float]:
    """Prices of every kind, and from all operators to the whole pass: a factor, and milliseconds a launch.

    Non-negative least squares of relative errors, every operator of a kind and then every network with the same say;
    reweighted so that a few that were disturbed while they were measured do not pull.
    """
    by_kind: dict[str, list[tuple[list[float], float]]] = {}
    for one in observed:
        for row, time in zip(one.rows, one.times, strict=True):
            by_kind.setdefault(kind_of(row), []).append((terms(row), time))
    prices = {kind: _least(pairs) for kind, pairs in by_kind.items()}
    scale, launch_ms = _least(
        [([operators(one.rows, prices), float(len(one.rows))], one.latency_ms) for one in observed]
    )
    return prices, scale, launch_ms


def _least(pairs: Sequence[tuple[list[float], float]]) -> tuple[float, ...]:
    import numpy as np
    from scipy.optimize import nnls

    matrix, times = np.array([values for values, _ in pairs]), np.array([time for _, time in pairs])
    times = np.maximum(times, 1e-4)
    weights = 1 / times
    for _ in range(6):
        weighted = matrix * weights[:, None]
        size = np.linalg.norm(weighted, axis=0)
        size[size == 0] = 1
        found = nnls(weighted / size, times * weights)[0] / size
        errors = np.abs(matrix @ found / times - 1)
        weights = 1 / times / np.sqrt(np.maximum(errors, 0.05))
    return tuple(float(value) for value in found)


def observe(name: str, image_size: int, model: nn.Module, x: Tensor, *, budget_s: float) -> Observed:
    """Time a network and each of its operators where it stands."""
    model.eval()
    calls, passes = timed(model, x, repeats=30, budget_s=budget_s / 2)
    samples = time_interleaved({name: forward_step(model, x)}, repeats=30, budget_s=budget_s / 2)[name]
    times = tuple(statistics.median(times) for times in zip(*passes, strict=True))
    return Observed(name, image_size, tuple(call.row for call in calls), times, statistics.median(samples))


def calibrate(
    device: str | torch.device = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    threads: int | None = None,
    batch_size: int = 1,
    networks: Mapping[str, Sequence[int]] = NETWORKS,
    budget_s: float = 40.0,
    progress: Callable[[str], object] = lambda text: None,
) -> Calibration:
    """Measure a device once, so that latencies on it can be predicted from counts alone; about a minute.

    Args:
        device: "cpu", "cuda", …
        threads: CPU threads; torch's present number where not given. Put back afterwards.
        networks: names as `build_network` takes them → sides of the images; three networks at least.
        budget_s: seconds of measuring at most, about; building the networks comes on top.
        progress: called with the name of each network before it is measured.

    Raises: ValueError: no such device, fewer than three networks.
    """
    where = require_device(device)
    if len(networks) < 3:
        raise ValueError(f"networks: wanted three at least, so that each can be left out; got {len(networks)}")
    with with_threads(threads), torch.random.fork_rng(devices=[]):
        used = torch.get_num_threads()
        visits = list(_visits(networks, where, dtype, batch_size, budget_s, progress))
    half = len(visits) // 2
    observed = [_quieter(first, second) for first, second in zip(visits[:half], visits[half:], strict=True)]
    prices, scale, launch_ms = fit(observed)
    checked = tuple(_left_out(observed))
    errors = sorted(abs(math.log(one.predicted_ms / one.measured_ms)) for one in checked)
    return Calibration(
        str(where),
        device_name(where),
        used,
        str(dtype).removeprefix("torch."),
        batch_size,
        torch.__version__,
        {kind: (price[0], price[1], price[2], price[3]) for kind, price in prices.items()},
        scale,
        launch_ms,
        error=statistics.median(abs(one.predicted_ms / one.measured_ms - 1) for one in checked),
        within=math.exp(errors[min(len(errors) - 1, math.ceil(0.9 * (len(errors) + 1)) - 1)]),
        checked=checked,
    )


def _visits(
    networks: Mapping[str, Sequence[int]],
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    budget_s: float,
    progress: Callable[[str], object],
) -> Iterator[Observed]:
    """Every network at every size, and then all of them again."""
    runs = [(name, size) for name, sizes in networks.items() for size in sizes]
    built: dict[str, nn.Module] = {}
    for again in ("", ", again"):
        for name, size in runs:
            progress(f"{name} at {size}×{size}{again}")
            if name not in built:
                built[name] = build_network(name, num_classes=1000).to(device, dtype)
            x = torch.randn(batch_size, 3, size, size, device=device, dtype=dtype)
            yield observe(name, size, built[name], x, budget_s=budget_s / len(runs) / 2)


def _quieter(first: Observed, second: Observed) -> Observed:
    """Of two visits, the shorter time of the whole and of each operator: other work only ever adds."""
    times = tuple(map(min, first.times, second.times))
    return replace(first, times=times, latency_ms=min(first.latency_ms, second.latency_ms))


def _left_out(observed: Sequence[Observed]) -> Iterable[Checked]:
    """Every network predicted by a fit to the others."""
    for name in dict.fromkeys(one.network for one in observed):
        prices, scale, launch_ms = fit([one for one in observed if one.network != name])
        for one in observed:
            if one.network == name:
                predicted = scale * operators(one.rows, prices) + launch_ms * len(one.rows)
                yield Checked(name, one.image_size, one.latency_ms, predicted)


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of one pass. low, high: the range of the factor that covers 9 of 10 calibration networks, each
    left out of the fit. error: their median relative error. uncovered: operators of a kind that no network of the
    calibration had, which are priced as elementwise ones."""

    ms: float
    low: float
    high: float
    error: float
    uncovered: tuple[str, ...]


def predict(model: nn.Module, x: Batch, calibration: Calibration | Path | str) -> Prediction:
    """Milliseconds of one forward pass on the device of a calibration, from the counts of the network alone.

    The network is run once to be counted, wherever it is; on the meta device that costs no memory and next to no time.

    Args:
        model: any network; left as it was found.
        x: a batch, as `foveate.counting.count` takes it; its values do not matter.
        calibration: of `calibrate`, or the file that `foveate calibrate` wrote.

    Raises: ValueError: the network refuses x, x is of another dtype than the calibration, the file holds none.
    """
    if not isinstance(calibration, Calibration):
        calibration = Calibration.load(calibration)
    t = first_tensor(x)
    dtype = str(t.dtype).removeprefix("torch.")
    if t.is_floating_point() and dtype != calibration.dtype:
        raise ValueError(f"the calibration is for {calibration.dtype}; got a batch of {dtype}: calibrate for it")
    counted = count(model, x, kept=False)
    prices = calibration.prices
    ms = calibration.scale * operators(counted.rows, prices) + calibration.launch_ms * len(counted.rows)
    uncovered = dict.fromkeys(row.operator for row in counted.rows if kind_of(row) not in prices)
    return Prediction(ms, ms / calibration.within, ms * calibration.within, calibration.error, tuple(uncovered))


def fastest_first(
    candidates: Iterable[tuple[str, nn.Module, Batch]],
    calibration: Calibration | Path | str,
    *,
    limit_ms: float | None = None,
) -> list[tuple[str, Prediction]]:
    """Candidates of a search by predicted latency, before any of them is trained or measured.

    Candidates that share most of their operators share most of the error too, so their order holds better than each
    figure does.

    Args:
        candidates: names, networks and a batch for each; each is let go before the next is taken.
        limit_ms: leave out those predicted above it.

    Raises: ValueError: as `predict`.
    """
    if not isinstance(calibration, Calibration):
        calibration = Calibration.load(calibration)
    found = [(name, predict(model, x, calibration)) for name, model, x in candidates]
    kept = [pair for pair in found if limit_ms is None or pair[1].ms <= limit_ms]
    return sorted(kept, key=lambda pair: pair[1].ms)
