"""The epochs of service groups that somebody waits for, as far as this process began them, or found them in the store.

Who joined or left is in the store before it is answered. So a process that ends meanwhile loses nothing: another one
begins that epoch, or this one when it is back.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cpns.domain.epoch import GATHER_SECONDS
from cpns.domain.group import ChangedGroup, Group
from cpns.errors import StoreFails, UserError
from cpns.ids import SgId
from cpns.ports import Clock
from cpns.ports.groups import GroupStore
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

SWEPT_AT_ONCE: Final = 256


class GroupEpochs:
    """Begins the epochs that are due.

    Args:
        on_begun: is told of each.
    """

    def __init__(self, store: GroupStore, clock: Clock, on_begun: Callable[[ChangedGroup], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_begun = on_begun
        self._waits: dict[tuple[SgId, int], asyncio.Task[None]] = {}
        """For the end of which epoch of which group: no more than groups that changed in the last second."""

    async def close(self) -> None:
        """Wait for none any more; what is due is found in the store."""
        tasks = list(self._waits.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wait_for(self, group: Group) -> asyncio.Task[None] | None:
        """Begin the next epoch of a group when it is due; return what ends then, or None where nobody waits for it."""
        if group.due is None:
            return None
        key = group.sg_id, group.epoch
        task = self._waits.get(key)
        if task is None:
            task = self._waits[key] = asyncio.get_running_loop().create_task(self._wait(*key, group.due))
            task.add_done_callback(lambda _: self._waits.pop(key, None))
        return task

    async def _wait(self, sg_id: SgId, epoch: int, due: float | None) -> None:
        try:
            while due is not None:
                await asyncio.sleep(min(max(due - self._clock.now(), 0.0), GATHER_SECONDS))
                changed = await self._begin(sg_id)
                if changed is None or changed.after.epoch > epoch:
                    return  # here, or at another process, or as somebody was put out
                due = changed.after.due
        except StoreFails:
            return  # the sweep begins it
        except UserError as error:
            _log.warning("an epoch of %s begins later: %s", sg_id, error, extra=by(sg_id))

    async def _begin(self, sg_id: SgId) -> ChangedGroup | None:
        changed = await self._store.begin_epoch(sg_id, self._clock.now())
        if changed is not None and changed.after != changed.before:
            self._on_begun(changed)
        return changed

    async def sweep(self) -> None:
        """Begin what is due and nobody waits for: since before our start, or at a process that is gone."""
        for sg_id in await self._store.due_epochs(SWEPT_AT_ONCE):
            await self._begin(sg_id)
