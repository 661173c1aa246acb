"""Readings on their way: each is sent until the server has acknowledged that it is committed."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cpns.errors import NoAnswer, Refused, Result
from cpns.pne.life import PneLife
from cpns.ports import Time
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.errors import LONGEST_WAIT, Answer, Code, Hinted
from cpns.wire import application, codec
from cpns.wire.application import Reading
from cpns.wire.messages import ErrorBody

_log = logging.getLogger("cpns.pne")

PAUSE: Final = 0.3
"""Seconds before a reading is sent again after a refusal or a hint."""
SILENCES: Final = 3
"""Readings in a row without any answer after which the PNE joins anew."""


class Outbox:
    """The readings of one PNE.

    Args:
        boot: with a serial number, makes the ID of a reading; drawn anew by each process.
        life: of that PNE.
        exchange: sends ``POST /path`` to the server end to end.
    """

    def __init__(
        self, boot: bytes, life: PneLife, exchange: Callable[[str, bytes], Awaitable[Answer]], time: Time
    ) -> None:
        self._boot = boot
        self._life = life
        self._exchange = exchange
        self._time = time
        self._serial = 0
        self._stores = True

    def reading(self, body: dict[str, application.Json]) -> Reading:
        """Return *body* as a reading with an ID that this PNE never gives again."""
        self._serial += 1
        return Reading(self._boot + self._serial.to_bytes(4, "big"), body)

    async def send(self, reading: Reading) -> None:
        """Send a reading until the server has acknowledged that it is committed.

        It survives a loss of the PN GW or the server: it is sent again, and stored once.

        Raises:
            Refused: the server does not take it, with the reason; EXISTS: it has another reading with that ID.
        """
        payload = application.encode_reading(reading)
        silences = 0
        used: Session | None = None
        while True:
            stands = (await self._life.attached()).session
            if stands is not used:
                used, silences = stands, 0
            try:
                answer = await self._exchange(application.READINGS_PATH, payload)
            except Hinted as hint:
                self._life.suspect(used, lost=hint.answer.code == Code.UNAUTHORIZED)
                await self._time.sleep(PAUSE)
                continue
            except NoAnswer:
                silences += 1
                self._life.suspect(used, lost=silences % SILENCES == 0)
                continue
            if answer.ok:
                self._stored(True)
                return
            wait = PAUSE
            if answer.code == Code.UNAUTHORIZED:  # the session does not hold where we are
                self._life.suspect(used, lost=True)
            elif answer.code != Code.SERVICE_UNAVAILABLE:
                result = codec.decode(answer.payload, ErrorBody).result
                why = "reading_id_taken" if result == Result.EXISTS else f"server_refused_with_{result}"
                raise Refused(Result.told(result, Result.BAD_REQUEST), why)
            elif answer.max_age is not None:  # the same reading is taken then
                wait = min(answer.max_age, LONGEST_WAIT)
                if codec.decode(answer.payload, ErrorBody).result == Result.NO_ANSWER:
                    self._stored(False)
                elif wait > 1:
                    _log.warning("the server takes no more readings of ours for %g s", wait, extra=by("readings"))
            await self._time.sleep(wait)

    def _stored(self, stores: bool) -> None:
        """Say so where the server can store no reading, and where it can again."""
        if stores is self._stores:
            return
        self._stores = stores
        if stores:
            _log.info("the server stores our readings again", extra=by("readings"))
        else:
            _log.warning("the server can store nothing now: our readings wait, and none is lost", extra=by("readings"))
