"""Personal networks in the server's store: who is let in, what a decision changes, what is told of it; and pushes."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, text

from cpns.domain import membership
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.inventory import HeldMember, HeldThrough, KeptPush, Kind, Outcome, Revocation, State
from cpns.domain.member_list import Policy, Standing
from cpns.domain.membership import Places, Rule
from cpns.domain.network import Admission, Edit, Edited, Inventory, Network, Place, Present, Waiting
from cpns.errors import Conflict, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.server.networks.actions import NetworkActions
from cpns.server.networks.delivery import NetworkDelivery
from cpns.server.peers.gateways import Gateways
from cpns.server.peers.presence import Presences
from cpns.service.cluster import Alone
from cpns.session.table import Session, Sessions
from cpns.store import network_queries, waiting_queries
from cpns.store.gateway_store import GatewayStore
from cpns.store.server_store import ServerStore
from cpns.wire import codec
from cpns.wire import pn_messages as pm
from tests.support.stores import Location, Row, make_store_of, traced
from tests.support.world import CLOCK
from tests.unit.test_store import GW1, GW2, PN1, PN2, establishment, members_of, named, new, pne, present, refused

M = TypeVar("M")

PN3 = PnId("pn-3")
MEMBER = Admission(Result.SUCCESS, standing=Standing.MEMBER)
PENDING = Admission(Result.PENDING_APPROVAL, "pending_approval", Standing.PENDING)
NOT_LISTED = Admission(Result.POLICY, "not_on_the_member_list")
BARRED = Admission(Result.NOT_ALLOWED, "barred")
GUEST = Admission(Result.SUCCESS)


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    store = ServerStore.open(place)
    await store.add_entities(
        [new(GW1, Kind.GATEWAY), new(GW2, Kind.GATEWAY), *(new(pne(number)) for number in range(1, 8))], OPERATOR
    )
    yield store
    await store.close()


async def edit(store: ServerStore, rule: Rule, *subjects: EntityId, pn_id: PnId = PN1, by: Actor = OPERATOR) -> Edited:
    return await store.edit(pn_id, subjects, rule, 500.0, by, known=True)


async def expel(store: ServerStore, *whom: EntityId, actor: Actor = OPERATOR, pn_id: PnId = PN1) -> Edited:
    rule = partial(membership.expel, whom=whom, at=500.0)
    return await edit(store, rule, *whom, pn_id=pn_id, by=actor)


async def invite(store: ServerStore, *whom: EntityId, pn_id: PnId = PN1) -> Edited:
    return await edit(store, partial(membership.invite, whom=whom), *whom, pn_id=pn_id)


async def approve(store: ServerStore, whom: EntityId, *, pn_id: PnId = PN1) -> Edited:
    return await edit(store, partial(membership.approve, pne=whom), whom, pn_id=pn_id)


async def leave(store: ServerStore, whom: EntityId, *, pn_id: PnId = PN1) -> Edited:
    return await edit(store, membership.leave, pn_id=pn_id, by=Actor(Role.PNE, whom))


async def shown(store: ServerStore, pn_id: PnId = PN1) -> Inventory:
    found = await store.inventory(pn_id)
    assert found is not None
    return found


async def version(store: ServerStore, pn_id: PnId = PN1) -> int:
    return (await shown(store, pn_id)).network.version


async def listed(store: ServerStore, pn_id: PnId = PN1) -> dict[EntityId, Standing]:
    return dict((await shown(store, pn_id)).listed)


def who(row: Outcome) -> EntityId | None:
    """Return through which PN GW something came, else who did it; None: an operator, or the server."""
    return row.via or row.actor.entity_id


async def events(store: ServerStore, name: str) -> list[tuple[str, EntityId | None, Result, str]]:
    """Return what is in the audit log of one entity or PN, oldest first, without its provisioning and what it owns."""
    rows = [row for row in await store.audit(EntityId(name), 99) if row.event not in ("provisioned", "pn_owned")]
    return [(row.event, who(row), row.result, row.reason) for row in reversed(rows)]


# --- establishment


async def test_the_first_that_comes_owns_the_pn(store: ServerStore) -> None:
    found = await store.establish(establishment(PN1, GW1, pne(3), pne(1), alias="home", policy=Policy.CLOSED))
    network = Network(PN1, GW1, "home", pne(3), Policy.CLOSED, 1, 200.0)
    assert found.network == network
    assert found.admissions == {pne(3): MEMBER, pne(1): MEMBER}  # whatever the policy: nobody could approve of them
    assert (found.joined, found.left) == ((pne(3), pne(1)), ())
    assert await store.network(PN1) == network
    assert await shown(store) == Inventory(network, (present(pne(1)), present(pne(3))), ())
    assert await store.membership(pne(3)) == (PN1, present(pne(3)))
    assert [*await store.networks_of(GW1)] == [PN1]


async def test_what_is_not_there_is_none(store: ServerStore) -> None:
    assert await store.network(PN1) is None
    assert await store.inventory(PN1) is None
    assert await store.membership(pne(1)) is None
    assert await store.networks() == []
    assert await store.members_page(PN1, "", 9) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(Policy.OPEN, MEMBER), (Policy.APPROVAL, PENDING), (Policy.CLOSED, NOT_LISTED)],
)
async def test_the_policy_decides_on_who_is_not_listed(store: ServerStore, policy: Policy, expected: Admission) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=policy))
    found = await store.establish(establishment(PN1, GW1, pne(1), pne(2), at=300.0))
    assert found.admissions == {pne(1): MEMBER, pne(2): expected}
    let_in = expected.result is Result.SUCCESS
    assert found.joined == ((pne(2),) if let_in else ())
    assert found.network is not None
    assert found.network.version == await version(store) == (2 if let_in else 1)
    assert await members_of(store) == {PN1: [pne(1), pne(2)] if let_in else [pne(1)]}
    assert await listed(store) == ({pne(2): Standing.PENDING} if expected is PENDING else {})
    event = "pne_established" if let_in else "refused"
    assert await events(store, pne(2)) == [(event, GW1, expected.result, expected.reason)]


async def test_the_policy_is_that_of_the_pn_and_not_of_the_setup(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.CLOSED))
    found = await store.establish(establishment(PN1, GW1, pne(2), policy=Policy.OPEN))
    assert found.admissions == {pne(2): NOT_LISTED}
    assert (await shown(store)).network.policy is Policy.CLOSED


async def test_one_that_has_a_home_elsewhere_is_a_guest(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    await store.establish(establishment(PN2, GW2, pne(3)))
    found = await store.establish(establishment(PN2, GW2, pne(2), at=300.0))
    assert found.admissions == {pne(2): GUEST}
    assert (await shown(store, PN2)).members == (present(pne(2), 300.0, guest=True), present(pne(3)))
    assert await store.membership(pne(2)) == (PN2, present(pne(2), 300.0, guest=True))
    assert await listed(store) == {pne(2): Standing.MEMBER}
    assert await store.home(pne(2)) == (PN1, GW1)
    assert [await store.home(one) for one in (pne(1), pne(3), pne(4))] == [None] * 3  # at home, and nowhere

    again = await store.establish(establishment(PN2, GW2, pne(2), at=400.0))  # a guest stays one
    assert (again.admissions, again.joined) == ({pne(2): GUEST}, ())
    back = await store.establish(establishment(PN1, GW1, pne(2), at=500.0))
    assert back.admissions == {pne(2): MEMBER}
    assert (await shown(store)).members == (present(pne(1)), present(pne(2), 500.0))
    assert await members_of(store) == {PN1: [pne(1), pne(2)], PN2: [pne(3)]}
    assert await store.home(pne(2)) is None


async def test_the_home_of_a_guest_is_where_it_became_a_member_last(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.establish(establishment(PN2, GW2, pne(2)))
    await invite(store, pne(1), pn_id=PN2)
    await store.establish(establishment(PN2, GW2, pne(1), at=600.0))
    assert await store.home(pne(1)) is None  # a member here
    await store.establish(establishment(PN3, GW1, pne(3), at=610.0))
    await store.establish(establishment(PN3, GW1, pne(1), at=620.0))
    assert await store.home(pne(1)) == (PN2, GW2)


async def test_a_founder_with_a_home_elsewhere_has_two(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    found = await store.establish(establishment(PN2, GW2, pne(1)))
    assert found.admissions == {pne(1): MEMBER}
    assert (await shown(store, PN2)).members == (present(pne(1)),)
    assert await listed(store) == {pne(1): Standing.MEMBER}


async def test_one_that_is_barred_stays_out_of_this_pn_alone(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    await expel(store, pne(2))
    found = await store.establish(establishment(PN1, GW1, pne(2)))
    assert found.admissions == {pne(2): BARRED}
    assert await members_of(store) == {PN1: [pne(1)]}
    assert await listed(store) == {pne(2): Standing.BARRED}
    assert (await events(store, pne(2)))[-1] == ("refused", GW1, Result.NOT_ALLOWED, "barred")
    assert (await store.establish(establishment(PN2, GW2, pne(2)))).admissions == {pne(2): MEMBER}


async def test_one_that_is_invited_comes_whatever_the_policy(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.CLOSED))
    await invite(store, pne(2))
    assert await listed(store) == {pne(2): Standing.INVITED}
    found = await store.establish(establishment(PN1, GW1, pne(2), at=600.0))
    assert found.admissions == {pne(2): MEMBER}
    assert (await shown(store)).members == (present(pne(1)), present(pne(2), 600.0))


async def test_one_that_waits_goes_on_waiting_until_it_is_approved(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.APPROVAL))
    for at in (300.0, 310.0):
        found = await store.establish(establishment(PN1, GW1, pne(2), at=at))
        assert found.admissions == {pne(2): PENDING}
        assert await members_of(store) == {PN1: [pne(1)]}
    edited = await approve(store, pne(2))
    assert await listed(store) == {pne(2): Standing.MEMBER}  # it may come, and is not there before it does
    assert edited.after.version == await version(store) == 2
    found = await store.establish(establishment(PN1, GW1, pne(2), at=600.0))
    assert (found.admissions, found.joined) == ({pne(2): MEMBER}, (pne(2),))
    assert (await shown(store)).members == (present(pne(1)), present(pne(2), 600.0))
    assert [event for event, *_ in await events(store, pne(2))] == ["refused", "approved", "pne_established"]
    assert (await store.audit(pne(2), 3))[2].times == 2


async def test_who_waits_is_still_where_it_was(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.APPROVAL))
    await store.establish(establishment(PN2, GW2, pne(2)))
    found = await store.establish(establishment(PN1, GW1, pne(2), at=300.0, moved_from={pne(2): GW2}))
    assert (found.admissions, found.joined, found.left) == ({pne(2): PENDING}, (), ())
    assert await store.membership(pne(2)) == (PN2, present(pne(2)))
    assert [event for event, *_ in await events(store, pne(2))] == ["pne_established", "refused"]


async def test_those_that_move_are_gone_from_where_they_were(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2), pne(3)))
    await store.establish(establishment(PN3, GW1, pne(4)))
    moved = {pne(2): GW1, pne(3): GW1, pne(4): GW1}
    found = await store.establish(establishment(PN2, GW2, *moved, pne(5), at=300.0, moved_from=moved))
    assert found.joined == (pne(2), pne(3), pne(4), pne(5))
    assert found.left == (
        (Network(PN1, GW1, None, pne(1), Policy.OPEN, 2, 200.0), (pne(2), pne(3))),
        (Network(PN3, GW1, None, pne(4), Policy.OPEN, 2, 200.0), (pne(4),)),
    )
    assert await members_of(store) == {PN1: [pne(1)], PN2: [pne(2), pne(3), pne(4), pne(5)], PN3: []}
    assert [await version(store, pn) for pn in (PN1, PN2, PN3)] == [2, 1, 2]
    assert (await events(store, pne(2)))[-2:] == [
        ("pne_moved", GW2, Result.SUCCESS, "from gw-1"),
        ("pne_established", GW2, Result.SUCCESS, ""),
    ]
    assert [event for event, *_ in await events(store, pne(5))] == ["pne_established"]


async def test_members_that_set_up_again_change_nothing_but_what_is_known_of_them(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    before = await shown(store)
    again = establishment(PN1, GW1, pne(2), pne(1), at=300.0)
    with traced(store) as ran:
        await store.establish(again)
    tables = {line.split()[2] for line in ran if line.startswith(("INSERT", "DELETE"))}
    assert tables == {"audit", "events", "held_through"}
    assert {line.split()[1] for line in ran if line.startswith("UPDATE")} == {"last_results"}
    assert await shown(store) == before
    found = await store.establish(again)
    assert (found.network, found.joined, found.left) == (before.network, (), ())
    assert found.admissions == {pne(2): MEMBER, pne(1): MEMBER}
    assert [event for event, *_ in await events(store, pne(1))] == ["pne_established"] * 3


async def test_one_new_among_members_is_the_one_that_joined(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    found = await store.establish(establishment(PN1, GW1, pne(1), pne(2), at=300.0))
    assert found.joined == (pne(2),)
    assert (await shown(store)).members == (present(pne(1)), present(pne(2), 300.0))
    assert await version(store) == 2


async def test_a_pan_that_turns_secure_is_noted(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), secure=False))
    found = await store.establish(establishment(PN1, GW1, pne(1), at=300.0))
    assert found.joined == ()
    assert [(member.pne_id, member.pan_secure) for member in (await shown(store)).members] == [(pne(1), True)]


async def test_a_pan_that_turns_secure_leaves_since_as_it_was(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), secure=False))
    await store.establish(establishment(PN1, GW1, pne(1), at=300.0))
    assert (await shown(store)).members == (present(pne(1), 200.0),)


async def test_a_guest_that_becomes_a_member_is_a_change(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    await store.establish(establishment(PN2, GW2, pne(3)))
    await store.establish(establishment(PN2, GW2, pne(2)))
    await invite(store, pne(2), pn_id=PN2)
    before = await shown(store, PN2)
    assert before.members == (present(pne(2), guest=True), present(pne(3)))
    await store.establish(establishment(PN2, GW2, pne(2)))
    after = await shown(store, PN2)
    assert after.members == (present(pne(2)), present(pne(3)))
    assert after.network.version > before.network.version


async def test_a_pn_of_another_gateway_is_refused_and_nothing_is_written(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.establish(establishment(PN3, GW2, pne(2)))
    before = await store.networks()
    wrong = establishment(PN1, GW2, pne(2), pne(3))
    with pytest.raises(Refused, match="pn_of_another_gateway") as caught:
        await store.establish(wrong)
    assert caught.value.result is Result.UNKNOWN_PN
    assert await store.networks() == before
    assert await store.waiting() == []
    assert await events(store, pne(3)) == []


async def test_a_gateway_of_two_pns_is_one_entity(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.establish(establishment(PN2, GW1, pne(2), at=300.0))
    assert [entity.entity_id for entity in await store.entities(Kind.GATEWAY)] == [GW1, GW2]
    gateway = await store.entity(GW1)
    assert gateway is not None
    assert gateway.pn_id == PN1


# --- decisions


@pytest.fixture
async def home(store: ServerStore) -> ServerStore:
    """A store with PN1: pne-3 came first and owns it, then pne-2 and pne-1 at once, and pne-4 as guest."""
    await store.establish(establishment(PN2, GW2, pne(5), pne(4), at=100.0))
    await store.establish(establishment(PN1, GW1, pne(3), at=200.0))
    await store.establish(establishment(PN1, GW1, pne(2), pne(1), at=300.0))
    await store.establish(establishment(PN1, GW1, pne(4), at=250.0))
    return store


OWNER = Actor(Role.PNE, pne(3))


async def test_a_member_that_leaves_is_off_the_list_too(home: ServerStore) -> None:
    before = (await shown(home)).network
    edited = await leave(home, pne(1))
    assert (edited.before, edited.members) == (before, ())
    assert edited.edit == Edit("left", (pne(1),), standings={pne(1): None}, gone=(pne(1),))
    after = await shown(home)
    assert edited.after == after.network
    assert (after.network.version, after.network.owner) == (before.version + 1, pne(3))
    assert [member.pne_id for member in after.members] == [pne(2), pne(3), pne(4)]
    assert after.listed == ()
    assert await home.membership(pne(1)) is None
    assert (await events(home, pne(1)))[-1] == ("left", pne(1), Result.SUCCESS, PN1)


async def test_a_guest_that_leaves_keeps_its_home(home: ServerStore) -> None:
    await leave(home, pne(4))
    assert await listed(home, PN2) == {pne(4): Standing.MEMBER}
    assert pne(4) not in (await members_of(home))[PN1]


@pytest.mark.parametrize("actor", [OPERATOR, OWNER])
async def test_operator_and_owner_bar_whom_they_expel(home: ServerStore, actor: Actor) -> None:
    before = await version(home)
    edited = await expel(home, pne(1), pne(4), actor=actor)
    assert edited.edit.gone == (pne(1), pne(4))
    assert await version(home) == edited.after.version == before + 1
    assert (await members_of(home))[PN1] == [pne(2), pne(3)]
    assert await listed(home) == {pne(1): Standing.BARRED, pne(4): Standing.BARRED}
    assert (await events(home, pne(4)))[-1] == ("expelled", actor.entity_id, Result.SUCCESS, PN1)


async def test_a_gateway_expels_without_a_bar(home: ServerStore) -> None:
    edited = await expel(home, pne(1), actor=Actor(Role.GATEWAY, GW1))
    assert edited.edit.gone == (pne(1),)
    assert await listed(home) == {pne(1): Standing.MEMBER}
    assert (await events(home, pne(1)))[-1] == ("expelled", GW1, Result.SUCCESS, PN1)
    assert (await home.establish(establishment(PN1, GW1, pne(1)))).admissions == {pne(1): MEMBER}


async def test_one_that_is_listed_and_away_can_be_barred(home: ServerStore) -> None:
    await invite(home, pne(6))
    edited = await expel(home, pne(6))
    assert edited.edit.gone == ()
    assert await listed(home) == {pne(6): Standing.BARRED}
    assert len((await members_of(home))[PN1]) == 4


async def test_an_invitation_lifts_a_bar(home: ServerStore) -> None:
    await expel(home, pne(1))
    await invite(home, pne(1))
    assert (await home.establish(establishment(PN1, GW1, pne(1)))).admissions == {pne(1): MEMBER}


async def test_inviting_members_changes_nothing(home: ServerStore) -> None:
    before = await shown(home)
    edited = await invite(home, pne(1))
    assert edited.before == edited.after == before.network
    assert await shown(home) == before
    assert await events(home, PN1) == [("invited", None, Result.SUCCESS, "")]


async def test_a_released_pn_is_gone_with_all_its_lists(home: ServerStore) -> None:
    await invite(home, pne(6))
    await expel(home, pne(1))
    before = await shown(home)
    edited = await edit(home, membership.release)
    assert edited.before == before.network
    assert edited.after == replace(before.network, version=before.network.version + 1)
    assert edited.members == (pne(2), pne(3), pne(4))
    assert edited.edit.released
    assert await home.inventory(PN1) is None
    assert [*await home.networks_of(GW1)] == []
    assert await home.membership(pne(2)) is None
    assert await members_of(home) == {PN2: [pne(5)]}
    assert await events(home, PN1) == [("pn_released", None, Result.SUCCESS, "")]

    found = await home.establish(establishment(PN1, GW2, pne(1), at=600.0))  # the bar went with it
    assert found.network == Network(PN1, GW2, None, pne(1), Policy.OPEN, edited.after.version + 1, 600.0)
    assert await listed(home) == {}


async def test_a_switch_takes_the_pn_to_another_gateway_once(home: ServerStore) -> None:
    before = (await shown(home)).network
    rule = partial(membership.switch, frm=GW1, to=GW2)
    edited = await edit(home, rule, by=Actor(Role.GATEWAY, GW2))
    assert (edited.before, edited.after.gateway_id, edited.after.version) == (before, GW2, before.version + 1)
    assert (await shown(home)).network == edited.after
    assert [*await home.networks_of(GW1)] == []
    assert set(await home.networks_of(GW2)) == {PN1, PN2}
    assert len((await members_of(home))[PN1]) == 4
    assert await events(home, PN1) == [("pn_gw_switched", GW2, Result.SUCCESS, "")]
    with pytest.raises(Refused, match="switched_meanwhile"):
        await edit(home, rule)
    with pytest.raises(Refused, match="pn_of_another_gateway"):
        await home.establish(establishment(PN1, GW1, pne(1)))
    assert (await home.establish(establishment(PN1, GW2, pne(1)))).admissions == {pne(1): MEMBER}


async def test_a_switch_to_a_gateway_that_does_not_exist_changes_nothing(home: ServerStore) -> None:
    before = await shown(home)
    with pytest.raises(Conflict) as caught:
        await edit(home, partial(membership.switch, frm=GW1, to=EntityId("nobody")))
    assert caught.value.code == "store_conflict"
    assert await shown(home) == before


async def test_settling_changes_what_is_named(home: ServerStore) -> None:
    before = (await shown(home)).network
    rule = partial(membership.update, policy=Policy.CLOSED, alias="home", owner=pne(1))
    await edit(home, rule, pne(1))
    assert (await shown(home)).network == Network(PN1, GW1, "home", pne(1), Policy.CLOSED, before.version + 1, 200.0)
    edited = await edit(home, partial(membership.update, policy=Policy.OPEN))
    assert edited.after == Network(PN1, GW1, "home", pne(1), Policy.OPEN, before.version + 2, 200.0)
    edited = await edit(home, membership.update)
    assert edited.before == edited.after == (await shown(home)).network
    assert await events(home, PN1) == [("pn_settled", None, Result.SUCCESS, "")] * 3
    assert (await home.establish(establishment(PN1, GW1, pne(6)))).admissions == {pne(6): MEMBER}


@pytest.mark.parametrize("whom", [pne(4), pne(5), pne(6)])
async def test_an_owner_has_to_be_a_member(home: ServerStore, whom: EntityId) -> None:
    with pytest.raises(Refused, match="owner_is_no_member") as caught:
        await edit(home, partial(membership.update, policy=Policy.CLOSED, owner=whom), whom)
    assert caught.value.result is Result.NOT_A_MEMBER
    assert ((await shown(home)).network.owner, (await shown(home)).network.policy) == (pne(3), Policy.OPEN)


async def test_the_heir_is_who_came_first_then_by_id(home: ServerStore) -> None:
    """pne-4 came before them, and is a guest."""
    assert (await leave(home, pne(3))).after.owner == pne(1)
    assert (await expel(home, pne(1))).after.owner == pne(2)
    assert (await leave(home, pne(2))).after.owner is None
    assert (await shown(home)).network.owner is None
    assert (await members_of(home))[PN1] == [pne(4)]
    with pytest.raises(Refused, match="may_not_release"):
        await edit(home, membership.release, by=Actor(Role.PNE, pne(4)))


async def test_an_owner_that_moves_or_is_put_out_by_the_gateway_owns_it_still(home: ServerStore) -> None:
    assert (await expel(home, pne(3), actor=Actor(Role.GATEWAY, GW1))).after.owner == pne(3)
    await home.establish(establishment(PN2, GW2, pne(3)))
    assert (await shown(home)).network.owner == pne(3)
    assert (await shown(home, PN2)).network.owner == pne(5)


async def test_an_unknown_pn_is_refused(store: ServerStore) -> None:
    def never(network: Network, places: Places, actor: Actor) -> Edit:
        raise AssertionError

    with pytest.raises(Refused, match="no_such_pn") as caught:
        await edit(store, never, pne(1))
    assert caught.value.result is Result.UNKNOWN_PN
    assert await events(store, PN1) == []


async def test_a_rule_that_raises_changes_nothing(home: ServerStore) -> None:
    before, log = await home.networks(), await home.audit(None, 99)
    with pytest.raises(Refused, match="not_in_this_pn"):
        await expel(home, pne(1), pne(6))
    with pytest.raises(Refused, match="may_not_expel"):
        await expel(home, pne(1), actor=Actor(Role.PNE, pne(2)))
    assert (await home.networks(), await home.audit(None, 99)) == (before, log)


async def test_a_rule_sees_the_pn_and_the_places_as_they_are(home: ServerStore) -> None:
    await invite(home, pne(6))
    seen: list[tuple[Network, Places]] = []

    def look(network: Network, places: Places, actor: Actor) -> Edit:
        seen[:] = [(network, places)]
        return Edit("looked")

    edited = await edit(home, look, pne(1), pne(4), pne(5), pne(6), pne(7), EntityId("stranger"))
    network, places = seen[0]
    assert edited.before == edited.after == network == (await shown(home)).network
    assert places == {
        pne(1): Place(Standing.MEMBER, present=True),
        pne(4): Place(None, present=True, home=True),
        pne(5): Place(None, home=True),
        pne(6): Place(Standing.INVITED),
        pne(7): Place(),
        "stranger": Place(),
    }
    await edit(home, look)
    assert seen[0][1] == {}


async def test_a_member_list_is_bounded(home: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_queries, "MAX_LISTED", 4)
    before = await shown(home)
    with pytest.raises(Refused, match="member_list_is_full") as caught:
        await invite(home, pne(6), pne(7))
    assert caught.value.result is Result.TOO_MANY
    assert await shown(home) == before
    await invite(home, pne(6))
    with pytest.raises(Refused, match="member_list_is_full"):
        await invite(home, pne(7))
    await leave(home, pne(1))
    await invite(home, pne(7))


async def test_a_full_member_list_can_still_be_changed(home: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_queries, "MAX_LISTED", 3)
    await expel(home, pne(1))
    assert await listed(home) == {pne(1): Standing.BARRED}


async def test_a_revoked_pne_is_off_all_lists_and_what_it_owned_has_an_heir(home: ServerStore) -> None:
    await home.establish(establishment(PN3, GW1, pne(6), at=400.0))
    await invite(home, pne(3), pn_id=PN2)
    before = {one.network.pn_id: one.network for one in await home.networks()}
    revocation = await home.revoke(pne(3), 500.0, OPERATOR)
    after = {one.network.pn_id: one.network for one in await home.networks()}
    assert revocation.first
    assert {network.pn_id: network for network in revocation.left} == {PN1: after[PN1], PN2: after[PN2]}
    assert (after[PN1].owner, after[PN2].owner) == (pne(1), pne(5))
    assert [after[pn].version - before[pn].version for pn in (PN1, PN2, PN3)] == [1, 1, 0]
    assert await members_of(home) == {PN1: [pne(1), pne(2), pne(4)], PN2: [pne(5)], PN3: [pne(6)]}
    assert await listed(home) == {}
    assert await listed(home, PN2) == {pne(4): Standing.MEMBER}
    entity = await home.entity(pne(3))
    assert entity is not None
    assert (entity.state, entity.pn_id) == (State.REVOKED, None)
    assert await home.revoke(pne(3), 600.0, OPERATOR) == Revocation(False)


async def test_a_revoked_owner_that_is_away_has_an_heir_too(home: ServerStore) -> None:
    await home.establish(establishment(PN2, GW2, pne(3), at=400.0))
    revocation = await home.revoke(pne(3), 500.0, OPERATOR)
    assert {network.pn_id for network in revocation.left} == {PN1, PN2}
    assert (await shown(home)).network.owner == pne(1)


async def test_a_revoked_gateway_leaves_its_pn_to_be_switched(home: ServerStore) -> None:
    before = await home.networks()
    assert await home.revoke(GW1, 500.0, OPERATOR) == Revocation(True)
    assert await home.networks() == before
    assert (await edit(home, partial(membership.switch, frm=GW1, to=GW2))).after.gateway_id == GW2


class Told(Gateways):
    """PN GWs of which none is connected, and what they would have been told."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.notices: list[tuple[EntityId, codec.Message]] = []

    async def tell(self, gateway: EntityId, message: codec.Message) -> bool:
        self.notices.append((gateway, message))
        return False


