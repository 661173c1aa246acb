"""An endpoint: one entity on one network, sending and taking CoAP requests under its sessions.

Incoming, in this order: destination is another entity -> relay; OSCORE option -> session by key ID, open; without it
the message reaches the handler with no source, and the handler lets in only what may come before a session stands.
Identity is what the session proved: an `Inbound` has no other. Requests are opened and handled by turns.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from cpns.coap.errors import CannotSend
from cpns.coap.events import RequestArrived
from cpns.coap.message import Message
from cpns.coap.numbers import Option
from cpns.coap.oscore import RequestId
from cpns.errors import AuthenticationFailed, CpnsError, NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.shares import bounds, costs
from cpns.shares.noted import by
from cpns.shares.party import Party, acting
from cpns.shares.rate import RateLimit
from cpns.shares.turns import Turn
from cpns.transport import discovery, oscore, pan, uplink
from cpns.transport.carried import first_answer, sealed_in
from cpns.transport.coap import name_of, path_of, refusal_of, request_of, response_of, sealed_answer, sealed_for
from cpns.transport.door import IsKnown
from cpns.transport.electives import TooNew, as_known
from cpns.transport.errors import BUSY, HELD, UNIFORM_REFUSAL, Answer, Hinted, read, to_answer
from cpns.transport.intake import Arrived, Intake, arrived
from cpns.transport.relay import Relay, Sealed
from cpns.transport.waiting import ECHO, Owner, Waiting, wait_on_a_little
from cpns.transport.watch import Passed, Watch
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH, MAX_BODY

_log = logging.getLogger("cpns.transport")

T = TypeVar("T")

_OSCORE: Final = int(Option.OSCORE)
_MAX_AGE: Final = int(Option.MAX_AGE)
MAX_NAMES: Final = 4096
"""Links whose peer the watcher is told by name."""
HELD_PATIENCE: Final = 60.0
"""Seconds more to wait for an answer where the next hop says that it holds the message."""
PAN_RATE: Final = (2000.0, 4000.0)
"""Datagrams a second, and at once, that one host may send."""


class _MayBeForgedError(Exception):
    """An answer that does not fit, and that others than the peer could have sent: dropped, and the next is awaited.

    Its text is the reason.
    """


class Inbound(NamedTuple):
    """A request for this entity.

    Attributes:
        source: the session that protected it, or None.
        link: where it came from, and where requests the other way go.
        path: the first Uri-Path segment.
        echo: what we sent to who claims that address, if it has it; of an unprotected one.
    """

    source: Session | None
    link: "Link"
    path: str
    payload: bytes
    echo: bytes | None = None

    @property
    def party(self) -> Party:
        """Whose share it counts to."""
        return self.link.party(self.source)


Handler = Callable[[Inbound], Awaitable[Answer | None]]
"""Takes a request; None drops it without a word, which is for forgeries on an open PAN."""


class Link:
    """The way to one peer: an address on the PAN, or a connection."""

    __slots__ = ("_endpoint", "remote")

    def __init__(self, endpoint: "Endpoint", remote: Any) -> None:
        self._endpoint = endpoint
        self.remote = remote

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and self.remote == other.remote

    def __hash__(self) -> int:
        return hash(self.remote)

    def __repr__(self) -> str:
        return f"<Link {self.remote!r}>"

    @property
    def _is_connection(self) -> bool:
        """Whether nobody else can say anything on it."""
        return isinstance(self.remote, uplink.Connection)

    @property
    def closed(self) -> bool:
        """Whether a connection is closed; an address never is."""
        return bool(getattr(self.remote, "closed", False))

    @property
    def silence(self) -> float:
        """Seconds since anything came from a connection; 0 for an address."""
        return float(getattr(self.remote, "silence", 0.0))

    def party(self, source: Session | None) -> Party:
        """Return whose share a message under *source* counts to; None: one that nobody proved."""
        host, port = self.remote.source
        if source is None:
            return Party(host, port)
        return Party(host, port, source.peer_id, source.via)

    def keep(self) -> None:
        """The peer has proven itself: its connection may stay."""
        if self._is_connection:
            self.remote.keep()

    def close(self) -> None:
        """Close a connection; an address has nothing to close."""
        if self._is_connection:
            self.remote.close()

    async def request(
        self,
        path: str,
        payload: bytes,
        *,
        timeout: float,  # one deadline over several answers, shortened by a hint
        session: Session | None = None,
        accept: Callable[[Answer], T],
        held: Callable[[], None] = lambda: None,
        echoes: int = 0,
    ) -> T:
        """Send ``POST /path`` and return what *accept* makes of its answer.

        Args:
            path: the resource.
            payload: its body.
            timeout: seconds to wait for an answer that *accept* takes.
            session: protects the request; its peer is the destination.
            accept: judges an answer. Where it raises `Refused` over an unprotected answer from the PAN, that answer
                may be forged: it is dropped and the next is waited for.
            held: is called where the next hop says that it holds the request; the answer is waited for longer then.
            echoes: how often it is sent again, beside the first, with an Echo that the peer asks for.

        Raises:
            NoAnswer: none came that was accepted; `Hinted` where only an unprotected error did.
            Refused: *accept* did so over an answer that nobody else can have sent.
        """
        takes = accept
        if session is not None and path == CPNS_PATH:
            payload, takes = as_known(session, payload, accept)
        why = "no_answer"
        hint: Answer | None = None
        exchange, request_id = self._begin(session, path, payload, echoes)
        last = asyncio.get_running_loop().time() + timeout + HELD_PATIENCE
        try:
            async with asyncio.timeout(timeout) as limit:
                while True:
                    reply = await exchange.next()
                    if session is not None and reply.value(_OSCORE) is None:
                        said = Answer(reply.code, reply.payload)
                        if said == HELD:
                            held()
                            why = "held_without_answer"
                            limit.reschedule(last)
                            continue
                        hint = said
                        wait_on_a_little(limit)
                        continue
                    try:
                        return self._judge(reply, session, request_id, takes)
                    except _MayBeForgedError as dropped:
                        why = str(dropped)
        except TimeoutError:
            raise (NoAnswer(why) if hint is None else Hinted(hint)) from None
        except ConnectionError as error:
            raise NoAnswer("connection_gone") from error
        except TooNew:
            return await self.request(path, payload, timeout=timeout, session=session, accept=accept, held=held)
        finally:
            exchange.close()

    async def ask(
        self,
        message: codec.Message,
        *shapes: type[T],
        timeout: float,  # as `request`
        session: Session | None = None,
        limit: int = MAX_BODY,
    ) -> T:
        """Send a CPNS message; return its answer, which is one of *shapes* and no longer than *limit* bytes.

        Raises:
            Refused: as `request`; with the peer's result where it answers with an error.
        """
        body = codec.encode(message)
        return await self.request(
            CPNS_PATH, body, timeout=timeout, session=session, accept=lambda answer: read(answer, *shapes, limit=limit)
        )

    async def exchange(self, path: str, payload: bytes, *, timeout: float, session: Session | None = None) -> Answer:
        """Send ``POST /path``; return the answer, whatever it says. Raises `NoAnswer`, as `request`."""
        return await self.request(path, payload, timeout=timeout, session=session, accept=lambda answer: answer)

    async def tell(self, message: codec.Message, *, timeout: float, session: Session | None = None) -> None:
        """Send a CPNS message, whatever its answer says. Raises `NoAnswer` where none comes."""
        await self.exchange(CPNS_PATH, codec.encode(message), timeout=timeout, session=session)

    def _begin(
        self, session: Session | None, path: str, payload: bytes, echoes: int
    ) -> tuple[Waiting, RequestId | None]:
        try:
            message, request_id = request_of(session, path, payload)
        except CannotSend as error:
            raise NoAnswer(error.reason) from error
        self._endpoint.passed(self.remote, session, path, payload)
        return self._open(message, echoes), request_id

    def _open(self, message: Message, echoes: int = 0) -> Waiting:
        try:
            return self.remote.open(message, echoes)  # type: ignore[no-any-return]
        except ConnectionError as error:
            raise NoAnswer("connection_gone") from error

    def _judge(
        self, reply: Message, session: Session | None, request_id: RequestId | None, accept: Callable[[Answer], T]
    ) -> T:
        """Return what *accept* makes of *reply*; who could have sent it decides what a refusal means."""
        if session is not None and request_id is not None:
            try:
                inner = oscore.unprotect_response(session, reply, request_id)
            except AuthenticationFailed as error:
                raise _MayBeForgedError(error.reason) from error
            session.confirmed = True
            return accept(Answer(inner.code, inner.payload, inner.uint(_MAX_AGE)))
        try:
            return accept(Answer(reply.code, reply.payload, reply.uint(_MAX_AGE)))
        except Refused as error:
            if self._is_connection:
                raise  # nobody can put a second answer into the connection: this one is final
            raise _MayBeForgedError(error.reason) from error

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """Send a sealed message on, untouched (the relay's way out).

        Raises:
            NoAnswer: nothing came back.
        """
        exchange = self._open(sealed_for(destination, sealed.code, sealed.oscore, sealed.payload))
        return await first_answer(exchange, self._endpoint.relay_timeout, final=self._is_connection)


class Endpoint:
    """See the module.

    Args:
        own_id: the entity that messages must name as destination, or name none.
        sessions: its sessions with the peers on this network.
        handler: takes what is for it.
        relay: takes what is for others; None: nothing is.
        on_lost: is told of a link whose connection is gone.
        watch: is told of every message that this endpoint sends, relayed ones left out.
        requests: how many of others it takes.
        on_excess: is told of a party that was refused inside its session as it went over a share, and of which.
    """

    relay_timeout: float = 30.0
    """Seconds that the next hop has to answer what is relayed: an INVITE waits for the people who are asked."""

    def __init__(
        self,
        own_id: EntityId,
        sessions: Sessions,
        handler: Handler,
        relay: Relay | None = None,
        on_lost: Callable[[Link], None] = lambda link: None,
        watch: Watch | None = None,
        requests: bounds.Requests = bounds.REQUESTS,
        on_excess: Callable[[Party, str], None] = lambda party, what: None,
    ) -> None:
        self.own_id = own_id
        self._sessions = sessions
        self._handler = handler
        self._relay = relay
        self._on_lost = on_lost
        self._watch = watch
        self._on_excess = on_excess
        self._names: dict[Any, str] = {}
        self._owner = Owner(self._receive, self._lost)
        self._uplinks = uplink.Uplinks(self._owner)
        self._intake = Intake(requests, self._begin)
        self._pan: pan.PanSocket | None = None
        self._answering: discovery.Answering | None = None

    async def open_pan(self, host: str, port: int, rate: tuple[float, float] = PAN_RATE, *, roams: bool = False) -> str:
        """Bind a UDP socket, see `pan.open_pan`; return ``host:port``. Raises OSError where it can't be had."""
        self._pan = await pan.open_pan(self._owner, host, port, RateLimit(*rate, time.monotonic), roams=roams)
        return self._pan.hostinfo

    def answer_group(self, answer: discovery.Answerer, limit: RateLimit) -> None:
        """Answer Entity Discovery Requests to the CoAP group, from the PAN's socket; without multicast nothing is."""
        if self._pan is not None:
            self._answering = discovery.Answering(self._pan, answer, limit)

    async def listen(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        shared: bool = False,
        is_known: IsKnown = lambda host: False,
    ) -> tuple[str, int]:
        """Accept TCP connections at *host*:*port* (0: a free one), *tls* below CoAP; return the address bound.

        With *shared*, other processes of ours may listen there too, and the kernel spreads connections over them.
        *is_known* tells whether somebody proved itself from a host before: some places are kept for those. Raises
        OSError where it can't be had.
        """
        return await self._uplinks.listen(host, port, tls, is_known, reuse_port=shared)

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Link:
        """Connect over TCP. Raises OSError where that fails."""
        return Link(self, await self._uplinks.connect(host, port, tls))

    async def links_to(self, host: str, port: int) -> list[Link]:
        """Return a link to each address of *host*, the likeliest first. Raises OSError where it has none."""
        if self._pan is None:
            raise OSError("no PAN socket is open")
        return [Link(self, remote) for remote in await self._pan.ways_to(host, port)]

    async def link_to(self, host: str, port: int) -> Link:
        """Return the likeliest of `links_to`."""
        return (await self.links_to(host, port))[0]

    async def link_between(self, own: str, there: str) -> Link | None:
        """Return the link from *own* to *there*, each ``host:port``; None: we are at *own* no more."""
        way = None if self._pan is None else await self._pan.way_between(own, there)
        return None if way is None else Link(self, way)

    async def close(self) -> None:
        """Close sockets and connections, and end what is being worked on. May be called again."""
        self._intake.close()
        if self._answering is not None:
            self._answering.close()
        if self._pan is not None:
            await self._pan.shutdown()
        await self._uplinks.close()

    def name(self, link: Link, entity: str) -> None:
        """Say who *link* is believed to lead to; for the watcher alone."""
        if self._watch is not None:
            self._names[link.remote] = entity
            if len(self._names) > MAX_NAMES:
                del self._names[next(iter(self._names))]

    def passed(self, remote: Any, session: Session | None, path: str, payload: bytes) -> None:
        """Tell the watcher, if there is one, of a message that leaves."""
        if self._watch is None:
            return
        peer = session.peer_id if session is not None else self._names.get(remote, repr(remote))
        self._watch(Passed(self.own_id, peer, name_of(path, payload), session.profile.value if session else "-"))

    def _lost(self, remote: Any) -> None:
        self._names.pop(remote, None)
        if isinstance(remote, uplink.Connection):
            self._on_lost(Link(self, remote))

    def _receive(self, remote: Any, request: RequestArrived) -> None:
        self._intake.put(arrived(remote, request, self.own_id, self._sessions))

    def _begin(self, turn: Turn[Arrived]) -> float:
        """Open the request whose turn it is and have it handled, or refuse it; return what its handling costs."""
        link = Link(self, turn.item.remote)
        try:
            return self._open(turn, link)
        except Exception:
            turn.done()
            _log.error("a request could not be taken", exc_info=True, extra=by(link.party(None)))
            return 0.0

    def _open(self, turn: Turn[Arrived], link: Link) -> float:
        request, to, session, said = turn.item.request.message, turn.item.to, turn.item.session, turn.item.said
        if session is not None:
            session = self._sessions.of_kid(session.own_kid)  # it may have ended meanwhile
        if turn.refused and (to is not None or session is None):
            self._refuse(turn, None if isinstance(link.remote, pan.PanAddress) else response_of(BUSY))
            return 0.0
        if to is not None:
            self._intake.work(turn, self._relayed(turn.item, link, to))
            return costs.RELAYED
        if session is None or said is None:
            if request.value(_OSCORE) is not None:
                self._refuse(turn, response_of(UNIFORM_REFUSAL))
                return 0.0
            path = path_of(request)
            inbound = Inbound(None, link, path, request.payload, request.value(ECHO))
            self._intake.work(turn, self._answered(turn.item, inbound))
            return costs.handled(path, request.payload)
        try:
            inner, request_id = oscore.unprotect_request(session, said, request.payload)
        except AuthenticationFailed:
            self._refuse(turn, response_of(UNIFORM_REFUSAL))
            return 0.0
        session.confirmed = True
        if turn.refused:
            self._went_over(link.party(session), "too_many_requests")
        refusal = BUSY if turn.refused else refusal_of(inner)
        if refusal is not None:
            self._refuse(turn, response_of(refusal, session, request_id))
            return 0.0
        path = path_of(inner)
        self._intake.work(turn, self._answered(turn.item, Inbound(session, link, path, inner.payload), request_id))
        return costs.handled(path, inner.payload)

    def _refuse(self, turn: Turn[Arrived], response: Message | None) -> None:
        turn.done()
        self._respond(turn.item, response)

    def _respond(self, to: Arrived, response: Message | None) -> None:
        if response is None:
            return
        try:
            to.remote.respond(to.request, response)
        except ConnectionError:  # it is gone, and with it who asked
            pass

    async def _answered(self, request: Arrived, inbound: Inbound, request_id: RequestId | None = None) -> None:
        acting.set(inbound.link.party(inbound.source))
        answer: Answer | None
        try:
            answer = await self._handler(inbound)
            if answer is not None and len(answer.payload) > MAX_BODY:
                raise ValueError(f"an answer of {len(answer.payload)} bytes is longer than a body")
        except Exception as error:
            answer = self._failed(inbound, error)
        if answer is None:
            return
        if self._watch is not None:
            self.passed(inbound.link.remote, inbound.source, f"{inbound.path} answered", answer.payload)
        try:
            self._respond(request, response_of(answer, inbound.source, request_id))
        except Exception:
            _log.error("a request could not be answered", exc_info=True, extra=by(inbound.party))

    def _failed(self, inbound: Inbound, error: Exception) -> Answer:
        if not isinstance(error, CpnsError):
            _log.error("a handler failed", exc_info=error, extra=by(inbound.party))
        elif inbound.source is not None and isinstance(error, Refused) and error.result is Result.TOO_MANY:
            self._went_over(inbound.party, error.reason)
        return to_answer(error, protected=inbound.source is not None)

    def _went_over(self, party: Party, what: str) -> None:
        _log.warning("%s goes over its share: %s; it is told to wait", party.entity, what, extra=by(party, what))
        self._on_excess(party, what)

    async def _relayed(self, relayed: Arrived, link: Link, to: str) -> None:
        request = relayed.request.message
        if self._relay is None:
            return self._respond(relayed, response_of(UNIFORM_REFUSAL))

        def held() -> None:
            self._respond(relayed, response_of(HELD))  # ahead of the last answer

        def back(answer: Sealed) -> None:
            self._respond(relayed, sealed_answer(answer.code, answer.oscore, answer.payload))

        try:
            answer = await self._relay.forward(link, link.party(None).host, to, sealed_in(request), held)
        except CpnsError as error:
            return self._respond(relayed, response_of(to_answer(error, protected=False)))
        back(answer)
        if answer.more is not None:
            answer.more(back)
