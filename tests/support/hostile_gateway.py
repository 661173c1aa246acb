"""A PN GW gone bad: the gateway's own code, its own valid key, and a hook at every message that passes it.

    PNE --FROM_PNE--> [ gateway's own code ] --TO_SERVER--> server
    PNE <--TO_PNE---- [                    ] <-FROM_SERVER- server

A hook sees each CPNS message once on its way in and once on its way out and may return another one. What the gateway
sends thus need not be what it believes, and what it believes need not be what it got: it gets past its own checks.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from cpns.coap.message import Message
from cpns.errors import NoAnswer
from cpns.gateway.app import Gateway
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import Answer, Code
from cpns.transport.intake import Arrived
from cpns.transport.relay import Carrier, Sealed
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH
from tests.support.tap import body_of


class Way(Enum):
    """Which leg, and which direction."""

    FROM_PNE = "from pne"
    TO_PNE = "to pne"
    TO_SERVER = "to server"
    FROM_SERVER = "from server"


IN = {"pan": Way.FROM_PNE, "uplink": Way.FROM_SERVER}
OUT = {"pan": Way.TO_PNE, "uplink": Way.TO_SERVER}

Hook = Callable[[Way, str, Any], Any]
"""Takes the way, the PNE that the message is of (empty on the uplink), and the message; returns what goes on."""
Seal = Callable[[bool, str, Sealed], Sealed]
"""Takes whether it is a request, its destination, and a sealed message on its way through; returns what goes on."""

NAMED = ("entity_id", "sender", "member", "pne_id")
"""What a message calls who says it."""

Before = Callable[[Any], Awaitable[None]]
"""Is awaited before a message that the gateway itself begins with is sent."""


def unchanged(way: Way, peer: str, body: Any) -> Any:
    return body


class _Link(Link):
    """A link of the hostile gateway: what it sends and the answers it gets pass the hook."""

    __slots__ = ("edge", "gateway")

    def __init__(self, link: Link, gateway: "HostileGateway", edge: str) -> None:
        super().__init__(link._endpoint, link.remote)
        self.gateway = gateway
        self.edge = edge

    async def request(self, path: str, payload: bytes, *, accept: Any, **options: Any) -> Any:
        if path != CPNS_PATH:
            return await super().request(path, payload, accept=accept, **options)

        def taken(answer: Answer) -> Any:
            return accept(self.gateway.hooked(IN, self.edge, self, answer) if answer.ok else answer)

        if self.gateway.before is not None:
            await self.gateway.before(body_of(payload))
        payload = self.gateway.hooked(OUT, self.edge, self, Answer(0, payload)).payload
        return await super().request(path, payload, accept=taken, **options)


class HostileGateway(Gateway):
    """See the module. `log` has all that passed, before the hook."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hook: Hook = unchanged
        self.seal: Seal | None = None
        self.before: Before | None = None
        self.log: list[tuple[Way, str, Any]] = []
        self.twice: dict[type[Any], str] = {}
        self.links: dict[str, Link] = {}
        self._names: dict[Any, str] = {}
        self._wrap(self._upward, "uplink")
        for pan in self.pans:
            self._wrap(pan.endpoint, "pan")
        connect = self._upward.connect

        async def connected(host: str, port: int, tls: Any = None) -> Link:
            return _Link(await connect(host, port, tls), self, "uplink")

        self._upward.connect = connected  # type: ignore[method-assign]

    def _wrap(self, endpoint: Endpoint, edge: str) -> None:
        handler = endpoint._handler

        async def handle(inbound: Inbound) -> Answer | None:
            link = _Link(inbound.link, self, edge)
            if inbound.path != CPNS_PATH:
                return await handler(inbound._replace(link=link))
            body = body_of(inbound.payload)
            name = next((one for key in NAMED if (one := getattr(body, key, None)) is not None), None)
            if edge == "pan" and name is not None:
                self._names[inbound.link.remote] = name
                self.links[name] = inbound.link
            payload = self.hooked(IN, edge, link, Answer(0, inbound.payload)).payload
            answer = await handler(inbound._replace(link=link, payload=payload))
            return self.hooked(OUT, edge, link, answer) if answer is not None and answer.ok else answer

        endpoint._handler = handle
        relay = endpoint._relay
        if relay is not None:
            route = relay._route

            def hooked(destination: str) -> Carrier | None:
                carrier = route(destination)
                return None if carrier is None else _Carrier(self, carrier)

            relay._route = hooked
        respond = endpoint._respond

        def respond_twice(to: Arrived, response: Message | None) -> None:
            """Send an answer; where two are to come, one of them with its last byte changed."""
            order = None if response is None else self.twice.get(type(body_of(response.payload)))
            if order is None or response is None:
                respond(to, response)
                return
            forged = response._replace(payload=bytes(flip(response.payload) or b""))
            for one in (forged, response) if order == "forged first" else (response, forged):
                respond(to, one)

        endpoint._respond = respond_twice  # type: ignore[method-assign]

    def hooked(self, ways: dict[str, Way], edge: str, link: Link, answer: Answer) -> Answer:
        """Return *answer* with the CPNS message in it as the hook wants it."""
        body = body_of(answer.payload)
        if body is None:
            return answer
        way, name = ways[edge], self._names.get(link.remote, "")
        self.log.append((way, name, body))
        changed = self.hook(way, name, body)
        return answer if changed is body else Answer(answer.code or Code.CHANGED, codec.encode(changed))

    def heard(self, way: Way, shape: type[Any], peer: str = "") -> list[Any]:
        """Return the messages of one type that passed on one way."""
        return [body for w, name, body in self.log if w is way and type(body) is shape and name.startswith(peer)]