def delivering(gateways: Gateways) -> NetworkDelivery:
    """Return a delivery to PN GWs alone."""

    async def asked(older: Session, newer_via: EntityId) -> None:
        """Nobody is a clone."""

    here: Any = SimpleNamespace(
        sessions=Sessions(),
        gateways=gateways,
        presences=Presences(CLOCK),
        clock=CLOCK,
        cluster=Alone(),
        replaced=SimpleNamespace(ask=asked),
    )
    return NetworkDelivery(here)


async def told_of_a_move(store: ServerStore, policy: Policy) -> list[tuple[EntityId, Sequence[EntityId]]]:
    """Return which PN GW is told of whom, where pne-1 goes from gw-1 to a PN with *policy*, and has a session."""
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.establish(establishment(PN2, GW2, pne(2), policy=policy))
    gateways = Told()
    delivery = delivering(gateways)
    session: Any = SimpleNamespace(peer_id=pne(1), via=GW1)
    found = await store.establish(establishment(PN2, GW2, pne(1), moved_from={pne(1): GW1}))
    delivery.admitted(found, {pne(1): session})
    for task in list(delivery._telling._tasks):
        await task
    notices = [(gateway, notice) for gateway, notice in gateways.notices if isinstance(notice, pm.PnChangeNotify)]
    assert len(notices) == len(gateways.notices)
    return [(gateway, notice.members) for gateway, notice in notices]


