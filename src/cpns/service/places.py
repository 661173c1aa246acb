"""A place in a `Room` for as long as a run is under way; a run that gives way ends with TOO_MANY."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass

from cpns.errors import Refused, Result
from cpns.shares.room import Room


@dataclass(slots=True)
class Run:
    """What a run in its place has shown so far."""

    proved: bool = False


@contextlib.asynccontextmanager
async def place(room: Room, group: Hashable, *, known: bool = False, size: int = 1) -> AsyncIterator[Run]:
    """Hold a place in *room* while the block runs; the block sets `Run.proved`.

    The block is cancelled where its place goes to another group, so it must hold nothing that is half done.

    Raises:
        Refused: TOO_MANY; there is no place, or it went to another group.
    """
    run = Run()
    try:
        async with asyncio.timeout(None) as limit:
            now = asyncio.get_running_loop().time()
            slot = room.enter(group, lambda: limit.reschedule(now), known=known, size=size)
            try:
                yield run
            finally:
                room.leave(slot, proved=run.proved)
    except TimeoutError:
        if not limit.expired():
            raise
        raise Refused(Result.TOO_MANY, "gave_way") from None
