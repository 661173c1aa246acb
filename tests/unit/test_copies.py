"""Copies of things: one fetch of each at a time, nothing late taken up, and no trace of what is none of ours."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.service import pages
from cpns.service.copies import Copies, OneAtATime
from cpns.service.pages import one_version


@dataclass
class Asked:
    """A question that is under way."""

    key: str
    asks: Callable[[], None]
    answer: "asyncio.Future[tuple[int, str] | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Server:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.gone: list[str] = []
        self.taken: list[tuple[str, str | None]] = []
        self.copies: Copies[str, str] = Copies(
            self._read, Result.UNKNOWN_SG, lambda key, before: self.taken.append((key, before)), self.gone.append
        )

    async def _read(self, key: str, asks: Callable[[], None]) -> tuple[int, str] | None:
        asks()
        one = Asked(key, asks)
        self.asked.append(one)
        return await one.answer

    async def ask(self, key: str = "a") -> "tuple[asyncio.Task[None], Asked]":
        """Fetch, up to the moment at which the question is under way."""
        before = len(self.asked)
        task = asyncio.create_task(self.copies.fetch(key))
        while len(self.asked) == before:
            await asyncio.sleep(0)
        return task, self.asked[-1]


def no_such() -> Refused:
    return Refused(Result.UNKNOWN_SG, "no_such_thing")


async def test_what_is_answered_is_taken() -> None:
    server = Server()
    task, one = await server.ask()
    one.answer.set_result((3, "three"))
    await task
    assert (server.copies.of, server.taken) == ({"a": "three"}, [("a", None)])
    task, one = await server.ask()
    one.answer.set_result(None)
    await task
    assert (server.copies.of, server.taken[1:]) == ({"a": "three"}, [("a", "three")])


async def test_a_late_answer_brings_nobody_back() -> None:
    """Put out, and given up: by news that overtook the answer."""
    for told in (True, False):
        server = Server()
        task, one = await server.ask()
        one.answer.set_result((7, "in it"))
        await task
        task, one = await server.ask()
        if told:
            server.copies.told_gone("a", 9)
        else:
            server.copies.left("a")
        assert (server.copies.of, server.gone) == ({}, ["a"])
        one.answer.set_result((8, "in it"))
        await task
        assert server.copies.of == {}
        assert server.copies._orders == {}


async def test_news_that_is_old_is_not_followed() -> None:
    server = Server()
    assert server.copies.told("a", 7, "seven")
    assert not server.copies.told_gone("a", 7)
    assert not server.copies.told("a", 6, "six")
    assert server.copies.told("a", 7, "seven, and the rest of it")
    assert server.copies.of == {"a": "seven, and the rest of it"}
    assert server.copies.told_gone("a", 8)
    assert (server.copies.of, server.copies._orders) == ({}, {})


async def test_a_lower_version_is_taken_from_who_was_asked() -> None:
    server = Server()
    server.copies.told("a", 7, "seven")
    task, one = await server.ask()
    one.answer.set_result((3, "three"))
    await task
    assert server.copies.of == {"a": "three"}


async def test_who_asks_anew_in_the_middle_has_asked_then() -> None:
    """As a list that changed while it was read: its answer is one to the last time."""
    server = Server()
    server.copies.told("a", 7, "seven")
    task, one = await server.ask()
    server.copies.told("a", 8, "eight")
    one.asks()
    one.answer.set_result((3, "three"))
    await task
    assert server.copies.of == {"a": "three"}


async def test_a_refusal_drops_it_and_a_silence_does_not() -> None:
    server = Server()
    server.copies.told("a", 7, "seven")
    for error in (NoAnswer("no_answer"), Refused(Result.TOO_MANY, "busy")):
        task, one = await server.ask()
        one.answer.set_exception(error)
        with pytest.raises(Refused, match=error.reason):
            await task
    assert server.copies.of == {"a": "seven"}
    task, one = await server.ask()
    one.answer.set_exception(no_such())
    with pytest.raises(Refused, match="no_such_thing"):
        await task
    assert (server.copies.of, server.gone, server.copies._orders) == ({}, ["a"], {})


async def test_a_refusal_that_news_overtook_drops_nothing() -> None:
    server = Server()
    task, one = await server.ask()
    server.copies.told("a", 7, "seven")
    one.answer.set_exception(no_such())
    with pytest.raises(Refused):
        await task
    assert server.copies.of == {"a": "seven"}


# one at a time


class Fetched:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.goes_on = asyncio.Event()
        self.error: Exception | None = None
        self.once: OneAtATime[str] = OneAtATime(self._fetch)

    async def _fetch(self, key: str) -> None:
        self.begun.append(key)
        await self.goes_on.wait()
        if self.error is not None:
            raise self.error


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_many_who_ask_cost_two() -> None:
    """The one that is under way may have been answered before they asked; the next one is for all of them."""
    fetched = Fetched()
    tasks = [asyncio.create_task(fetched.once.fetch(key)) for key in "aaaab"]
    await settled()
    assert (fetched.begun, "a" in fetched.once) == (["a", "b"], True)
    fetched.goes_on.set()
    await asyncio.gather(*tasks)
    assert (fetched.begun, "a" in fetched.once) == (["a", "b", "a"], False)


async def test_who_shares_one_shares_its_error() -> None:
    fetched = Fetched()
    fetched.error = NoAnswer("no_answer")
    tasks = [asyncio.create_task(fetched.once.fetch("a")) for _ in range(5)]
    await settled()
    fetched.goes_on.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in ended] == [NoAnswer] * 5
    assert len(fetched.begun) == 2


async def test_who_is_cancelled_takes_nobody_along() -> None:
    fetched = Fetched()
    first, second = [asyncio.create_task(fetched.once.fetch("a")) for _ in range(2)]
    await settled()
    first.cancel()
    fetched.goes_on.set()
    await second
    assert first.cancelled()
    assert fetched.begun == ["a", "a"]


# lists that change while they are read


@dataclass
class Part:
    names: list[str]
    version: int
    more: bool = False


async def read(*parts: Part) -> tuple[list[str], int]:
    """Return the names of a list with these pages, the last again and again; and how many were asked for."""
    asked: list[EntityId | None] = []

    async def ask(after: EntityId | None) -> Part:
        asked.append(after)
        return parts[min(len(asked), len(parts)) - 1]

    found = await one_version(ask, lambda part: part.names)
    return [name for part in found for name in part.names], len(asked)


async def test_a_page_of_another_version_begins_anew() -> None:
    assert await read(Part(["a"], 1, True), Part(["b"], 1)) == (["a", "b"], 2)
    torn = [Part(["a"], 1, True), Part(["b", "c"], 2, True)]
    assert await read(*torn, Part(["a", "b"], 2, True), Part(["c"], 2)) == (["a", "b", "c"], 4)


async def test_one_that_changes_on_is_read_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr("cpns.service.pages.asyncio.sleep", sleep)
    torn = [one for version in range(5) for one in (Part(["a"], version, True), Part(["b"], version + 1))]
    assert await read(*torn, Part(["a"], 9)) == (["a"], 11)
    assert paused == [pages.CHANGED_SECONDS]
    monkeypatch.setattr(pages, "MOST_ATTEMPTS", 8)
    with pytest.raises(NoAnswer, match="list_changes_all_the_time"):
        await read(*torn, *torn)
    assert len(paused) == 3