async def test_the_older_gateway_is_told_of_a_move(store: ServerStore) -> None:
    assert await told_of_a_move(store, Policy.OPEN) == [(GW1, (pne(1),))]


@pytest.mark.parametrize("policy", [Policy.APPROVAL, Policy.CLOSED])
async def test_nobody_is_told_of_a_move_that_was_refused(store: ServerStore, policy: Policy) -> None:
    assert await told_of_a_move(store, policy) == []


class Unwilling(Gateways):
    """PN GWs that do not take over what they are asked to."""

    async def ask(self, gateway: EntityId, message: codec.Message, shape: type[M], timeout: float) -> M:
        answer = pm.PnGwSwitchingResponse(Result.NOT_ALLOWED)
        assert isinstance(answer, shape)
        return answer


async def refused_switch(store: ServerStore) -> Refused:
    await store.establish(establishment(PN1, GW1, pne(1)))
    before = await store.networks()
    networks = NetworkActions(store, CLOCK, delivering(Unwilling(CLOCK)))
    with pytest.raises(Refused) as caught:
        await networks.switch(PN1, GW2, OPERATOR)
    assert await store.networks() == before
    return caught.value


async def test_a_gateway_that_does_not_agree_stops_the_switch(store: ServerStore) -> None:
    assert (await refused_switch(store)).result is Result.NOT_ALLOWED


