"""What the tests of the functions share."""

from collections.abc import Iterator

import pytest

from tests.lambdas.world import World, a_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "import")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "fastscp")
    with a_world() as made:
        yield made
