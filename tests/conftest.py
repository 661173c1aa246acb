"""What every test shares; fixtures live next to the tests that use them."""

import pytest
from hypothesis import HealthCheck, settings

from cpns.service.system import settle_collector
from tests.support.soak import SOAK

pytest_plugins = ["tests.support.conformance", "tests.support.stores", "tests.support.virtual_time"]

settings.register_profile(
    "cpns",
    max_examples=100,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not SOAK,  # the same examples each time, and others in `make soak`
)
settings.load_profile("cpns")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: there is no garbage in it."""
    settle_collector()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none of them runs on alone when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
