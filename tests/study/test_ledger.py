"""What a study folder remembers: every claim and seed ever planned, and each time it was judged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from foveate.spec import Compared, Study, Variant
from foveate.store import Store
from foveate.study.ledger import claims_of, read_ledger, remember_look, remember_plan
from foveate.study_file import read_study, study_toml
from foveate.summary import Arm, Ledger, Look

ARMS = [Arm("none", "plain"), Arm("se", "attention"), Arm("eca", "attention"), Arm("wide", "control", matches=("se",))]
STUDY = Study(variants=(Variant.model_validate("se"), Variant.model_validate("eca")), seeds=(0, 1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "results.db")
    yield opened
    opened.close()


def test_an_older_folder_starts_its_ledger_now(store: Store) -> None:
    assert read_ledger(store) == Ledger()


def test_what_was_planned_stays_when_it_is_dropped(store: Store) -> None:
    remember_plan(store, STUDY, ARMS)
    remember_plan(store, STUDY.model_copy(update={"seeds": (0, 5)}), ARMS[:2])
    found = read_ledger(store)
    assert found.claims == ("se against plain", "eca against plain", "se against control")
    assert found.seeds == (0, 1, 2, 5)


def test_each_state_is_one_look(store: Store) -> None:
    remember_plan(store, STUDY, ARMS, most=10)
    remember_look(store, STUDY)
    remember_look(store, STUDY)
    more = STUDY.model_copy(update={"seeds": (0, 1, 2, 3, 4)})
    remember_plan(store, more, ARMS, most=99)  # too late: the first look is past
    remember_look(store, more)
    found = read_ledger(store)
    assert found.looks == (Look(3, 3), Look(5, 3))
    assert found.most == 10


def test_named_comparisons_are_the_claims() -> None:
    named = STUDY.model_copy(update={"compare": (Compared(arm="se", against="eca", metric="loss"),)})
    assert claims_of(named, ARMS) == ["se against eca in loss"]


def test_a_studys_file_holds_what_matters_and_what_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('matters = 0.3\n[[variants]]\nattention = "se"\n[[compare]]\narm = "se"\nagainst = "control"\n')
    study = read_study(path)
    assert (study.matters, study.compare) == (0.3, (Compared(arm="se", against="control"),))
    path.write_text(study_toml(study))
    assert read_study(path) == study


def test_the_documents_study_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")
    path = tmp_path / "study.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0])
    study = read_study(path)
    assert (study.matters, len(study.seeds)) == (0.3, 8)
    assert [(one.arm, one.against) for one in study.compare] == [("se", "control"), ("se", "eca")]
