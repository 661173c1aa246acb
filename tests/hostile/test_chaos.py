"""kill -9 of each process of a server, of PostgreSQL and of NATS, under load: see `tests.support.chaos`."""

import random
from pathlib import Path

import pytest

from tests.support import chaos


@pytest.mark.long
@pytest.mark.req("SES-1", "DEF-1", "FN-1")
@pytest.mark.parametrize(("what", "count"), [("PostgreSQL", 1), ("NATS", 1), ("process", chaos.PROCESSES)])
async def test_each_is_killed_once_and_nothing_is_lost(tmp_path: Path, what: str, count: int) -> None:
    """By itself; `make chaos` has them die one after the other."""
    told = await chaos.run(tmp_path, 0.0, random.Random(3), what=what)
    chaos.check(told)
    assert len(told.recoveries) == count
