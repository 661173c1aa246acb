"""The stage of the hostile tests: a gateway gone bad, bob who has joined through it, and what must stay true."""

import contextlib
from typing import Any

from cpns.errors import NoAnswer
from cpns.ids import EntityId
from cpns.pne.app import Pne
from tests.support.hostile_gateway import HostileGateway
from tests.support.tap import settled
from tests.support.world import SERVER, World, push_of

EVIL = EntityId("evil")


async def stage(
    here: World, *, secure: bool = False, gateway: dict[str, Any] | None = None, **server: Any
) -> tuple[HostileGateway, Pne]:
    """Return the gateway gone bad, still behaving, and bob, who has joined through it."""
    await here.start_server(half_open=0.8, **server)
    options = {"answer_timeout": 1.0, "suite": 2, **(gateway or {})}
    evil = await here.start_gateway("evil", kind=HostileGateway, secure=secure, **options)
    bob = await here.start_pne("bob", evil, pan_secure=secure)
    await settled(bob)
    return evil, bob


async def comes_in(pne: Pne) -> None:
    """Let *pne* set up; a machine that does much else may take more than its short time, so it tries again."""
    for _ in range(4):
        with contextlib.suppress(NoAnswer):
            await pne.establish()
            return
    await pne.establish()


async def unharmed(here: World, bob: Pne) -> None:
    """Show that the traffic of a PNE that was not attacked goes on, both ways."""
    before = len(await here.store.readings(0, 1000, bob.config.pne_id))
    await bob.send(bob.next_reading({"n": before}))
    assert len(await here.store.readings(0, 1000, bob.config.pne_id)) == before + 1
    assert await here.server.sending.send(bob.config.pne_id, "inbox", push_of("hi")) == "bob got hi"


def views_agree(here: World, evil: HostileGateway, pne: Pne) -> None:
    """Whatever *pne* accepted, server and gateway accepted with the same IDs and keys."""
    name = pne.config.pne_id
    end, hop = pne.sessions.with_peer(SERVER), pne.sessions.with_peer(EVIL)
    theirs = here.server.sessions.with_peer(name)
    if end is not None and theirs is not None:
        assert (end.keys.th2, end.via) == (theirs.keys.th2, theirs.via)
    if pne.joined is not None:
        held = evil.members.get(name)
        assert held is not None
        assert (pne.joined.gateway_id, pne.joined.local_eukey) == (EVIL, held.local_eukey)
    assert pne.sessions.with_peer(EntityId("home")) is None
    assert hop is None or hop.peer_id == EVIL


def watch_refusals(pne: Pne, into: list[str]) -> None:
    """Keep every reason for which *pne* drops a message, in order."""

    class Watched(type(pne._join)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)
            if name == "last_refusal" and value:
                into.append(value)

    pne._join.__class__ = Watched
