"""What is kept for a time, over a clock that jumps, on both databases."""

import logging
from collections.abc import AsyncIterator

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.event import KEPT_SECONDS
from cpns.domain.inventory import KeptPush, Outcome
from cpns.errors import Gone, Result, StoreFails
from cpns.service import kept
from cpns.service.kept import Kept
from cpns.store import feed
from cpns.store.server_store import ServerStore
from tests.support.stores import Location
from tests.unit.test_store import new, pne

HOUR = 3600.0


class Clock:
    """Goes on as it is told, and jumps."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 50.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def wait(self, seconds: float, jump: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + jump


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    store = ServerStore.open(place)
    await store.add_entities([new(pne(1))], OPERATOR)
    yield store
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def keep(store: ServerStore, clock: Clock, seconds: float) -> None:
    push = KeptPush(0, bytes(8), pne(1), f"for {seconds:g} s", clock.now(), clock.now() + seconds)
    await store.keep_push(push, OPERATOR)


async def waiting(store: ServerStore, clock: Clock) -> list[str]:
    return [one.text for one in await store.pushes_for(pne(1), clock.now())]


async def test_a_jump_and_back_loses_no_text_and_is_said(
    store: ServerStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    looks = Kept(store, clock)
    for seconds in (100.0, 2 * HOUR):
        await keep(store, clock, seconds)
    clock.wait(1, jump=HOUR + 1)
    assert await looks.sweep() is False
    (line,) = [one.getMessage() for one in caplog.records]
    assert line == "the clock went ahead by 60 min at once: 1 texts that would be over by that are kept so much longer"
    assert await waiting(store, clock) == ["for 100 s", "for 7200 s"]
    clock.wait(kept.EXPIRY_SECONDS)
    await looks.sweep()
    clock.wait(1, jump=-HOUR - 1)
    await looks.sweep()
    assert await waiting(store, clock) == ["for 100 s", "for 7200 s"]
    assert len(caplog.records) == 1


async def test_after_a_jump_that_stays_it_ends_when_its_time_is_over(store: ServerStore, clock: Clock) -> None:
    looks = Kept(store, clock)
    await keep(store, clock, 100.0)
    clock.wait(1, jump=20 * 365 * 24 * HOUR)  # a machine without a battery
    await looks.sweep()
    clock.wait(98)
    await looks.sweep()
    assert await waiting(store, clock) == ["for 100 s"]
    clock.wait(2)
    assert await waiting(store, clock) == []
    clock.wait(kept.EXPIRY_SECONDS)
    await looks.sweep()
    assert await store.awaited() == []


async def test_what_else_ends_by_the_clock_ends_an_hour_later(store: ServerStore, clock: Clock) -> None:
    looks = Kept(store, clock)
    assert await looks.sweep() is True
    clock.wait(1, jump=HOUR + 1)
    assert await looks.sweep() is False
    clock.wait(HOUR - 1)
    assert await looks.sweep() is False
    clock.wait(1)
    assert await looks.sweep() is True


@pytest.mark.parametrize(("seconds", "jump"), [(10.0, HOUR - 1), (10 * HOUR, 0.0), (5.0, -10 * HOUR)])
async def test_what_is_no_jump_ends_things_as_it_should(
    store: ServerStore, clock: Clock, seconds: float, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock that is set right by less, a look that comes late, and a clock that goes back."""
    looks = Kept(store, clock)
    clock.wait(seconds, jump)
    assert await looks.sweep() is True
    await keep(store, clock, 1.0)
    clock.wait(kept.EXPIRY_SECONDS)
    assert await looks.sweep() is True
    assert await store.awaited() == []
    assert not caplog.records


async def test_a_jump_while_the_store_fails_is_seen_when_it_works(
    store: ServerStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    looks = Kept(store, clock)
    await keep(store, clock, 100.0)
    clock.wait(1, jump=HOUR + 1)
    with monkeypatch.context() as failing:

        async def fails(before: float, after: float) -> int:
            raise StoreFails("the disk is full", away=False)

        failing.setattr(store, "spare_kept", fails)
        with pytest.raises(StoreFails):
            await looks.sweep()
    clock.wait(2)
    await looks.sweep()
    assert await waiting(store, clock) == ["for 100 s"]


async def test_one_look_drops_all_events_that_are_old_part_by_part(
    store: ServerStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: else more than one part a minute would grow without end."""
    monkeypatch.setattr(feed, "DROPPED_AT_ONCE", 2)
    old = Outcome(clock.now() - KEPT_SECONDS - 1, "settled", pne(1), OPERATOR, Result.SUCCESS)
    await store.record([old] * 7)
    looks = Kept(store, clock)
    clock.wait(kept.EXPIRY_SECONDS)
    await looks.sweep()
    newest = await store.last_event()
    assert await store.events(newest, 9) == []
    with pytest.raises(Gone):
        await store.events(newest - 1, 9)
