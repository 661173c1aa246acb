"""What every test shares; fixtures live next to the tests that use them."""

from hypothesis import settings

pytest_plugins = ["tests.support.conformance", "tests.support.stores"]

settings.register_profile("cpns", deadline=None, max_examples=100)  # a busy machine is no failure
settings.load_profile("cpns")
