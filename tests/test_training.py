"""Lists of values in [train]: read, written, tried in every combination, refused where there is no choice."""

import pytest

from foveate.spec import Study, Training
from foveate.study_file import check_study, read_study, study_toml


def test_every_combination_is_one_training():
    spec = Training.model_validate({"lr": [0.1, 0.01], "optimizer": ["sgd", "adamw"], "epochs": 3})
    assert spec.listed == ("optimizer", "lr"), "in the order of the fields"
    assert (spec.lr, spec.optimizer) == (0.1, "sgd"), "where one is needed it is the first"
    assert [tuple(one.values()) for one in spec.each()] == [
        ("sgd", 0.1), ("sgd", 0.01), ("adamw", 0.1), ("adamw", 0.01),
    ]  # fmt: skip
    last = spec.single(spec.each()[-1])
    assert last == Training(lr=0.01, optimizer="adamw", epochs=3)
    assert (last.listed, last.each()) == ((), ({},))


def test_a_study_with_lists_reads_back_the_same(tmp_path):
    study = check_study({"train": {"weight_decay": [0, 1e-3], "batch_size": [16, 32]}})
    (tmp_path / "study.toml").write_text(study_toml(study))
    again = read_study(tmp_path / "study.toml")
    assert again == study
    assert again.train.each() == study.train.each()
    assert study.model_dump(mode="json")["train"]["batch_size"] == [16, 32]
    assert study != Study(train=Training(weight_decay=0, batch_size=16))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"lr": []}, "train.lr: wanted a value, or a list of 2 or more to choose from; got []"),
        ({"lr": [0.1]}, "train.lr: wanted a value, or a list of 2 or more to choose from; got [0.1]"),
        ({"lr": [0.1, 0.2, 0.1]}, "train.lr: wanted different values; got 0.1 twice"),
        ({"lr": [1, 1.0]}, "train.lr: wanted different values; got 1.0 twice"),
        ({"lr": [0.1, -1]}, "train.lr: wanted greater than 0; got -1"),
        ({"lr": [[0.1], 0.2]}, "train.lr: wanted a valid number"),
        ({"lr": [0.1, "{x}"]}, "train.lr: wanted a valid number"),
        ({"device": ["cpu", "cuda"]}, "train.device: wanted one value for all runs, as it belongs to the machine"),
        ({"threads": [1, 2]}, "train.threads: wanted one value for all runs"),
        ({"lrs": [0.1, 0.2]}, "unknown key 'train.lrs'; did you mean 'lr'?"),
        ({"epochs": list(range(1, 66))}, "train.epochs: wanted at most 64 combinations of epochs; got 65"),
        (
            {"lr": [0.1, 0.2, 0.3], "epochs": list(range(1, 23))},
            "train.lr: wanted at most 64 combinations of epochs × lr; got 66",
        ),
    ],
)
def test_a_list_that_is_no_choice_is_refused(train, message):
    with pytest.raises(ValueError) as caught:
        check_study({"train": train})
    assert message in str(caught.value)
