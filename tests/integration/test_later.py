"""A made-up later version, which says more by elective labels, beside this one and beside the commit before.

What it says in M1 and M2 is bound to the run; in a message to a group it is sealed. Peers of this version pass over it.
Older ones refuse it: behind them it comes in after one failed try, without.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest

from cpns.errors import Refused, WireError
from cpns.session.table import Session
from cpns.transport.errors import Answer, Code
from cpns.wire import application, codec
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.declare import Electives
from cpns.wire.registry import CPNS_PATH, JoinPolicy
from tests.support import versions
from tests.support.groups import all_have
from tests.support.hostile_gateway import HostileGateway, Way
from tests.support.later import MORE
from tests.support.versions import LATER_MIXES, Mix, Site
from tests.support.world import FAST, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


ANSWER: Electives = ((210, True),)


@pytest.fixture
def later_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages to groups say more, too."""
    say = application.encode_group_text
    monkeypatch.setattr(application, "encode_group_text", lambda said: say(said, MORE))


# this version's peers


async def test_electives_go_through_all_of_a_setup_and_bind(here: World, later_texts: None) -> None:
    """A later PNE, through a later PN GW, with a later server; each message has what its sender said."""
    await here.start_server(electives=ANSWER)
    gateway = await here.start_gateway("gw-1", kind=HostileGateway, electives=MORE)
    assert gateway.heard(Way.FROM_SERVER, m.LinkChallengeFromServer)[-1].electives == ANSWER
    alice = await here.joined_pne("alice", gateway, electives=MORE, **FAST)
    bob = await here.joined_pne("bob", gateway, **FAST)  # of this version
    assert gateway.heard(Way.FROM_PNE, m.SetupRequest, "alice")[-1].electives == MORE
    up = {e.entity_id: e for one in gateway.heard(Way.TO_SERVER, m.GatewaySetupRequest) for e in one.entries}
    down = {e.entity_id: e for one in gateway.heard(Way.FROM_SERVER, m.GatewayChallenge) for e in one.entries}
    assert [up[name].electives for name in ("alice", "bob")] == [MORE, ()]
    assert [down[name].electives for name in ("alice", "bob")] == [ANSWER, ()]
    assert gateway.heard(Way.TO_PNE, m.Challenge, "alice")[-1].electives == ANSWER
    assert gateway.heard(Way.FROM_PNE, m.ActivateRequest, "alice")[-1].electives == MORE
    assert gateway.heard(Way.TO_PNE, m.LinkChallengeFromGateway, "alice")[-1].electives == MORE
    await alice.send(alice.next_reading({"n": 1}))
    sg_id, _ = await alice.groups.create("family", JoinPolicy.OPEN)
    await bob.groups.join(sg_id)
    await all_have(here, sg_id, alice, bob)
    await alice.messages.send(sg_id, "tea?")
    await until(lambda: [one.text for one in here.said["bob"]] == ["tea?"])


async def test_a_later_device_with_parties_of_this_version(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kind=HostileGateway)
    pne = await here.joined_pne("alice", gateway, electives=MORE, **FAST)
    await pne.send(pne.next_reading({"n": 1}))
    assert len(gateway.heard(Way.FROM_PNE, m.SetupRequest, "alice")) == 1  # at the first try
    assert gateway.heard(Way.TO_PNE, m.Challenge, "alice")[-1].electives == ()


Changed = tuple[Way, type[Any], Any]
"""Where, in which message, and what stands there then."""
STRIPPED: dict[str, list[Changed]] = {
    "M1 at the PN GW": [(Way.FROM_PNE, m.SetupRequest, ())],
    "M1 on its way up": [(Way.TO_SERVER, m.SetupEntry, ())],
    "added to M1": [(Way.TO_SERVER, m.SetupEntry, (*MORE, (400, 1)))],
    "changed in M1": [(Way.FROM_PNE, m.SetupRequest, ((200, 8), *MORE[1:]))],
    "M2 on its way down": [(Way.FROM_SERVER, m.ChallengeEntry, ())],
    "M2 at the PNE": [(Way.TO_PNE, m.Challenge, ())],
    "added to M2": [(Way.TO_PNE, m.Challenge, (*ANSWER, (400, 1)))],
    "moved from M1 to M2": [(Way.FROM_PNE, m.SetupRequest, MORE[1:]), (Way.TO_PNE, m.Challenge, (MORE[0], *ANSWER))],
    "moved from M2 to M1": [(Way.TO_SERVER, m.SetupEntry, (*MORE, *ANSWER)), (Way.TO_PNE, m.Challenge, ())],
    "M1 of the hop": [(Way.FROM_PNE, m.ActivateRequest, ())],
    "M2 of the hop": [(Way.TO_PNE, m.LinkChallengeFromGateway, ())],
}


