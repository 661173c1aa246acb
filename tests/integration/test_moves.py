"""Each way in which a device, its network and its gateway can have moved while one of them was off."""

from pathlib import Path

import pytest

from tests.support.moves import HUBS, Neighbours, Off, Walk, rows
from tests.support.world import world

TABLES = [(off, hub) for off in Off for hub in HUBS if list(rows(off, hub))]


@pytest.fixture(autouse=True)
def small_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.pne.staying.BACKOFF", (0.05, 0.3))
    monkeypatch.setattr("cpns.pne.roam.PAUSE", (0.05, 0.1))
    monkeypatch.setattr("cpns.gateway.uplink.BACKOFF", (0.02, 0.2))
    monkeypatch.setattr("cpns.gateway.networks.NOTICE_SECONDS", 0.02)


def test_the_table_is_whole() -> None:
    """Its size is printed, and is no less than it was."""
    count = sum(len(list(rows(off, hub))) for off, hub in TABLES)
    print(f"{count} rows in {len(TABLES)} worlds")
    assert count >= 580


@pytest.mark.soak
@pytest.mark.req("FN-8", "DEF-3")
@pytest.mark.parametrize(("off", "hub"), TABLES, ids=[f"{o.name}-{h.networks}-{h.policy}" for o, h in TABLES])
async def test_a_device_ends_where_the_model_has_it(tmp_path: Path, off: Off, hub: Neighbours) -> None:
    async with world(tmp_path) as here:
        await Walk(here, off, hub).run()
