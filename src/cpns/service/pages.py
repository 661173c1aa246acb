"""Lists that a peer gives in pages: each goes on after the last entry of the one before, and there is an end."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from cpns.errors import Refused, Result
from cpns.ids import EntityId

MAX_PAGES: Final = 2048
"""Pages of one list; an honest one has up to 64 entries, or some kilobytes of them."""
MAX_ENTRIES: Final = 65_536
"""Entries of one list, in all its pages: who says `more` for ever takes no more of our memory than these."""


class Page(Protocol):
    """What all pages have."""

    @property
    def more(self) -> bool | None:
        """Whether another page follows."""
        ...


P = TypeVar("P", bound=Page)


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