def put(body: Any, kind: type[Any], electives: Electives) -> Any:
    """Return *body* with *electives* in it, or in its entries, where these are of that *kind*."""
    if isinstance(body, kind):
        return replace(body, electives=tuple(sorted(electives)))
    entries = getattr(body, "entries", None)
    if entries and isinstance(entries[0], kind):
        return replace(body, entries=tuple(put(one, kind, electives) for one in entries))
    return body


@pytest.mark.parametrize("how", STRIPPED)
async def test_who_strips_adds_or_moves_one_is_refused(here: World, how: str) -> None:
    """A PN GW, or a man in the middle: no session comes of it. Undisturbed it comes in."""
    await here.start_server(electives=ANSWER)
    gateway = await here.start_gateway("gw-1", kind=HostileGateway, electives=ANSWER, answer_timeout=0.6)
    done: list[Any] = []

    def hook(way: Way, peer: str, body: Any) -> Any:
        for at, kind, electives in STRIPPED[how]:
            if at is way and (changed := put(body, kind, electives)) != body:
                done.append(changed)
                body = changed
        return body

    gateway.hook = hook
    pne = await here.make_pne("alice", gateway, electives=MORE, **{**FAST, "timer": 1.0})
    pne._join._says.failed = lambda: None  # type: ignore[method-assign]  # it insists
    pne._join._says_in_hop.failed = lambda: None  # type: ignore[method-assign]
    link = await pne._finder.link()

    async def establish() -> None:
        joined, _ = await pne._join.setup(link, pne._staying.wanted(link))
        await pne._join.hop(link, joined)

    with pytest.raises(Refused):
        await establish()
    assert done
    gateway.hook = lambda way, peer, body: body
    await establish()


# in a session: after a protected 10, without


async def test_a_peer_that_knows_none_hears_the_same_without_them(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked a second time with them in that session; anything else that it refuses stays refused."""
    server = await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("alice", gateway, **FAST)
    heard: list[bool] = []
    honest = server.from_pne.take

    async def older(asker: Session, body: bytes) -> Any:
        if codec.parse(body)[0] == pm.InventoryRequest.TYPE:  # it says other things by itself
            heard.append(codec.has_electives(body))
        if codec.has_electives(body):
            raise WireError("unknown_label")
        return await honest(asker, body)

    monkeypatch.setattr(server.from_pne, "take", older)
    link, session = pne._way.link, pne._way.session
    assert link is not None
    assert session is not None

    async def ask(body: bytes) -> Answer:
        return await link.exchange(CPNS_PATH, body, timeout=5, session=session)

    grown = cbor2.dumps([pm.InventoryRequest.TYPE, {200: 7}])
    for _ in range(2):
        assert (await ask(grown)).code == Code.CHANGED
    assert heard == [True, False, False]
    assert session.plain
    assert (await ask(cbor2.dumps([pm.InventoryRequest.TYPE, {127: 7}]))).code == Code.BAD_REQUEST


# the commit before: processes


@pytest.mark.skipif(not versions.in_history(), reason=versions.ABSENT)
@pytest.mark.parametrize("mix", [mix for mix in LATER_MIXES if mix.server == "old"], ids="-".join)
def test_a_later_version_behind_older_ones(mix: Mix, tmp_path: Path) -> None:
    """It comes in after one failed try, and speaks to a group of its own kind. `make versions` has all mixes."""
    of = versions.all_of_them()
    site = Site(tmp_path, *(of[name] for name in mix))
    try:
        site.establish()
        site.group_message()
        failed = [line for process in (site._ann, site._ben) for line in process.err if "not established" in line]
        assert len(failed) == (2 if mix.pne == "later" else 0), failed
        site.end()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.said()}") from error
    finally:
        site.close()
