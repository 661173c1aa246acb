"""How requests of others become work: by turns, so much at once.

`Turns` says whose request is next. A pump begins with some of them, then gives the loop back before it takes more. So
new messages, and the answers that others wait for, come in between.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final, NamedTuple

from cpns.coap.events import RequestArrived
from cpns.coap.numbers import Option
from cpns.coap.oscore import said_by
from cpns.coap.oscore_option import OscoreOption
from cpns.crypto.schedule import Profile
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.shares import costs
from cpns.shares.bounds import Requests
from cpns.shares.turns import Turn, Turns
from cpns.transport.pan import PanAddress
from cpns.transport.uplink import Connection

UNITS_AT_ONCE: Final = 40.0
"""Work that is begun between two looks at the sockets: some 2 ms."""


_URI_HOST: Final = int(Option.URI_HOST)


class Arrived(NamedTuple):
    """A request that came in.

    Attributes:
        remote: where it came from.
        to: another entity that it is for, or None.
        session: the one that it says protects it, or None.
        said: its OSCORE option, of a protected one for us.
    """

    remote: PanAddress | Connection
    request: RequestArrived
    to: str | None = None
    session: Session | None = None
    said: OscoreOption | None = None


def arrived(remote: PanAddress | Connection, request: RequestArrived, own_id: EntityId, sessions: Sessions) -> Arrived:
    """Return *request*, and what it says of itself."""
    host = request.message.text(_URI_HOST)
    if host is not None and host != own_id:
        return Arrived(remote, request, host)
    said = said_by(request.message)
    if said is None or not said.kid or said.kid_context is not None:
        return Arrived(remote, request)
    return Arrived(remote, request, None, sessions.of_kid(said.kid), said)


def _waits_beside(item: Arrived) -> tuple[Hashable, Hashable, bool]:
    """Return uplink and session that *item* waits with, and whether that is a stranger; nothing else hangs on it."""
    remote, session = item.remote, item.session
    if isinstance(remote, Connection) and remote.proven:
        own = session is None or session.profile is not Profile.PNE_SERVER
        return remote, item.to or (None if own else session), False
    host, port = remote.source
    stranger = item.to is None and session is None
    return (host, stranger), port, stranger


class Intake:
    """The requests of one endpoint.

    Args:
        requests: how many it takes.
        begin: begins with the one whose turn it is, by `work` or by doing it, and returns the units that takes; it and
            the work must not raise.
    """

    def __init__(self, requests: Requests, begin: Callable[[Turn[Arrived]], float]) -> None:
        self._turns: Turns[Arrived] = Turns(requests.waiting, requests.running, requests.strangers)
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._units = UNITS_AT_ONCE
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether none waits and none is worked on."""
        return not self._tasks and not self._turns

    def put(self, item: Arrived) -> None:
        """Let *item* wait for its turn, see `Turns.put`; what has to give way for it is dropped.

        Where nobody waits, and little was begun since the last look at the sockets, its turn is now.
        """
        uplink, session, stranger = _waits_beside(item)
        turn = self._turns.at_once(uplink, session, item, stranger=stranger) if self._units > 0 else None
        if turn is None:
            cost = costs.opened(len(item.request.message.payload))
            self._turns.put(uplink, session, item, cost, stranger=stranger)
        else:
            self._go(turn)
        if turn is None or self._units < UNITS_AT_ONCE / 2:  # else there is enough left for the next look
            self._schedule()

    def work(self, turn: Turn[Arrived], work: Coroutine[Any, Any, None]) -> None:
        """Run *work* as the work of *turn*."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, turn))

    def close(self) -> None:
        """End what is being worked on, and begin with nothing more."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()

    def _ended(self, turn: Turn[Arrived], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        turn.done()
        if len(self._turns):
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        self._units = UNITS_AT_ONCE
        while self._units > 0 and not self._closed:
            turn = self._turns.take()
            if turn is None:
                return
            self._go(turn)
        if len(self._turns):
            self._schedule()

    def _go(self, turn: Turn[Arrived]) -> None:
        more = self._begin(turn)
        turn.charge(more)
        self._units -= costs.OPENED[0] + more