async def test_the_reason_of_a_refused_switch_is_stable(store: ServerStore) -> None:
    assert GW2 not in (await refused_switch(store)).reason


# --- who waits


def stranger(number: int) -> EntityId:
    return EntityId(f"stranger-{number}")


def unknown(number: int, since: float, last: float, attempts: int, via: EntityId = GW1) -> Waiting:
    return Waiting(stranger(number), None, via, known=False, since=since, last=last, attempts=attempts)


async def test_strangers_are_remembered_with_their_attempts(store: ServerStore) -> None:
    assert await store.waiting() == []
    await store.record(named(stranger(2), stranger(1), at=1.0))
    await store.record(named(stranger(2), at=2.0))
    await store.record(named(stranger(2), at=3.0, via=GW2))
    assert await store.waiting() == [unknown(1, 1.0, 1.0, 1), unknown(2, 1.0, 3.0, 3, GW2)]


async def test_strangers_are_bounded_and_the_oldest_is_forgotten(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_queries, "MAX_STRANGERS", 3)
    for number in (1, 2, 3):
        await store.record(named(stranger(number), at=float(number)))
    await store.record(named(stranger(1), at=4.0))  # not the oldest any more
    await store.record(named(stranger(4), at=5.0))
    assert await store.waiting() == [unknown(1, 1.0, 4.0, 2), unknown(3, 3.0, 3.0, 1), unknown(4, 5.0, 5.0, 1)]
    await store.record(named(*map(stranger, range(5, 9)), at=6.0))
    assert len(await store.waiting()) == 3


