"""An executor of another kind: one job after another in this process; and small studies for it."""

from pathlib import Path
from unittest import mock

import torch

from foveate.files import write_json
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study import run_study
from foveate.study.executor import WorkerResult
from foveate.study.local import FILE_OF
from foveate.study.worker import lasting_error, perform


class InProcess:
    """An `Executor`."""

    measures_costs = False

    def prepare(self, study):
        return 1

    def __init__(self, folder, jobs=1):
        self.folder = Path(folder)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def finished(self, key):
        return None

    def work(self, take, tell):
        while (job := take()) is not None:
            place = self.folder / "runs" / job.key
            place.mkdir(parents=True, exist_ok=True)
            write_json(place / FILE_OF[job.kind], job.content)

            def report(step, steps, loss, key=job.key):
                tell(key, {"step": step, "steps": steps, "loss": loss})

            threads = torch.get_num_threads()
            try:
                result = perform(place, report)
            except Exception as error:
                yield WorkerResult(job.key, error=lasting_error(error), crash=repr(error))
                continue
            finally:
                torch.set_num_threads(threads)
            write_json(place / "result.json", result)
            yield WorkerResult(job.key, result=result)

    def wait_for_machines(self):
        return False

    def clear(self, key):
        pass


def small(*variants, seeds=1, items=60, epochs=1, size=None, **changes):
    """A study of seconds on the embedded set."""
    values = {
        "variants": tuple(Variant.model_validate(one) for one in ("none", *variants)),
        "seeds": tuple(range(seeds)),
        "data": DataSpec(train_items=items, test_items=40, size=size),
        "train": Training(epochs=epochs, batch_size=20, optimizer="adamw", lr=0.005),
        "control": "none",
    }
    return Study(**(values | changes))


def run(study, folder, **options):
    """The study in this process, costs as well."""
    with mock.patch("foveate.study.measured_costs.LocalProcesses", InProcess):
        return run_study(study, folder, executor=InProcess, **options)