class _Carrier:
    """The relay's way, with the hook at both messages."""

    def __init__(self, gateway: HostileGateway, carrier: Carrier) -> None:
        self._gateway = gateway
        self._carrier = carrier

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        seal = self._gateway.seal
        if seal is None:
            return await self._carrier.carry(destination, sealed)
        answer = await self._carrier.carry(destination, seal(True, destination, sealed))
        return seal(False, destination, answer)


def changes(way: Way, shape: type[Any], peer: str = "alice", **fields: Any) -> Hook:
    """Return a hook that changes fields of one message of one PNE; a function of the old value, or a new value."""

    def hook(at: Way, name: str, body: Any) -> Any:
        if at is not way or type(body) is not shape or (name and name != peer):
            return body
        return altered(body, **fields)

    return hook


def lost(peer: str, *shapes: type[Any]) -> Hook:
    """Return a hook that loses messages to one PNE, as it is when its timer has run out, but at once."""

    def hook(at: Way, name: str, body: Any) -> Any:
        if at is Way.TO_PNE and name == peer and type(body) in shapes:
            raise NoAnswer("lost")
        return body

    return hook


def altered(body: Any, **fields: Any) -> Any:
    """Return *body* with *fields* changed, each by a function of its old value or to a new value."""
    return replace(body, **{k: v(getattr(body, k)) if callable(v) else v for k, v in fields.items()})


def entries(body: Any, peer: str, **fields: Any) -> Any:
    """Return *body* with *fields* changed in the entry of one PNE."""
    return replace(body, entries=tuple(altered(e, **fields) if e.entity_id == peer else e for e in body.entries))


def in_entry(way: Way, shape: type[Any], peer: str = "alice", **fields: Any) -> Hook:
    """Return a hook that changes fields in one PNE's entry of a message on the uplink."""

    def hook(at: Way, name: str, body: Any) -> Any:
        return entries(body, peer, **fields) if at is way and type(body) is shape else body

    return hook


def together(*hooks: Hook) -> Hook:
    """Return one hook that does what all do, in order."""

    def hook(way: Way, name: str, body: Any) -> Any:
        for one in hooks:
            body = one(way, name, body)
        return body

    return hook


def flip(value: bytes | None) -> bytes | None:
    """Change one bit."""
    return None if value is None else value[:-1] + bytes([value[-1] ^ 1])


def entry(body: Any, peer: str) -> Any:
    """Return one PNE's entry."""
    return next(one for one in body.entries if one.entity_id == peer)
