"""The siege in short: under each attack newcomers still come in, and established devices go on.

``make siege`` measures how fast; here is shown that it comes about at all, on whatever machine runs the tests.
"""

from pathlib import Path

import pytest

from tests.support.siege import uniform
from tests.support.siege.measure import HOME, NEXT_DOOR, Siege, worst
from tests.support.siege.rows import rows
from tests.support.siege.site import besieged

SECONDS = 2.0
PATIENCE = 40.0
ATTACKS = [
    "uplink: activate of new IDs, 100/s, one port",
    "uplink: activate of new IDs, 1000/s, 200 hosts",
    "PAN: setup of one ID, 100/s, 1,000 ports",
    "PAN: activate of one ID, 1000/s, one port",
    "gateway: SETUP of 64, never answered, 60/s",
]


@pytest.mark.long
async def test_newcomers_come_in_and_the_others_go_on(tmp_path: Path) -> None:
    async with besieged(tmp_path, 40 * len(ATTACKS)) as site:
        siege = Siege(site)
        for row in (one for one in rows() if one.title in ATTACKS):
            noticed = await siege.measure(row.attacks(site, SECONDS + PATIENCE), SECONDS, PATIENCE)
            for newcomers in (noticed.elsewhere, noticed.here, noticed.gateways, noticed.slow):
                assert worst(newcomers) < PATIENCE, row.title
            assert len(noticed.readings[HOME]) > 3, row.title
            assert len(noticed.readings[NEXT_DOOR]) > 3, row.title


async def test_refusals_are_compared_by_their_time() -> None:
    """Each kind with each other, after M1 and after M3; how well they can be told apart is for `make siege` to say."""
    found = await uniform.measure(3)
    assert len(found) == 3 * 2 + 6 * 2 + 3
    assert all(0.0 <= auc <= 1.0 for _, _, auc in found)


def test_the_attacks_are_rows_of_the_table() -> None:
    assert {one.title for one in rows()} >= set(ATTACKS)
