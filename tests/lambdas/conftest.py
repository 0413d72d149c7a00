"""What the tests of the functions share."""

import os
from collections.abc import Iterator

import pytest

# Powertools reads them when its objects are made, which is when the functions are imported.
os.environ["POWERTOOLS_SERVICE_NAME"] = "import"
os.environ["POWERTOOLS_METRICS_NAMESPACE"] = "fastscp"

from tests.lambdas.world import World, a_world


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made