async def test_those_that_have_proven_themselves_come_first(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.APPROVAL))
    for at in (300.0, 310.0, 320.0):
        await store.establish(establishment(PN1, GW1, pne(3), at=at))
        await store.record(named(EntityId("a-stranger"), at=at))
    await store.establish(establishment(PN1, GW1, pne(2), at=330.0))
    await store.record([refused(pne(3), 340.0)])  # another reason is no attempt to be let in
    assert await store.waiting() == [
        Waiting(pne(2), PN1, GW1, known=True, since=330.0, last=330.0, attempts=1),
        Waiting(pne(3), PN1, GW1, known=True, since=300.0, last=320.0, attempts=3),
        Waiting(EntityId("a-stranger"), None, GW1, known=False, since=300.0, last=320.0, attempts=3),
    ]
    await approve(store, pne(3))
    refuse = partial(membership.refuse, pne=pne(2))
    await edit(store, refuse, pne(2))
    assert [one.pne_id for one in await store.waiting()] == ["a-stranger"]
    assert await listed(store) == {pne(2): Standing.BARRED, pne(3): Standing.MEMBER}


async def test_one_may_wait_for_two_pns(store: ServerStore) -> None:
    for pn_id, gateway, number in ((PN1, GW1, 1), (PN2, GW2, 2)):
        await store.establish(establishment(pn_id, gateway, pne(number), policy=Policy.APPROVAL))
        await store.establish(establishment(pn_id, gateway, pne(3), at=300.0 + number))
    found = await store.waiting()
    assert [(one.pne_id, one.pn_id, one.via, one.since) for one in found] == [
        (pne(3), PN1, GW1, 301.0),
        (pne(3), PN2, GW2, 302.0),
    ]


