"""A study that adds seeds by itself, under a rule that looking does not break."""

from pathlib import Path

import pytest
from in_process import run, small

from foveate.spec import Study
from foveate.store import Store
from foveate.study import Watcher
from foveate.study.ledger import read_ledger, remember_look, remember_plan
from foveate.study.run import with_seeds_added_before
from foveate.study_file import read_study, study_toml
from foveate.summary import Arm, Claim, Ledger, Look, Score, Setting

ARMS = [Arm("none", "plain"), Arm("se", "attention")]


def test_seeds_are_the_smallest_that_are_not_there() -> None:
    assert Study(seeds=(1, 5)).with_seeds(5).seeds == (1, 5, 0, 2, 3)
    assert Study(seeds=(1, 5)).with_seeds(2).seeds == (1, 5)


def test_a_study_goes_on_with_the_seeds_that_its_folder_has(tmp_path: Path) -> None:
    study = Study(seeds=3, until="decided", max_seeds=10)
    store = Store(tmp_path / "results.db")
    try:
        remember_plan(store, study, ARMS, most=study.max_seeds)
        remember_look(store, study)
        remember_plan(store, study.with_seeds(5), ARMS, most=study.max_seeds)
        assert with_seeds_added_before(study, store).seeds == (0, 1, 2, 3, 4)
        assert with_seeds_added_before(Study(seeds=3), store).seeds == (0, 1, 2)
        assert read_ledger(store).most == 10
    finally:
        store.close()


def test_the_rule_is_part_of_the_file(tmp_path: Path) -> None:
    study, path = Study(seeds=3, until="decided", max_seeds=8), tmp_path / "study.toml"
    path.write_text(study_toml(study))
    assert read_study(path) == study


def test_the_answer_says_what_looking_costs() -> None:
    from foveate.spec import Metric
    from foveate.study.analyse import analyse

    def looks(seeds: int, ledger: Ledger | None) -> str:
        rows = [Score(arm.label, seed, "accuracy", 0.8 + 0.01 * seed) for arm in ARMS for seed in range(seeds)]
        setting = Setting(seeds=tuple(range(seeds)))
        return analyse(setting, [Metric("accuracy")], ARMS, rows, ledger=ledger).answer.looks

    claims = (Claim("se").name,)
    assert looks(3, None) == ""
    assert looks(5, Ledger(claims, most=20)) == (
        "Seeds are added under a rule that declared at most 20 seeds before the first look, judged at 5 seeds: this "
        "look may spend 6 % of the error rate of 0.05, all looks together no more than all of it."
    )
    assert looks(8, Ledger(claims, looks=(Look(5, 1),), most=20)).startswith(
        "Seeds were added under a rule that declared at most 20 seeds before the first look, judged at 5 and 8 seeds: "
        "this look may spend 9 %"
    )
    assert looks(8, Ledger(claims, looks=(Look(5, 1),))).startswith(
        "Seeds or claims were added after looking, judged at 5 and 8 seeds: this look may spend 10 %"
    )


@pytest.mark.slow
def test_seeds_are_added_up_to_the_budget_also_after_a_kill(tmp_path: Path) -> None:
    class Killed(Watcher):
        def started(self, run: object, attempt: int) -> None:
            if run.seed == 4:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    study = small("se", seeds=3, until="decided", max_seeds=6, matters=0.001)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path, watcher=Killed())
    assert read_study(tmp_path / "study.toml").seeds == (0, 1, 2, 3, 4)
    summary = run(study, tmp_path)
    assert summary.setting.seeds == (0, 1, 2, 3, 4, 5)
    assert summary.look == 3
    assert "at most 6 seeds before the first look, judged at 3, 5 and 6 seeds" in summary.answer.looks
    again = run(study, tmp_path)
    assert (again.look, again.weight) == (3, summary.weight)
