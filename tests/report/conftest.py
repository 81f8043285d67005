"""The studies of `report_studies`, as fixtures."""

import pytest
from report_studies import STUDIES, make_summary

from foveate.summary import Summary


@pytest.fixture(scope="session", params=STUDIES)
def summary(request: pytest.FixtureRequest) -> Summary:
    return make_summary(**STUDIES[request.param])


@pytest.fixture(scope="session")
def usual() -> Summary:
    return make_summary(**STUDIES["three seeds"])


@pytest.fixture(scope="session")
def hostile() -> Summary:
    return make_summary(**STUDIES["hostile"])