async def test_attempts_are_counted_for_each_pn(store: ServerStore) -> None:
    for pn_id, gateway, number in ((PN1, GW1, 1), (PN2, GW2, 2)):
        await store.establish(establishment(pn_id, gateway, pne(number), policy=Policy.APPROVAL))
        await store.establish(establishment(pn_id, gateway, pne(3), at=300.0 + number))
    assert [(one.last, one.attempts) for one in await store.waiting()] == [(301.0, 1), (302.0, 1)]


async def test_a_stranger_is_dismissed_and_may_come_again(store: ServerStore) -> None:
    await store.record(named(stranger(1), stranger(2), at=1.0))
    await store.dismiss(stranger(1), 9.0, OPERATOR)
    await store.dismiss(EntityId("nobody"), 9.0, OPERATOR)
    assert await store.waiting() == [unknown(2, 1.0, 1.0, 1)]
    await store.record(named(stranger(1), at=2.0))
    assert await store.waiting() == [unknown(1, 2.0, 2.0, 1), unknown(2, 1.0, 1.0, 1)]


async def test_a_stranger_that_is_provisioned_waits_no_longer(store: ServerStore) -> None:
    await store.record(named(stranger(1), at=1.0))
    await store.add_entities([new(stranger(1))], OPERATOR)
    assert await store.waiting() == []


