"""One test again and again, beside processes that keep the cores busy: what fails once in many fails here.

``python -m tests.support.repeat TEST [--times N] [--busy N]``; TEST is named as for pytest.
"""

import argparse
import multiprocessing
import sys

import pytest


class Repeat:
    """Has each test run so many times, one after the other, in one process."""

    def __init__(self, times: int) -> None:
        self._times = times

    @pytest.fixture
    def repetition(self) -> None:
        """Which of them it is, in the test's name."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(self._times), indirect=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say at once why one failed: the others take long."""
        if report.failed:
            print(f"\n{report.nodeid}\n{report.longreprtext}", flush=True)


def busy() -> None:
    while True:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--busy", type=int, default=2, help="processes beside it")
    given = parser.parse_args()
    beside = [multiprocessing.Process(target=busy, daemon=True) for _ in range(given.busy)]
    for one in beside:
        one.start()
    try:
        return int(pytest.main([given.test, "-q", "-p", "no:xdist"], plugins=[Repeat(given.times)]))
    finally:
        for one in beside:
            one.kill()


if __name__ == "__main__":
    sys.exit(main())
