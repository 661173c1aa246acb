"""Over a store that several processes share, the store's clock counts where that of a machine is off."""

from dataclasses import dataclass

import pytest

from cpns.domain.process import FORGOTTEN_SECONDS, GONE_SECONDS, Process
from cpns.service.system import StoreClock
from cpns.store import process_queries
from cpns.store.server_store import ServerStore
from tests.support.stores import Location


@dataclass
class Machine:
    """A clock that a test sets."""

    at: float = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@pytest.mark.parametrize("off", [-3600.0, -60.0, 60.0, 3600.0])
def test_a_clock_that_is_off_is_put_right(off: float) -> None:
    machine = Machine()
    clock = StoreClock(machine)
    clock.compare(1000.0, 1000.0 - off, 1000.01)
    assert clock.ahead == pytest.approx(off, abs=0.02)
    assert clock.now() == pytest.approx(1000.0 - off, abs=0.02)
    assert clock.of_machine() == clock.monotonic() == 1000.0
    clock.compare(1005.0, 1005.0, 1005.01)  # somebody has set it
    assert clock.now() == 1000.0


@pytest.mark.parametrize("took", [0.0, 2.0, 30.0])
def test_a_store_that_answers_late_makes_no_clock_wrong(took: float) -> None:
    """The store's time is from any moment between question and answer."""
    for part in (0.0, 0.5, 1.0):
        clock = StoreClock(Machine())
        clock.compare(1000.0, 1000.0 + part * took, 1000.0 + took)
        assert clock.ahead == 0.0


def test_a_small_difference_is_left_alone() -> None:
    clock = StoreClock(Machine())
    clock.compare(1000.0, 999.5, 1000.0)
    assert clock.ahead == pytest.approx(0.5)
    assert clock.now() == 1000.0


async def test_who_died_before_the_clock_of_the_store_went_back_is_not_there_till_then(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10_000.0
    monkeypatch.setattr(process_queries, "time_of", lambda connection: now)
    store = ServerStore.open(place)
    died, lives = (Process(name * 16, "one", 1, "here:1", None, now) for name in "dl")
    await store.is_there(died)
    await store.is_there(lives)

    now -= 3600.0
    _, there = await store.is_there(lives)
    assert {one.seen_at for one in there} == {now}
    now += GONE_SECONDS
    _, there = await store.is_there(lives)
    assert {one.process_id: one.is_there(now) for one in there} == {died.process_id: False, lives.process_id: True}
    now += FORGOTTEN_SECONDS
    _, there = await store.is_there(lives)
    assert [one.process_id for one in there] == [lives.process_id]
    await store.close()
