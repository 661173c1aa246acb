"""Our seam into aiocoap: tokens and message layer, without its contexts, sites and pipes.

aiocoap's `Context` lets unprotected requests through to resources, cuts messages into blocks and gives a request one
response only. An endpoint here hands every request to one function, and may look at more than one answer to its own
requests: on an open PAN the first may be forged.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from aiocoap import Message
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import CON
from aiocoap.tokenmanager import TokenManager

from cpns.shares.remembered import Remembered

_log = logging.getLogger("cpns.coap")
_log.setLevel(logging.ERROR)  # aiocoap warns of every malformed datagram; a peer must not be able to fill our log

MAX_REMEMBERED: Final = 20_000
"""Message IDs remembered for duplicate detection on one socket; over it, the oldest of a host with more than its share
is forgotten. A duplicate of one that is forgotten is a replay to OSCORE, and before a session a run that fails."""


class PanTuning(TransportTuning):  # type: ignore[misc]
    """Timers for one hop of a few milliseconds (RFC 7252 4.8): given up after 12 to 18 s, forgotten after 22 s."""

    ACK_TIMEOUT = 0.4
    MAX_LATENCY = 5.0


PAN_TUNING: Final = PanTuning()


class Exchange:
    """A request of ours, and the answers that came so far."""

    __slots__ = ("_answers", "_arrived", "_failure", "key", "request")

    def __init__(self, request: Message) -> None:
        self.request = request
        self.key: tuple[bytes, Any] | None = None
        self._answers: list[Message] = []
        self._failure: Exception | None = None
        self._arrived: asyncio.Future[None] | None = None

    def offer(self, answer: Message) -> None:
        """Take an answer from the wire."""
        self._answers.append(answer)
        self._wake()

    def fail(self, failure: Exception) -> None:
        """The way to the peer is gone."""
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def next(self) -> Message:
        """Return the next answer.

        Raises:
            ConnectionError: the way to the peer is gone.
        """
        while not self._answers:
            if self._failure is not None:
                raise ConnectionError(str(self._failure)) from self._failure
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        return self._answers.pop(0)


class Tokens(TokenManager):  # type: ignore[misc]
    """Matches answers to our requests by token and remote, and hands requests of others on."""

    def __init__(self, receive: Callable[["Tokens", Message], None], lost: Callable[[Any], None]) -> None:
        self.log = _log
        self.loop = asyncio.get_running_loop()
        super().__init__(self)  # what the token manager calls a context: we play it, with log and loop
        self._receive = receive
        self._lost = lost
        self._exchanges: dict[tuple[bytes, Any], Exchange] = {}

    client_credentials = None
    token_interface: Any = None

    def open(self, message: Message) -> Exchange:
        """Send *message* and return its exchange; `close` it when done. Raises ConnectionError where that can't be."""
        if self.token_interface is None:
            raise ConnectionError("closed")
        exchange = Exchange(message)
        message.token = self.next_token()
        exchange.key = (message.token, message.remote)
        self._exchanges[exchange.key] = exchange
        try:
            self.token_interface.send_message(message, lambda: exchange.fail(ConnectionError("reset by peer")))
        except ConnectionError:
            del self._exchanges[exchange.key]
            raise
        return exchange

    def close(self, exchange: Exchange) -> None:
        """No more answers are wanted; the request is not repeated, and blocks no other."""
        if exchange.key is not None and self._exchanges.pop(exchange.key, None) is not None:
            if isinstance(self.token_interface, BoundedMessages):
                self.token_interface.withdraw(exchange.request)

    def respond(self, request: Message, response: Message) -> None:
        """Answer *request*. Raises ConnectionError where the way back is gone."""
        if self.token_interface is None:
            raise ConnectionError("closed")
        response.token = request.token
        response.remote = request.remote.as_response_address()
        response.request = request
        self.token_interface.send_message(response, lambda: None)

    # what the layer below calls

    def process_request(self, request: Message) -> None:
        """Hand a request to the endpoint."""
        self._receive(self, request)

    def process_response(self, response: Message) -> bool:
        """Hand an answer to its exchange; False when there is none, which the message layer answers with a reset."""
        exchange = self._exchanges.get((response.token, response.remote))
        if exchange is None:
            return False
        exchange.offer(response)
        return True

    def dispatch_error(self, exception: Exception | None, remote: Any) -> None:
        """A remote is gone: fail its exchanges and tell the endpoint."""
        for exchange in [e for key, e in self._exchanges.items() if key[1] == remote]:
            exchange.fail(exception or ConnectionError("closed"))
        self._lost(remote)

    async def shutdown(self) -> None:
        """Fail what is open and close the layers below, where there are any."""
        for exchange in list(self._exchanges.values()):
            exchange.fail(ConnectionError("shutdown"))
        below, self.token_interface = self.token_interface, None
        if below is not None:
            await below.shutdown()


class BoundedMessages(MessageManager):  # type: ignore[misc]
    """aiocoap's message layer with a bound on what a flood can make it remember.

    Of an answer it remembers the bytes, and when to forget them. A message, its options and a timer for each of
    thousands would halt the loop whenever Python looks for cycles.
    """

    def __init__(self, tokens: Tokens) -> None:
        super().__init__(tokens)
        self._recent_messages: Any = Remembered(MAX_REMEMBERED, lambda key: key[0].source[0])

    def _deduplicate_message(self, message: Message) -> bool:
        """Whether *message* came before; then say again what was said, if it wants an answer."""
        key, now = (message.remote, message.mid), self.loop.time()
        while self._recent_messages and (oldest := next(iter(self._recent_messages.items())))[1][0] <= now:
            self._recent_messages.pop(oldest[0])
        if key not in self._recent_messages:
            self._recent_messages[key] = (now + message.transport_tuning.EXCHANGE_LIFETIME, None)
            return False
        _, said = self._recent_messages[key]
        if said is not None and message.mtype is CON:
            message.remote.send(said)
        return True

    def _send_initially(self, message: Message, messageerror_monitor: Callable[[], None] | None = None) -> None:
        said = message.encode()
        if message.mtype is CON:
            self._add_exchange(message, messageerror_monitor)
        elif (key := (message.remote, message.mid)) in self._recent_messages:
            self._recent_messages[key] = (self._recent_messages[key][0], said)
        message.remote.send(said)

    def withdraw(self, message: Message) -> None:
        """Repeat *message* no more, whether it was sent or waits in line.

        A peer has one confirmable message under way at a time (RFC 7252 4.7): one that nobody waits for would hold up
        those behind it for as long as it is repeated, and each new attempt would add another.
        """
        if self._active_exchanges is None:
            return
        waiting = self._backlogs.get(message.remote)
        if waiting:
            waiting[:] = [item for item in waiting if item[0] is not message]
        _, repetition = self._active_exchanges.pop((message.remote, message.mid), (None, None))
        if repetition is not None:
            repetition.cancel()
            self._continue_backlog(message.remote)
