"""What a study folder remembers of its past: every claim and seed ever planned, and every time it was judged.

Kept in the store's meta under "ledger", written by the coordinator. An older folder has none: it starts now.
"""

import dataclasses
from collections.abc import Sequence

from foveate.spec import Study
from foveate.store import Store
from foveate.study.analyse.claims import default_claims
from foveate.summary import Arm, Claim, Ledger, Look, to_json

LEDGER = "ledger"


def read_ledger(store: Store) -> Ledger:
    """The ledger of a folder; an empty one where nothing was planned yet."""
    kept = store.get_meta(LEDGER)
    if kept is None:
        return Ledger()
    looks = tuple(Look(**look) for look in kept["looks"])
    return Ledger(tuple(kept["claims"]), tuple(kept["seeds"]), looks, kept["most"])


def remember_plan(store: Store, study: Study, arms: Sequence[Arm], most: int | None = None) -> None:
    """Add what is planned now to what was planned ever.

    most: the most seeds that the study may take; counted where it is declared before the first look.
    """
    before = read_ledger(store)
    claims = dict.fromkeys([*before.claims, *claims_of(study, arms)])
    seeds = dict.fromkeys([*before.seeds, *study.seeds])
    most = before.most if before.looks or most is None else most
    _write(store, dataclasses.replace(before, claims=tuple(claims), seeds=tuple(seeds), most=most))


def remember_look(store: Store, study: Study) -> None:
    """A study whose runs are all done or failed is judged now; the same state again is no new look."""
    before = read_ledger(store)
    now = Look(len(study.seeds), len(before.claims))
    if now not in before.looks:
        _write(store, dataclasses.replace(before, looks=(*before.looks, now)))


def union(first: Ledger, second: Ledger) -> Ledger:
    """What two folders of one study remember together."""
    return Ledger(
        tuple(dict.fromkeys([*first.claims, *second.claims])),
        tuple(dict.fromkeys([*first.seeds, *second.seeds])),
        tuple(dict.fromkeys([*first.looks, *second.looks])),
        max((most for most in (first.most, second.most) if most is not None), default=None),
    )


def claims_of(study: Study, arms: Sequence[Arm]) -> list[str]:
    """Names of the study's claims, as `foveate.summary.Claim.name` writes them."""
    named = [Claim(one.arm, one.against, one.metric) for one in study.compare]
    return [claim.name for claim in named or default_claims(arms)]


def _write(store: Store, ledger: Ledger) -> None:
    store.set_meta(LEDGER, to_json(ledger))