# --- what is told of it


async def test_members_come_in_pages(store: ServerStore) -> None:
    names = [EntityId(f"many-{number:03}") for number in range(25)]
    await store.add_entities([new(name) for name in names], OPERATOR)
    await store.establish(establishment(PN2, GW2, names[7], pne(1)))
    await store.establish(establishment(PN1, GW1, pne(2)))
    await store.establish(establishment(PN1, GW1, *names[:12], at=300.0))
    await store.establish(establishment(PN1, GW1, *names[12:], at=400.0))
    found: list[Present] = []
    sizes = []
    while page := await store.members_page(PN1, found[-1].pne_id if found else "", 10):
        found += page
        sizes.append(len(page))
    assert sizes == [10, 10, 6]
    assert [member.pne_id for member in found] == [*names, pne(2)]
    assert [member.guest for member in found].index(True) == 7
    assert tuple(found) == (await shown(store)).members
    assert await store.members_page(PN2, "", 10) == [present(pne(1))]


async def test_what_a_gateway_held_is_told_of_each_pne(store: ServerStore) -> None:
    assert await store.held_through(GW1) == []
    await store.establish(establishment(PN1, GW1, pne(2), pne(1), at=200.0))
    await store.establish(establishment(PN1, GW1, pne(2), at=300.0))
    await store.record([refused(pne(3), 300.0)])
    await store.establish(establishment(PN2, GW2, pne(1), at=400.0))
    for number, gateway in enumerate((GW1, GW1, GW2)):
        await store.add_reading(pne(1), gateway, bytes([number]), "{}", "e2e", 500.0)
    await leave(store, pne(2))
    assert await store.held_through(GW1) == [
        HeldThrough(pne(1), 200.0, 200.0, 1, 2),
        HeldThrough(pne(2), 200.0, 300.0, 2, 0),
    ]
    assert await store.held_through(GW2) == [HeldThrough(pne(1), 400.0, 400.0, 1, 1)]


# --- texts that wait


def push(name: str, whom: EntityId, created_at: float = 100.0, expires_at: float = 200.0) -> KeptPush:
    return KeptPush(0, name.encode(), whom, f"text {name}", created_at, expires_at)


async def waiting_texts(store: ServerStore, whom: EntityId, now: float) -> list[str]:
    return [kept.text for kept in await store.pushes_for(whom, now)]


async def test_pushes_wait_in_their_order(store: ServerStore) -> None:
    assert await store.awaited() == []
    for name in ("c", "a", "b"):
        await store.keep_push(push(name, pne(1)), OPERATOR)
    await store.keep_push(push("d", pne(2)), OPERATOR)
    kept = await store.pushes_for(pne(1), 150.0)
    assert [(one.push_id, one.pne_id, one.text, one.created_at, one.expires_at) for one in kept] == [
        (name.encode(), pne(1), f"text {name}", 100.0, 200.0) for name in ("c", "a", "b")
    ]
    assert [one.number for one in kept] == sorted({one.number for one in kept})
    assert sorted(await store.awaited()) == [pne(1), pne(2)]


async def test_a_dropped_push_is_gone_and_its_number_too(store: ServerStore) -> None:
    await store.keep_push(push("a", pne(1)), OPERATOR)
    await store.keep_push(push("b", pne(1)), OPERATOR)
    first, second = await store.pushes_for(pne(1), 150.0)
    await store.drop_push(second.number)
    await store.drop_push(second.number)
    assert await store.pushes_for(pne(1), 150.0) == [first]
    await store.keep_push(push("c", pne(1)), OPERATOR)
    assert (await store.pushes_for(pne(1), 150.0))[1].number > second.number
    for kept in await store.pushes_for(pne(1), 150.0):
        await store.drop_push(kept.number)
    assert await store.awaited() == []


async def test_pushes_expire(store: ServerStore) -> None:
    await store.keep_push(push("a", pne(1), expires_at=200.0), OPERATOR)
    await store.keep_push(push("b", pne(1), expires_at=300.0), OPERATOR)
    await store.keep_push(push("c", pne(2), expires_at=250.0), OPERATOR)
    assert await waiting_texts(store, pne(1), 200.0) == ["text a", "text b"]
    assert await waiting_texts(store, pne(1), 200.1) == ["text b"]
    assert await waiting_texts(store, pne(1), 100.0) == ["text a", "text b"]  # to look ends nothing
    await store.keep_push(push("d", pne(3), created_at=260.0, expires_at=400.0), OPERATOR)
    await store.drop_kept(260.0)
    assert await waiting_texts(store, pne(1), 100.0) == ["text b"]
    assert await store.awaited() == [pne(1), pne(3)]


