"""kill -9 of each process of a server, of PostgreSQL and of NATS, under load: see `tests.support.chaos`."""

import random
from pathlib import Path

import pytest

from tests.support import chaos


@pytest.mark.long
@pytest.mark.req("SES-1", "DEF-1", "FN-1")
async def test_each_is_killed_once_and_nothing_is_lost(tmp_path: Path) -> None:
    told = await chaos.run(tmp_path, 0.0, random.Random(3))
    chaos.check(told)
    assert len(told.recoveries) == chaos.PROCESSES + 2
