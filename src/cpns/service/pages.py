"""Lists that a peer gives in pages: each goes on after the last entry of the one before, and there is an end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId

MAX_PAGES: Final = 2048
"""Pages of one list; an honest one has up to 64 entries, or some kilobytes of them."""
MAX_ENTRIES: Final = 65_536
"""Entries of one list, in all its pages: who says `more` for ever takes no more of our memory than these."""

ATTEMPTS_AT_ONCE: Final = 4
"""A list that changes while it is read is read anew three times, and again after a pause."""
CHANGED_SECONDS: Final = 1.0
MOST_ATTEMPTS: Final = 40


class Page(Protocol):
    """What all pages have."""

    @property
    def more(self) -> bool | None:
        """Whether another page follows."""
        ...


class VersionedPage(Page, Protocol):
    """What the pages have of a list that has a version."""

    @property
    def version(self) -> int | None:
        """The version of the whole list."""
        ...


P = TypeVar("P", bound=Page)
V = TypeVar("V", bound=VersionedPage)


async def all_pages(ask: Callable[[EntityId | None], Awaitable[P]], keys: Callable[[P], Sequence[str]]) -> list[P]:
    """Return the pages of a list, one at the least; whether it changed meanwhile is the caller's to judge.

    Args:
        ask: returns the page after an entry; None: the first.
        keys: returns what the entries of a page are ordered by, in their order.

    Raises:
        Refused: BAD_REQUEST, ``list_without_end`` where there are too many pages or entries, ``list_goes_back`` where
            an entry does not come after the one before it, or a page that is not the last has none; or as *ask* does.
    """
    found: list[P] = []
    after = ""
    entries = 0
    while not found or found[-1].more:
        page = await ask(EntityId(after) if after else None)
        own = keys(page)
        if any(one >= two for one, two in zip([after, *own], own, strict=False)) or (page.more and not own):
            raise Refused(Result.BAD_REQUEST, "list_goes_back")
        found.append(page)
        entries += len(own)
        if len(found) > MAX_PAGES or entries > MAX_ENTRIES:
            raise Refused(Result.BAD_REQUEST, "list_without_end")
        after = own[-1] if own else after
    return found


async def one_version(ask: Callable[[EntityId | None], Awaitable[V]], keys: Callable[[V], Sequence[str]]) -> list[V]:
    """Return the pages of a list that has a version, all of the same: where it changes meanwhile they are asked anew.

    Raises:
        Refused: as `all_pages`; `NoAnswer`, ``list_changes_all_the_time``.
    """
    first: list[int | None] = []

    async def of_the_first(after: EntityId | None) -> V:
        page = await ask(after)
        if after is None:
            first[:] = [page.version]
        elif page.version != first[0]:
            raise _ChangedError
        return page

    for attempt in range(1, MOST_ATTEMPTS + 1):
        try:
            return await all_pages(of_the_first, keys)
        except _ChangedError:
            if attempt % ATTEMPTS_AT_ONCE == 0:
                await asyncio.sleep(CHANGED_SECONDS)
    raise NoAnswer("list_changes_all_the_time")


class _ChangedError(Exception):
    """A page is of another version than the first."""