async def test_so_many_pushes_wait_for_one_pne_and_no_more(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_queries, "MAX_PUSHES", 2)
    for name in ("a", "b"):
        await store.keep_push(push(name, pne(1)), OPERATOR)
    with pytest.raises(Conflict, match="2 texts wait for pne-1 already") as caught:
        await store.keep_push(push("c", pne(1)), OPERATOR)
    assert caught.value.code == "too_many_pushes"
    await store.keep_push(push("c", pne(2)), OPERATOR)
    assert await waiting_texts(store, pne(1), 150.0) == ["text a", "text b"]
    await store.keep_push(push("d", pne(1), created_at=250.0, expires_at=300.0), OPERATOR)  # the others have expired
    assert await waiting_texts(store, pne(1), 250.0) == ["text d"]


async def test_nothing_is_kept_for_nobody(store: ServerStore) -> None:
    with pytest.raises(Conflict) as caught:
        await store.keep_push(push("a", EntityId("nobody")), OPERATOR)
    assert caught.value.code == "store_conflict"
    assert await store.awaited() == []


async def test_pushes_outlast_the_process(place: Location) -> None:
    store = ServerStore.open(place)
    await store.add_entities([new(pne(1))], OPERATOR)
    await store.keep_push(push("a", pne(1)), OPERATOR)
    await store.close()
    store = ServerStore.open(place)
    assert await store.awaited() == [pne(1)]
    assert await waiting_texts(store, pne(1), 150.0) == ["text a"]
    await store.close()


# --- a store of cpns 0.1


def entity_row(name: str, kind: Kind) -> Row:
    statement = (
        "INSERT INTO entities (entity_id, kind, state, note, sealed_eukey, fingerprint, created_at)"
        " VALUES (:id, :kind, 'active', '', :sealed, :print, 1.0)"
    )
    return statement, {"id": name, "kind": kind, "sealed": b"0", "print": name.encode()}


async def test_members_of_an_older_store_have_their_home_where_they_are(new_place: Callable[[], Location]) -> None:
    place = new_place()
    plain = [
        "INSERT INTO networks (pn_id, gateway_id, alias, created_at) VALUES ('pn-1', 'gw-1', 'home', 200.0)",
        "INSERT INTO networks (pn_id, gateway_id, alias, created_at) VALUES ('pn-2', 'gw-2', NULL, 300.0)",
        "INSERT INTO members (pne_id, pn_id, pan_secure) VALUES ('pne-2', 'pn-1', true), ('pne-1', 'pn-1', false)",
        "INSERT INTO audit (at, event, entity_id, via, result, reason)"
        " VALUES (200.0, 'pne_established', 'pne-1', 'gw-1', 0, '')",
    ]
    rows = [entity_row(gateway, Kind.GATEWAY) for gateway in (GW1, GW2)]
    rows += [entity_row(pne(number), Kind.PNE) for number in (1, 2, 3)]
    make_store_of("0001", place, [*rows, *((statement, {}) for statement in plain)])
    store = ServerStore.open(place)
    network = Network(PN1, GW1, "home", None, Policy.OPEN, 1, 200.0)
    assert await store.networks() == [
        Inventory(network, (present(pne(1), 0.0, secure=False), present(pne(2), 0.0)), ()),
        Inventory(Network(PN2, GW2, None, None, Policy.OPEN, 1, 300.0), (), ()),
    ]
    assert await store.audit(None, 9) == [
        Outcome(200.0, "pne_established", pne(1), Actor(Role.PNE, pne(1)), Result.SUCCESS, "", GW1)
    ]
    assert await store.held_through(GW1) == [HeldThrough(pne(1), 200.0, 200.0, 1, 0)]

    moved = await store.establish(establishment(PN2, GW2, pne(1), at=400.0))
    assert moved.admissions == {pne(1): GUEST}
    assert await listed(store) == {pne(1): Standing.MEMBER}
    again = await store.establish(establishment(PN1, GW1, pne(2), pne(3), at=400.0))
    assert again.joined == (pne(3),)
    await edit(store, partial(membership.update, owner=pne(2)), pne(2))
    assert (await shown(store)).network.owner == pne(2)
    await store.close()


async def test_a_gateway_serves_the_pn_of_its_older_store(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    rows: list[Row] = [
        ("INSERT INTO meta (key, value) VALUES ('pn_id', 'pn-1'), ('other', 'stays')", {}),
        ("INSERT INTO local_eukeys (pne_id, pn_id, th0, sealed_key) VALUES ('pne-1', 'pn-1', x'01', x'02')", {}),
    ]
    make_store_of("0001", path, rows)
    store = GatewayStore.open(path)
    assert await store.served() == [PN1]
    assert await store.members() == [HeldMember(pne(1), PN1, b"\x01", b"\x02")]

    def meta(connection: Connection) -> list[str]:
        return list(connection.execute(text("SELECT key FROM meta")).scalars())

    assert await store._database.run(meta, write=False) == ["other"]
    await store.close()


async def test_a_pn_that_is_made_anew_goes_on_after_its_end(home: ServerStore) -> None:
    """Else a copy of its older life would stand above the new one, and news of its end put the new members out."""
    ended = (await edit(home, membership.release)).after.version
    again = await home.establish(establishment(PN1, GW1, pne(2), at=600.0))
    assert again.network is not None
    assert again.network.version == ended + 1
    assert (await edit(home, membership.release)).after.version == ended + 2
    await home.edit(PN2, [], membership.release, 500.0 + 366 * 86400.0, OPERATOR)  # a year later nobody has such a copy
    late = await home.establish(establishment(PN1, GW1, pne(2), at=4e7))
    assert late.network is not None
    assert late.network.version == 1
    assert (await edit(home, membership.release)).after.version == 2
    other = await home.establish(establishment(PnId("pn-9"), GW1, pne(2), at=700.0))
    assert other.network is not None
    assert other.network.version == 1
