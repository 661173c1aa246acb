"""What grows by number, as pages and as lines that go on."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol, TypeVar

from pydantic import BaseModel

NDJSON: Final = "application/x-ndjson"
MAX_PAGE: Final = 10_000

T = TypeVar("T")


class Item(Protocol):
    """What a page has."""

    number: int


def next_after(items: Sequence[Item], after: int | None) -> int:
    """Return after which number the next page begins, where this one began after *after*."""
    return items[-1].number if items else after or 0


async def lines(found: AsyncIterator[T], shown: Callable[[T], BaseModel]) -> AsyncIterator[str]:
    """Yield each of *found* as a line of JSON."""
    async for one in found:
        yield shown(one).model_dump_json() + "\n"
