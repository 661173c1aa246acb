"""A place in a `Room` for as long as a run is under way; a run that gives way ends with TOO_MANY."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from cpns.shares.room import NoPlace, Room


@dataclass(slots=True)
class Run:
    """What a run in its place has shown so far."""

    proved: bool = False


class Place(Protocol):
    """Gives places in one room."""

    def __call__(self, party: Hashable, size: int = 1, *, shown: bool = True) -> AbstractAsyncContextManager[Run]:
        """Hold a place of *size* for *party* while the block runs. Raises as `place`."""
        ...


@contextlib.asynccontextmanager
async def place(
    room: Room, group: Hashable, *, known: bool = False, shown: bool = True, size: int = 1
) -> AsyncIterator[Run]:
    """Hold a place in *room* while the block runs; the block sets `Run.proved`.

    The block is cancelled where its place goes to another group, so it must hold nothing that is half done.

    Raises:
        NoPlace: there is none, or it went to another group.
        AddressUnproven: as `Room.enter`.
    """
    run = Run()
    try:
        async with asyncio.timeout(None) as limit:
            now = asyncio.get_running_loop().time()
            slot = room.enter(group, lambda: limit.reschedule(now), known=known, shown=shown, size=size)
            try:
                yield run
            finally:
                room.leave(slot, proved=run.proved)
    except TimeoutError:
        if not limit.expired():
            raise
        raise NoPlace("gave_way") from None


def places(
    total: int,
    monotonic: Callable[[], float],
    most: int | None = None,
    reason: str = "share_used_up",
    unshown: int = 0,
) -> Place:
    """Return what gives places in a room of its own, to parties that need not have proved themselves.

    Args:
        total: places in all.
        monotonic: the clock.
        most: places of one party; None: all, as long as nobody else wants them.
        reason: of the refusal of a party that has these.
        unshown: as `Room`.
    """
    room = Room(total, 0, monotonic, longest_wait=0, unshown=unshown)

    @contextlib.asynccontextmanager
    async def hold(party: Hashable, size: int = 1, *, shown: bool = True) -> AsyncIterator[Run]:
        if most is not None and room.share(party) + size > most:
            raise NoPlace(reason)
        async with place(room, party, shown=shown, size=size) as run:
            yield run

    return hold
