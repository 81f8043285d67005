"""Every study in studies/ can be planned as it stands, and run at its smallest."""

from pathlib import Path

import pytest
import torch

from foveate.data import open_data
from foveate.report import write_report
from foveate.spec import EMBEDDED, Study
from foveate.study import check_names, run_study
from foveate.study.plan import make_plan
from foveate.study_file import read_study
from foveate.tasks import create_task

FILES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
LARGE = {  # whose networks alone take seconds to build
    "cbam_table4", "cbam_table5", "corruption_robustness", "nonlocal_images", "se_position", "shufflenet_groups",
}  # fmt: skip
SEARCHED = "advise_digits"  # by foveate advise, which chooses the variants
CALLED = {"tgs_salt": "seg_salt_tgs"}  # the folder of a study's data → what it is called among the shared data
WEIGHTS = "cifar10_resnet20-12fca82f.th"
ON_PAGE = {"sa_groups": ("+336 (", "+168 (", "+84 (", "+42 (")}  # 3C/G parameters, over blocks of C = 16, 32 and 64
SMALLEST = {"seeds": (0,), "control": "none", "controls": (), "compare": (), "until": None, "max_seeds": None}


def smallest(study: Study) -> Study:
    """One seed, one epoch, few items, no control."""
    data = study.data.model_copy(update={"train_items": 40, "test_items": 20})
    train = study.train.model_copy(update={"epochs": 1, "batch_size": min(8, study.train.batch_size)})
    robustness = study.robustness and study.robustness.model_copy(update={"items": 4, "severities": (1,)})
    return study.model_copy(update=SMALLEST | {"data": data, "train": train, "robustness": robustness})


def with_data(study: Study, shared: Path, folder: Path) -> Study:
    """The study with its data and weights where they are; skips where they are not."""
    update: dict[str, object] = {}
    if study.data.source != EMBEDDED:
        name = Path(study.data.source).name
        source = shared / "data" / CALLED.get(name, name)
        if not source.is_dir():
            pytest.skip(f"needs {name}")
        update["data"] = study.data.model_copy(update={"source": str(source)})
    if study.weights is not None:
        state = torch.load(shared / "data" / "weights" / WEIGHTS, "cpu", weights_only=True)["state_dict"]
        weights = str(folder / "resnet20.pt")
        torch.save({name.removeprefix("module.").replace("linear.", "fc."): of for name, of in state.items()}, weights)
        taught = [v.distill and v.distill.model_copy(update={"weights": weights}) for v in study.variants]
        variants = zip(study.variants, taught, strict=True)
        update |= {"weights": weights, "variants": tuple(v.model_copy(update={"distill": d}) for v, d in variants)}
    return study.model_copy(update=update)


@pytest.mark.parametrize(
    "file", [pytest.param(one, marks=pytest.mark.slow if one.stem in LARGE else (), id=one.stem) for one in FILES]
)
def test_names_options_and_sites_of_a_study_resolve(file: Path) -> None:
    study = read_study(file)
    if study.task != "classification" or study.data.source != EMBEDDED:
        pytest.skip("planned by the test that runs it")
    study = smallest(check_names(study, file=file))
    data = open_data(study.data)
    plan = make_plan(study, data, create_task(study.task, data, **study.task_options))
    assert [arm.label for arm in plan.arms] == [variant.name for variant in study.variants]


@pytest.mark.slow
@pytest.mark.parametrize("file", [one for one in FILES if one.stem != SEARCHED], ids=lambda file: file.stem)
def test_a_study_runs_at_its_smallest(file: Path, shared: Path, tmp_path: Path) -> None:
    study = with_data(smallest(read_study(file)), shared, tmp_path)
    summary = run_study(check_names(study, file=file), tmp_path / "study", jobs=1)
    assert summary.failed == ()
    assert all(arm.score for arm in summary.arms)
    page = write_report(summary, tmp_path / "report").read_text(encoding="utf-8")
    assert [words for words in ON_PAGE.get(file.stem, ()) if words not in page] == []
