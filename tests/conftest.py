"""What every test shares; fixtures live next to the tests that use them."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.conformance", "tests.support.stores"]

settings.register_profile(
    "cpns",
    max_examples=100,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CPNS_SOAK" not in os.environ,  # the same examples each time, and others in `make soak`
)
settings.load_profile("cpns")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none of them runs on alone when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
