"""Arms by their name on the command line: the label, or what stands before its options."""

import pytest

from foveate.spec import DataSpec, Metric, Run, Training, Variant
from foveate.store import Store
from foveate.study.folder import RESULTS
from foveate.study.trained import _find


@pytest.fixture
def study(tmp_path):
    """A folder with one finished run of each of these arms."""
    result = {
        "metrics": [{"name": "accuracy", "unit": "fraction", "better": "higher", "value": 0.5}],
        "history": [], "machine": "m", "versions": {},
    }  # fmt: skip
    store = Store(tmp_path / RESULTS)
    runs = []
    for arm in ("none", "se (identity)", "cbam (at=stage)", "cbam (at=block/2)"):
        variant = Variant.model_validate({"attention": "se", "label": arm})
        run = Run(arm=arm, copy_number=len(runs), network="foveate:resnet8", variant=variant, data=DataSpec(),
                  train=Training(), seed=0)  # fmt: skip
        runs.append(run)
    store.plan(runs)
    for run in runs:
        store.start(run.key)
        store.finish(run.key, result)
    store.set_meta("runs", [run.key for run in runs])
    store.set_meta("metrics", [Metric("accuracy").model_dump()])
    store.close()
    return tmp_path, {run.arm: run.key for run in runs}


def test_an_arm_is_found_by_its_label_or_by_what_stands_before_the_options(study):
    folder, keys = study
    for name in ("se (identity)", "se"):
        assert _find(folder, name, None).name == keys["se (identity)"]
    assert _find(folder, "none", 0).name == keys["none"]


def test_a_name_that_two_arms_begin_with_is_none(study):
    folder, _ = study
    with pytest.raises(LookupError, match="no finished run of the arm 'cbam'"):
        _find(folder, "cbam", None)
