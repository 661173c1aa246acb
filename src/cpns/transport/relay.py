"""The blind relay of a PN GW (SES-3): protected messages between PNE and server, untouched.

This file may not import a key, a session or the crypto library; the import walls see to it. It forwards payload, code
and OSCORE option as they are, and nothing that has no OSCORE option.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from cpns.errors import Refused, Result

MAX_IN_FLIGHT: Final = 16
"""Relayed requests of one source on a PAN that may wait for an answer at once."""
MAX_IN_FLIGHT_DOWN: Final = 1024
"""Those of the server, which is one source and reaches all PNEs."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a relay sees of a message; `oscore` is None in an answer that a hop made itself (an unprotected error)."""

    code: int
    oscore: bytes | None
    payload: bytes


class Carrier(Protocol):
    """A way to the next hop."""

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """Send on to *destination* and return the answer.

        Raises:
            NoAnswer: none came, or the way is gone.
        """
        ...


class Relay:
    """Forwards by destination.

    Args:
        route: tells the way to an entity ID, or None where it is out of reach.
        limit: requests of one source that may wait for an answer at once.
    """

    def __init__(self, route: Callable[[str], Carrier | None], limit: int = MAX_IN_FLIGHT) -> None:
        self._route = route
        self._limit = limit
        self._in_flight: Counter[Hashable] = Counter()

    async def forward(self, source: Hashable, destination: str, sealed: Sealed) -> Sealed:
        """Carry *sealed* to *destination* and its answer back.

        Raises:
            Refused: no OSCORE option (NOT_AUTHENTICATED), no way (OUT_OF_REACH), too much at once (TOO_MANY).
            NoAnswer: the next hop did not answer.
        """
        if sealed.oscore is None:
            raise Refused(Result.NOT_AUTHENTICATED, "unprotected_message_to_relay")
        if self._in_flight[source] >= self._limit:
            raise Refused(Result.TOO_MANY, "too_many_relayed_requests")
        carrier = self._route(destination)
        if carrier is None:
            raise Refused(Result.OUT_OF_REACH, "no_route")
        self._in_flight[source] += 1
        try:
            return await carrier.carry(destination, sealed)
        finally:
            self._in_flight[source] -= 1
            if not self._in_flight[source]:
                del self._in_flight[source]
