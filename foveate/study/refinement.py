"""Classical inversion from a trained network's models and from smooth ones: which start leads to the better model?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.data import open_data
from foveate.study.trained import TrainedRun, find_run
from foveate.tasks import create_task
from foveate.tasks.inversion import Inversion
from foveate.tasks.nearest_models import mean_model
from foveate.tasks.task import main_output
from foveate.waves import Misfit, Refinement, Survey, data_misfit, refine, simulate, smoothed

CELLS = 5.0  # by which the smooth start, the mean of the training models, is blurred
STARTS = ("network", "smooth")


@dataclass(frozen=True)
class Refined:
    """One test model.

    Attributes:
        item: its number; name: what it is called.
        truth: (H, W), m/s.
        of_truth: misfit of the true model itself, what is left by the difference of the two simulations.
        starts: "network" and "smooth" → what the inversion did from there.
    """

    item: int
    name: str
    truth: NDArray[np.float32]
    of_truth: Misfit
    starts: Mapping[str, Refinement]

    def row(self) -> dict[str, Any]:
        """As plain values, without the models."""
        found: dict[str, Any] = {"item": self.item, "name": self.name, "misfit of the true model": vars(self.of_truth)}
        for start, one in self.starts.items():
            states = {"before": one.before, "after": one.after}
            found[start] = {
                when: {"misfit": vars(state.misfit), "error_m_s": state.error_m_s, "salt_iou": state.salt_iou}
                for when, state in states.items()
            }
            found[start]["sentence"] = one.sentence
        return found

    @property
    def lines(self) -> list[str]:
        """A line for each start."""
        return [f"{self.name}, from the {start} model: {one.sentence}" for start, one in self.starts.items()]


def refine_run(
    text: str,
    items: Sequence[int],
    *,
    iterations: int = 10,
    frequencies_hz: Sequence[float] = (5.0, 10.0, 15.0),
    progress: Callable[[int, int], None] | None = None,
) -> list[Refined]:
    """Invert the gathers of test models of the study's own data, from the network's model and from a smooth one.

    The gathers stand for observed ones: they are simulated anew with a Laplacian of order 8, so that the inversion's
    own scheme does not explain them better than real data.

    Args:
        text: DIR[:ARM[:SEED]].
        items: numbers of test models.
        iterations, frequencies_hz: as `foveate.waves.refine` has them.
        progress: called with (iterations done, in all).

    Raises: ValueError, LookupError: no such run, or its task is not inversion. IndexError: no such item.
    """
    trained = find_run(text)
    data = open_data(trained.run.data)
    task = create_task(trained.run.task, data, **trained.run.task_options)
    survey = getattr(data.test, "survey", None)
    if not isinstance(task, Inversion) or not isinstance(survey, Survey):
        raise ValueError(f"{text}: wanted a run of the task inversion on seismic data; got {trained.run.task}")
    found = _predicted(trained, task, items)
    smooth = smoothed(mean_model(data.train).numpy(), CELLS)
    total, done = iterations * len(frequencies_hz) * len(items) * len(STARTS), 0
    results = []
    for item, own in zip(items, found, strict=True):
        truth = data.test.batch([item], None).targets["velocity"][0, 0].numpy()
        with torch.inference_mode():
            observed = simulate(torch.from_numpy(truth), survey.observing)
        observed = observed.clone()
        within = np.clip(own, 1500.0, survey.fastest_m_s).astype(np.float32)
        starts = {}
        for start, model in zip(STARTS, (within, smooth), strict=True):

            def tell(iteration: int, _: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + iteration, total)

            starts[start] = refine(
                model,
                observed,
                survey,
                iterations=iterations,
                frequencies_hz=frequencies_hz,
                truth=truth,
                progress=tell,
            )
            done += iterations * len(frequencies_hz)
        name = data.test.name_of(item)
        results.append(Refined(item, name, truth, data_misfit(truth, observed, survey), starts))
    return results


def _predicted(trained: TrainedRun, task: Inversion, items: Sequence[int]) -> NDArray[np.float32]:
    batch = task.data.test.batch(list(items), None)
    with torch.inference_mode():
        return task.models(main_output(trained.model(batch.inputs)))
