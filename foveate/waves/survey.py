"""What a seismic survey is: where shots and receivers stand, the wavelet, the grid and the time axis."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# largest v · step · √(1/dz² + 1/dx²) at which a leapfrog scheme with a Laplacian of this order is stable, 2 / √Σ|c|
CRITICAL_COURANT = {2: 1.0, 4: 0.8660, 6: 0.8135, 8: 0.7844}
SAFETY = 0.95  # of it, for the absorbing layers
SIGNS = {"openfwi": -1.0, "deepwave": 1.0}
DIRECT_M_S, DIRECT_S = 1800.0, 0.2  # the direct wave has passed a receiver at offset / 1800 + 0.2 s
LAG_PERIODS = 1.5  # of the wavelet's peak, in periods of its frequency


@dataclass(frozen=True)
class Survey:
    """A line of shots and receivers over a model (depth, x) with cells of one size.

    Attributes:
        shots, receivers: numbers of them, evenly from the first to the last column.
        spacing_m: side of a cell.
        step_s, steps: of the time axis that is simulated.
        keep: every so many samples of it are in the gathers.
        frequency_hz: of the Ricker wavelet.
        depth: row of shots and receivers.
        accuracy: order of the Laplacian, 2, 4, 6 or 8.
        absorbing: cells of the absorbing layers around the model.
        fastest_m_s: velocity that steps are small enough for; the same for every model, so that all are computed alike.
        sign: "openfwi" or "deepwave", whose gathers have opposite signs.

    Raises: ValueError: a number out of its range, or a time step too large to be stable, with the largest that is not.
    """

    shots: int = 5
    receivers: int = 70
    spacing_m: float = 10.0
    step_s: float = 0.001
    steps: int = 1000
    keep: int = 4
    frequency_hz: float = 15.0
    depth: int = 1
    accuracy: int = 4
    absorbing: int = 20
    fastest_m_s: float = 4600.0
    sign: str = "openfwi"

    def __post_init__(self) -> None:
        for name in ("shots", "receivers", "steps", "keep"):
            if not isinstance(value := getattr(self, name), int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"survey: {name}: wanted a whole number of 1 or more; got {value!r}")
        for name in ("spacing_m", "step_s", "frequency_hz", "fastest_m_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"survey: {name}: wanted a positive number; got {value!r}")
        for name in ("depth", "absorbing"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                raise ValueError(f"survey: {name}: wanted a whole number of 0 or more; got {value!r}")
        if self.accuracy not in CRITICAL_COURANT:
            raise ValueError(
                f"survey: accuracy: wanted one of {', '.join(map(str, CRITICAL_COURANT))}; got {self.accuracy!r}"
            )
        if self.sign not in SIGNS:
            raise ValueError(f"survey: sign: wanted {' or '.join(map(repr, SIGNS))}; got {self.sign!r}")
        if self.step_s > self.largest_step_s:
            raise ValueError(
                f"survey: step_s: {self.step_s:g} s breaks stability at {self.fastest_m_s:g} m/s with cells of "
                f"{self.spacing_m:g} m; the largest allowed is {math.floor(self.largest_step_s * 1e6) / 1e6:g} s"
            )

    @property
    def largest_step_s(self) -> float:
        """The largest time step that is stable for `fastest_m_s`."""
        return self.courant_number * self.spacing_m / (self.fastest_m_s * math.sqrt(2))

    @property
    def courant_number(self) -> float:
        """The largest v · step · √(1/dz² + 1/dx²) that is used."""
        return SAFETY * CRITICAL_COURANT[self.accuracy]

    @property
    def observing(self) -> "Survey":
        """This survey simulated with the longest stencil, for gathers that stand for observed ones: data that the
        inversion simulates in the same way flatter it."""
        return replace(self, accuracy=max(CRITICAL_COURANT))

    @property
    def samples(self) -> int:
        """Of each trace that are kept."""
        return -(-self.steps // self.keep)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(shots, samples, receivers) of the gathers of one model."""
        return self.shots, self.samples, self.receivers

    @property
    def sample_s(self) -> float:
        """Time between kept samples."""
        return self.step_s * self.keep

    def places(self, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns of the shots and of the receivers. Raises: ValueError: more of them than the model has columns."""
        for name, count in (("shots", self.shots), ("receivers", self.receivers)):
            if count > columns:
                raise ValueError(f"survey: wanted at most {columns} {name}, one a column of the model; got {count}")
        found = (np.linspace(0, columns - 1, count).round().astype(np.int64) for count in (self.shots, self.receivers))
        shots, receivers = found
        return shots, receivers

    def after_direct_wave(self, columns: int) -> NDArray[np.bool_]:
        """(shots, samples, receivers): has the direct wave passed? t > offset / 1800 m/s + 0.2 s."""
        shots, receivers = self.places(columns)
        offsets = np.abs(shots[:, None] - receivers[None]) * self.spacing_m
        times = np.arange(self.samples) * self.sample_s
        return times[None, :, None] > offsets[:, None, :] / DIRECT_M_S + DIRECT_S

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
