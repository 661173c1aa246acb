"""The form of a state machine's table, who follows one, and how it is drawn."""

import asyncio
from dataclasses import dataclass

import pytest

from cpns.machine import Transitions, leaves, on, stays
from cpns.service.life import Life, within
from tests.support import drawings
from tests.support.virtual import VirtualTime


@dataclass(frozen=True)
class Door:
    """A door."""


@dataclass(frozen=True)
class Shut(Door):
    """It is shut."""


@dataclass(frozen=True)
class Closed(Shut):
    """Anybody may open it."""


@dataclass(frozen=True)
class Locked(Shut):
    """Whoever has the key may."""

    key: str


@dataclass(frozen=True)
class Open(Door):
    """It is open."""


@dataclass(frozen=True)
class Pushed:
    """Somebody pushes."""


@dataclass(frozen=True)
class KeyTurned:
    """Somebody turns a key in it."""

    key: str


Event = Pushed | KeyTurned

TABLE: Transitions[Door, Event] = Transitions(
    Door,
    stays(Locked, Pushed),
    on(Shut, Pushed, Open, lambda _, __: Open()),
    on(Open, Pushed, Closed, lambda _, __: Closed()),
    on(Closed, KeyTurned, Locked, lambda _, event: Locked(event.key)),
    on(Locked, KeyTurned, Closed, lambda state, event: Closed() if state.key == event.key else None),
)


def test_a_table_says_where_an_event_leads() -> None:
    assert TABLE.after(Closed(), Pushed()) == Open()
    assert TABLE.after(Closed(), KeyTurned("a")) == Locked("a")
    assert TABLE.after(Locked("a"), KeyTurned("a")) == Closed()
    assert TABLE.states == leaves(Door) == (Closed, Locked, Open)
    assert set(TABLE.events) == {Pushed, KeyTurned}


def test_what_is_not_in_it_changes_nothing() -> None:
    assert TABLE.after(Open(), KeyTurned("a")) is None
    assert TABLE.after(Locked("a"), KeyTurned("b")) is None  # it is, and this one does not fit


def test_a_row_for_a_state_goes_before_one_for_its_group() -> None:
    assert TABLE.after(Locked("a"), Pushed()) == Locked("a")


def test_a_row_that_is_never_used_is_found() -> None:
    with pytest.raises(TypeError, match="Closed, Pushed"):
        Transitions(
            Door,
            on(Shut, Pushed, Open, lambda _, __: Open()),
            on(Closed, Pushed, Locked, lambda _, __: Locked("a")),
        )


def test_it_is_drawn_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drawings.MACHINES, "door", TABLE)
    assert [line.strip() for line in drawings.drawing("door")] == [
        *("```mermaid", "stateDiagram-v2", "[*] --> Closed"),
        *("Closed --> Open : pushed", "Open --> Closed : pushed"),
        *("Closed --> Locked : key turned", "Locked --> Closed : key turned", "```", ""),
        *("| state | |", "|---|---|"),
        *("| closed | Anybody may open it. |", "| locked | Whoever has the key may. |", "| open | It is open. |"),
        *("", "| event | |", "|---|---|"),
        *("| pushed | Somebody pushes. |", "| key turned | Somebody turns a key in it. |"),
    ]


async def test_a_life_follows_it_and_tells() -> None:
    life, told = Life(TABLE, Closed()), list[str]()
    life.follow(KeyTurned, lambda event: told.append(event.key))
    waits = [asyncio.ensure_future(life.until_not(Shut)) for _ in range(2)]
    waits[0].cancel()
    await asyncio.sleep(0)
    assert life.happens(KeyTurned("a"))
    assert life.state == Locked("a")
    assert not life.happens(KeyTurned("b"))
    assert told == ["a"]
    assert life.happens(KeyTurned("a"))
    assert life.happens(Pushed())
    assert await waits[1] == Open()
    assert await life.until(lambda state: "there" if isinstance(state, Open) else None) == "there"


async def test_within_waits_as_long_as_the_time_that_is_handed_in_says() -> None:
    time, there = VirtualTime(), asyncio.Event()
    answer = asyncio.ensure_future(within(time, 3600, there.wait()))
    await time.passes(3599)
    assert not answer.done()
    there.set()
    assert await answer
    there.clear()
    answer = asyncio.ensure_future(within(time, 3600, there.wait()))
    await time.passes(3600)
    with pytest.raises(TimeoutError):
        await answer


async def test_who_waits_within_a_time_and_is_cancelled_leaves_nothing_behind() -> None:
    time, before = VirtualTime(), len(asyncio.all_tasks())
    answer = asyncio.ensure_future(within(time, 3600, asyncio.Event().wait()))
    await time.settle()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert len(asyncio.all_tasks()) == before
