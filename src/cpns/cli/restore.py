"""``cpns server set-back``: a store goes on that is an older copy."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from cpns.admin.folder import Folder
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Outcome
from cpns.domain.set_back import is_possible
from cpns.errors import BadInput, Result


def set_back(data: Path, at: str | None) -> None:
    """Let the store of the server in *data* go on with numbers that were never given, and say from which on."""
    folder = Folder(data)
    seconds = _now() if at is None else _seconds(at)
    with folder.hold():
        number = asyncio.run(_set_back(folder, seconds))
    print(f"The numbers of this store go on beyond {number}.")
    print("What was done since the copy was made is undone: do it again before the server runs, revocations first.")


async def _set_back(folder: Folder, at: float) -> int:
    store = folder.open_store()
    try:
        return await store.set_back(Outcome(at, "set_back", folder.server_id(), OPERATOR, Result.SUCCESS))
    finally:
        await store.close()


def _now() -> float:
    now = time.time()
    if not is_possible(now):
        raise BadInput("bad_time", "The clock of this machine is wrong: set it, or give --at as 2026-11-30T04:00:00Z.")
    return now


def _seconds(text: str) -> float:
    """Return a time in seconds since the epoch. Raises `BadInput`, ``bad_time``."""
    try:
        time_of = datetime.fromisoformat(text)
        seconds = (time_of if time_of.tzinfo else time_of.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = 0.0
    if not is_possible(seconds):
        raise BadInput("bad_time", "Give --at as 2026-11-30T04:00:00Z, a time between 2020 and 2088.")
    return seconds
