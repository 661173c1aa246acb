"""Known hosts: who proved itself from where, kept over a restart, shared, bounded, and seldom written."""

from collections.abc import AsyncIterator

import pytest

from cpns.domain.inventory import KnownHost
from cpns.ids import EntityId
from cpns.service.hosts import DAY, KNOWN_SECONDS, KnownHosts
from cpns.store.server_store import ServerStore
from tests.support.stores import Location

GATEWAY = EntityId("gw-1")


class Time:
    seconds = 1_000_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    one = ServerStore.open(place)
    yield one
    await one.close()


async def test_a_host_is_known_for_a_week_and_over_a_restart(store: ServerStore) -> None:
    time = Time()
    hosts = KnownHosts(store, time)
    assert "192.0.2.1" not in hosts
    await hosts.proved("192.0.2.1", GATEWAY)
    again = KnownHosts(store, time)
    assert "192.0.2.1" not in again
    await again.load()
    assert "192.0.2.1" in again
    time.seconds += KNOWN_SECONDS - 1
    assert "192.0.2.1" in hosts
    time.seconds += 1
    assert "192.0.2.1" not in hosts
    later = KnownHosts(store, time)
    await later.load()
    assert "192.0.2.1" not in later


async def test_a_host_is_written_once_a_day(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    time, written = Time(), []
    hosts = KnownHosts(store, time)
    keep = store.keep_host

    async def kept(host: KnownHost, since: float, limit: int) -> None:
        written.append(host)
        await keep(host, since, limit)

    monkeypatch.setattr(store, "keep_host", kept)
    for _ in range(48):
        await hosts.proved("192.0.2.1", GATEWAY)
        time.seconds += DAY / 24
    assert len(written) == 2


async def test_the_newest_are_kept(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.service.hosts.MAX_HOSTS", 3)
    time = Time()
    hosts = KnownHosts(store, time)
    for number in range(5):
        await hosts.proved(f"192.0.2.{number}", GATEWAY)
        time.seconds += 1
    kept = [f"192.0.2.{number}" for number in (2, 3, 4)]
    assert [one.host for one in await store.known_hosts(0.0, 100)] == kept
    assert [one.host for one in await store.known_hosts(0.0, 2)] == kept[1:]
    assert [f"192.0.2.{number}" in hosts for number in range(5)] == [False, False, True, True, True]


async def test_what_is_old_is_dropped(store: ServerStore) -> None:
    time = Time()
    hosts = KnownHosts(store, time)
    await hosts.proved("192.0.2.1", GATEWAY)
    time.seconds += KNOWN_SECONDS + 1
    await hosts.proved("192.0.2.2", GATEWAY)
    assert [one.host for one in await store.known_hosts(0.0, 100)] == ["192.0.2.2"]


async def test_one_entity_does_not_fill_the_list(store: ServerStore) -> None:
    hosts = KnownHosts(store, Time())
    for number in range(100):
        await hosts.proved(f"192.0.2.{number}", GATEWAY)
    assert len(await store.known_hosts(0.0, 1000)) == 16
    await hosts.proved("198.51.100.1", EntityId("gw-2"))
    assert "198.51.100.1" in hosts
