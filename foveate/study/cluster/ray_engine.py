"""Ray as an engine: functions are its tasks, pinned to machines. Ray tries none again; the coordinator does."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from foveate.registry import nearest
from foveate.study.cluster.executor import CallEnd, Place

TRIES, PAUSE_S = 3, 5.0  # of connecting: a machine under load is slow to answer
ANSWER_S = 10.0  # of an address


class RayEngine:
    """An `Engine`.

    Args:
        address: of a cluster that runs: "auto" for the one that this machine belongs to, or HOST:PORT of its head.
    """

    processes_stay = True

    def __init__(self, address: str) -> None:
        self.address, self.cpus, self.gpus = address, 1, 0.0
        self._joined = False  # by this object
        self._nodes: dict[str, dict[str, Any]] = {}  # name → Ray's description
        self._names: dict[str, str] = {}  # by Ray's numbers
        self._running: set[Any] = set()

    def connect(self) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError("--ray: Ray is not installed; pip install 'foveate[cluster]'") from None
        if ray.is_initialized():
            return
        reach(self.address)
        for attempt in range(TRIES):
            try:
                ray.init(
                    address=self.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False
                )
            except ConnectionError as error:
                raise ValueError(f"--ray {self.address}: no cluster answers ({_line(error)})") from None
            except Exception as error:  # of many kinds, with its own text
                with contextlib.suppress(Exception):
                    ray.shutdown()
                if "ersion mismatch" in str(error):
                    raise ValueError(f"--ray {self.address}: {' '.join(str(error).split())}") from None
                if attempt == TRIES - 1:
                    text = f"--ray {self.address}: the cluster did not take this process in {TRIES} tries"
                    raise RuntimeError(f"{text} ({_line(error)}); is it overloaded?") from None
                time.sleep(PAUSE_S)
            else:
                self._joined = True
                return

    def run_needs(self, cpus: int, gpus: float) -> None:
        self.cpus, self.gpus = cpus, gpus

    def close(self) -> None:
        import ray

        if self._joined:  # Ray ends the tasks of a process that leaves
            ray.shutdown()
            self._joined = False
        else:
            for handle in self._running:
                with contextlib.suppress(Exception):  # of Ray's many kinds: it is gone already
                    ray.cancel(handle, force=True)
        self._running.clear()

    def places(self) -> list[Place]:
        import ray

        self._nodes = {}
        for node in ray.nodes():
            number, address = node["NodeID"], node["NodeManagerAddress"]
            if number not in self._names:
                taken = address in self._names.values()  # several on one machine
                self._names[number] = f"{address}/{number[:8]}" if taken else address
            if node["Alive"]:
                self._nodes[self._names[number]] = node
        return [Place(name, jobs) for name, node in self._nodes.items() if (jobs := self._fit(node["Resources"]))]

    def _fit(self, resources: dict[str, float]) -> int:
        """Runs at a time on a machine."""
        by_cpu = int(resources.get("CPU", 0) // self.cpus)
        return by_cpu if not self.gpus else min(by_cpu, int(resources.get("GPU", 0) / self.gpus + 1e-9))

    def place(self, name: str) -> Place:
        self.places()
        for known, node in self._nodes.items():
            if name in (known, node["NodeManagerHostname"], node["NodeManagerAddress"], node["NodeID"]):
                return Place(known, self._fit(node["Resources"]))
        raise ValueError(f"--costs-on: no machine of the cluster is called {name!r}; {nearest(name, self._nodes)}")

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], place: Place, *, needs: str = "a run"
    ) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._nodes[place.name]
        cpus, gpus = {
            "nothing": (0.0, 0.0),
            "a run": (float(self.cpus), self.gpus),
            "all": (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)),
        }[needs]
        options = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        handle = ray.remote(function).options(**options).remote(*arguments)
        self._running.add(handle)
        return handle

    def wait(self, handles: list[Any], seconds: float) -> list[CallEnd]:
        import ray

        ended, _ = ray.wait(handles, num_returns=1, timeout=seconds)
        if ended:
            ended, _ = ray.wait(handles, num_returns=len(handles), timeout=0)
        return [self._end(handle) for handle in ended]

    def _end(self, handle: Any) -> CallEnd:
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        self._running.discard(handle)
        try:
            return CallEnd(handle, value=ray.get(handle))
        except (RayTaskError, OutOfMemoryError) as error:
            return CallEnd(handle, crash=_line(error.cause if isinstance(error, RayTaskError) else error))
        except RayError as error:  # the process that Ray ran it in, or the machine, is gone: no doing of the run's
            return CallEnd(handle, lost=_line(error))


def reach(address: str) -> None:
    """Raises: ValueError: nobody answers there."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "://" in address:
        raise ValueError(
            f"--ray: wanted auto or HOST:PORT of the head of a cluster that this machine belongs to; got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--ray {address}: no cluster answers ({_line(error)}); is it up, and is this its head?"
        ) from None


def _line(error: BaseException) -> str:
    """One line of what may be a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
