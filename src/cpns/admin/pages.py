"""What grows by number, as pages and as lines that go on."""

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from pydantic import BaseModel

NDJSON: Final = "application/x-ndjson"
MAX_PAGE: Final = 10_000

T = TypeVar("T")


async def lines(found: AsyncIterator[T], shown: Callable[[T], BaseModel]) -> AsyncIterator[str]:
    """Yield each of *found* as a line of JSON."""
    async for one in found:
        yield shown(one).model_dump_json() + "\n"
