"""What every test shares; fixtures live next to the tests that use them."""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.support.conformance", "tests.support.stores"]

settings.register_profile("cpns", deadline=None, max_examples=100)  # a busy machine is no failure
settings.load_profile("cpns")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that none of them runs on alone when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
