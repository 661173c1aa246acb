"""Who was refused and why, written down after the answer has left: so no answer tells which of the causes it was."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cpns.domain.actor import SERVER
from cpns.domain.inventory import Outcome
from cpns.errors import Result, StoreFails, UserError
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.events import EventStore
from cpns.service.background import Background
from cpns.shares.noted import Line, Noted, by
from cpns.shares.party import Party

_log = logging.getLogger("cpns.server")

PACE: Final = (1.0, 200.0)
"""Rows a second, and at once, of the audit log, for refusals that one PN GW or one host causes."""
STRANGERS_PACE: Final = (5.0, 1000.0)
"""The same for all together that have not proven themselves."""
AGAIN_SECONDS: Final = 10.0
"""How old the newest row may get while its refusal goes on."""
LASTING: Final = frozenset({"revoked", "cloned"})
"""Reasons that last until somebody does something about it."""
LASTING_SECONDS: Final = 86400.0
"""How old the newest row gets for these."""
GATHER_SECONDS: Final = 0.05
"""What is refused in that time is one commit; and who is refused can't tell from the load when it is written."""
MAX_WAITING: Final = 4096
"""Rows that wait for a store that is away."""
RETRY_SECONDS: Final = 2.0


class Refusals:
    """The refusals of one server process, on their way to log and audit log."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._noted = Noted(self._take, clock.monotonic, PACE, STRANGERS_PACE, AGAIN_SECONDS)
        self._waiting: deque[Outcome] = deque(maxlen=MAX_WAITING)
        self._writing = False
        self._work = Background()

    def peer(self, entity: EntityId, reason: str, party: Party | EntityId) -> None:
        """*entity*, a PN GW or CM Device, is refused.

        Args:
            entity: what *party* says to be.
            reason: for the audit log.
            party: who asks; an ID alone is that of an entity that has proven itself.
        """
        _log.warning("gateway %s refused: %s", entity, reason, extra=by(party, entity))
        outcome = Outcome(0.0, "refused", entity, SERVER, Result.AUTHENTICATION_FAILED, reason)
        if isinstance(party, Party):
            self._note(party.host, outcome, proven=False)
        else:
            self._note(party, outcome)

    def pne(self, entity: EntityId, result: Result, reason: str, via: EntityId) -> None:
        """*entity*, a PNE behind the PN GW *via*, or who says to be one, is refused.

        IDs that nobody provisioned have a pace of their own there: who makes them up buries no device's refusal.
        """
        _log.warning("PNE %s through %s refused: %s", entity, via, reason, extra=by(via, entity))
        outcome = Outcome(0.0, "refused", entity, SERVER, result, reason, via)
        self._note(f"strangers of {via}" if reason == "unknown" else via, outcome)

    def cloned(self, entity: EntityId, places: Sequence[str]) -> None:
        """Two places have the key of *entity*, and answer at once: these are *places*."""
        where = " and ".join(places)
        _log.warning("two have the key of %s, and push each other out: look at %s", entity, where, extra=by(entity))
        outcome = Outcome(0.0, "cloned", entity, SERVER, Result.SUCCESS, where)
        self._noted.note(entity, ("cloned", entity), outcome, again=LASTING_SECONDS)

    def _note(self, party: str, outcome: Outcome, *, proven: bool = True) -> None:
        if outcome.reason in LASTING:
            topic = (outcome.reason, outcome.entity_id)
            self._noted.note(party, topic, outcome, proven=proven, again=LASTING_SECONDS)
        else:
            self._noted.note(party, outcome.entity_id, outcome, proven=proven)

    def over(self, entity: EntityId, party: EntityId | str) -> None:
        """*entity* has proven itself to us through *party*: a later refusal is news, but for a lasting reason."""
        self._noted.over(party, entity)

    def due(self) -> None:
        """Write what was refused again; to be called every few seconds."""
        self._noted.due()

    async def flush(self) -> None:
        """Write what waits, and what was refused again; return when that is done, or the store is away."""
        self._noted.rest()
        await self._commit()

    async def close(self) -> None:
        """Write what waits, if the store is there."""
        await self._work.close()
        await self.flush()

    def done(self, outcome: Outcome) -> None:
        """Write down what somebody did that is in no store besides, when there is one to write to."""
        self._waiting.append(outcome)
        self._begin()

    def _take(self, line: Line[Outcome]) -> None:
        self._waiting.append(replace(line.what, at=self._clock.now(), times=line.times))
        self._begin()

    def _begin(self) -> None:
        if not self._writing:
            self._writing = True
            self._work.start(self._write())

    async def _write(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        while not await self._commit():
            await asyncio.sleep(RETRY_SECONDS)
        self._writing = False

    async def _commit(self) -> bool:
        """Write what waits; return False where the store is away."""
        while self._waiting:
            rows = list(self._waiting)
            self._waiting.clear()
            try:
                await self._store.record(rows)
            except UserError as error:
                if not isinstance(error, StoreFails):
                    _log.warning("refusals are not written down yet: %s", error)
                self._waiting.extendleft(reversed(rows))
                return False
        return True
