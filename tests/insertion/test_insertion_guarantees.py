"""The guarantees of insertion, as benchmarks/insertion.py measures them: on a dozen networks, and on all (slow)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from guarantee_networks import networks
from guarantee_samples import NOT_FOR, SAMPLE, WIDE, cases, mechanism_starts_as_identity, parallel, quantised
from guarantees import measure

from foveate.attention import list_attention

CASES = list(networks())
MECHANISMS = ("se", "cbam", "nl")
DOZEN = ("resnet10t", "mobilenetv3_small_050", "convnext_atto", "regnety_002", "repghostnet_050", "lcnet_035",
         "squeezenet1_1", "Residual", "Signal", "Volume", "Encoder", "Joined", "Straight")  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore")  # of networks that are not ours


def all_hold(case, mechanism):
    count, _, holds = measure(case, mechanism)
    assert count > 0
    assert {name: verdict for name, verdict in holds.items() if verdict not in (True, None)} == {}
    return {name for name, verdict in holds.items() if verdict is None}


@pytest.mark.parametrize(("index", "name"), list(enumerate(DOZEN)), ids=DOZEN)
def test_a_dozen(index, name):
    (case,), mechanism = cases((name,)), MECHANISMS[index % 3]
    without = set() if case.family == "timm" and mechanism == "se" else {"features"}
    without |= set() if case.family == "timm" else {"checkpointing"}
    without |= set() if case.example().dim() == 4 else {"channels_last"}
    assert all_hold(case, mechanism) == without


def test_there_are_enough_of_each_family():
    families = [case.family for case in CASES]
    assert families.count("timm") >= 60
    assert families.count("torchvision") >= 15
    assert families.count("hand-written") >= 5


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.name}")
def test_every_network(case, mechanism):
    all_hold(case, mechanism)


@pytest.mark.parametrize("name", WIDE)
def test_every_mechanism_starts_as_the_identity(name):
    verdicts = {m: mechanism_starts_as_identity(*cases((name,)), m) for m in list_attention()}
    assert verdicts == {m: None if name in NOT_FOR.get(m, {}) else True for m in list_attention()}


@pytest.mark.slow
def test_two_processes_and_quantisation():
    assert all(verdict is True for verdict in parallel(SAMPLE, MECHANISMS).values())
    assert quantised(*cases(("resnet10t",)), "se") is True
