"""Nobody acts who is none: each rule, each action and each row of the audit log has an actor."""

import ast
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import cpns
from cpns.admin.audit import AuditAdmin
from cpns.admin.event_cursors import CursorAdmin
from cpns.admin.service import Admin
from cpns.domain import actor, cm, group, membership
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.cm import NewCmDevice
from cpns.domain.group import Group, GroupChange, Listed
from cpns.domain.inventory import Establishment, KeptPush, Kind, Membership, NewEntity, Outcome
from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Admission, Edit, Network, Place
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId, SgId
from cpns.ports import Store
from cpns.server.changing.admin import CmAdmin
from cpns.server.groups.actions import GroupActions
from cpns.server.groups.admin import GroupAdmin
from cpns.server.networks.actions import NetworkActions
from cpns.server.networks.admin import PnAdmin
from cpns.server.pushes.actions import PushActions
from cpns.service.provisioning import Provisioning
from cpns.store import server_store
from cpns.store.server_store import ServerStore
from tests.support.stores import Location

ROOT = Path(cpns.__file__).parent
ANN, BEN, HUB = EntityId("ann"), EntityId("ben"), EntityId("hub")
PN, SG = PnId("pn-1"), SgId("sg-1")

ACTIONS: dict[type, set[str]] = {
    NetworkActions: {"leave", "expel", "release", "invite", "approve", "update", "switch"},
    GroupActions: {"join", "leave", "invite", "expel", "delete", "update", "pass_on"},
    Provisioning: {"add", "import_csv", "update", "revoke"},
    Admin: {"add", "import_csv", "update", "revoke", "send"},
    PnAdmin: {"invite", "expel", "release", "switch", "update", "approve", "refuse"},
    GroupAdmin: {"invite", "expel", "delete", "update", "pass_on"},
    CmAdmin: {"revoke", "rotate"},
    AuditAdmin: {"prune"},
    CursorAdmin: {"move", "drop"},
    PushActions: {"keep"},
}
"""What somebody does, as against what time, a session or a record says by itself."""
CHANGES = {
    NetworkActions: {"expire"},
    GroupActions: {"create", "sweep", "replace_silent_owners", "tell", "told"},
}
"""What tells of it, or has its actor in what it is given."""


def rules() -> Iterator[Callable[..., Any]]:
    for module, shapes in ((membership, (Edit, Admission)), (group, (GroupChange,))):
        for name, one in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("_") and get_type_hints(one).get("return") in shapes:
                yield one


def annotations() -> Iterator[tuple[str, str]]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
                yield path.name, ast.unparse(node.annotation)


def test_no_actor_can_be_none() -> None:
    found = [where for where, said in annotations() if "Actor" in said.replace("Actors", "") and "None" in said]
    assert found == []
    assert sum(said == "Actor" for _, said in annotations()) > 50


def test_each_rule_has_its_actor_in_the_third_place() -> None:
    found = [*rules()]
    assert len(found) > 15
    for one in found:
        third = [*inspect.signature(one).parameters.values()][2]
        assert (third.name, get_type_hints(one)["actor"], third.default) == ("actor", Actor, third.empty), one


@pytest.mark.parametrize("rule", [cm.assign, cm.release, cm.rekey, cm.activate])
def test_each_rule_of_cm_devices_has_its_actor(rule: Callable[..., object]) -> None:
    parameter = inspect.signature(rule).parameters["actor"]
    assert (get_type_hints(rule)["actor"], parameter.default) == (Actor, parameter.empty)
    public = {name for name, one in inspect.getmembers(cm, inspect.isfunction) if one.__module__ == cm.__name__}
    assert public == {"assign", "release", "rekey", "activate", "superseded"}  # the last one: what follows from one


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in ACTIONS.items() for name in sorted(names)]
)
def test_each_action_has_its_actor(owner: type, name: str) -> None:
    one = getattr(owner, name)
    assert get_type_hints(one)["actor"] is Actor
    assert inspect.signature(one).parameters["actor"].default is inspect.Parameter.empty


@pytest.mark.parametrize(
    "owner",
    [NetworkActions, GroupActions, Provisioning, PnAdmin, GroupAdmin, CmAdmin, AuditAdmin, CursorAdmin, PushActions],
)
def test_no_action_was_forgotten_here(owner: type) -> None:
    """What is public, and neither an action nor what tells of one, returns what it reads."""
    public = {name for name, one in inspect.getmembers(owner, inspect.iscoroutinefunction) if name[0] != "_"}
    reads = {"close", "all", "one", "waiting", "held_through", "page"}
    assert public - ACTIONS[owner] - CHANGES.get(owner, set()) - reads == set()


def test_who_acts_is_what_it_is_there() -> None:
    ann = actor.pne(ANN)
    assert ann.within(ANN, is_member=True).role is Role.OWNER
    assert ann.within(BEN, is_member=True).role is Role.MEMBER
    assert ann.within(None, is_member=False) == ann
    for other in (OPERATOR, SERVER, actor.gateway(ANN)):  # an ID that is the same makes nobody an owner
        assert other.within(ANN, is_member=True) == other
    assert {role for role in Role if Actor(role, "x").is_operator} == {Role.OPERATOR, Role.ADMIN}
    proven = {role for role in Role if Actor(role, "x").entity_id is not None}
    assert proven == {Role.PNE, Role.OWNER, Role.MEMBER, Role.GATEWAY}


NETWORK = Network(PN, HUB, None, ANN, Policy.OPEN, 1, 1.0)
PLACES = {ANN: Place(Standing.MEMBER, present=True), BEN: Place(Standing.PENDING, present=True)}
GROUP = Group(SG, "walk", None, ANN, Policy.OPEN, 1, 1, 1.0)
LISTED = {ANN: Listed(ANN, Standing.MEMBER, 1.0), BEN: Listed(BEN, Standing.MEMBER, 2.0)}
DECISIONS: dict[str, Callable[[Actor], object]] = {
    "pn invite": lambda who: membership.invite(NETWORK, PLACES, who, [BEN]),
    "pn approve": lambda who: membership.approve(NETWORK, PLACES, who, BEN),
    "pn refuse": lambda who: membership.refuse(NETWORK, PLACES, who, BEN),
    "pn expel": lambda who: membership.expel(NETWORK, PLACES, who, [BEN], 9.0),
    "pn release": lambda who: membership.release(NETWORK, PLACES, who),
    "pn switch": lambda who: membership.switch(NETWORK, PLACES, who, HUB, BEN),
    "pn update": lambda who: membership.update(NETWORK, PLACES, who, policy=Policy.CLOSED),
    "pn leave": lambda who: membership.leave(NETWORK, PLACES, who),
    "sg join": lambda who: group.join(GROUP, LISTED, who),
    "sg invite": lambda who: group.invite(GROUP, LISTED, who, [BEN]),
    "sg leave": lambda who: group.leave(GROUP, LISTED, who),
    "sg expel": lambda who: group.expel(GROUP, LISTED, who, [BEN]),
    "sg delete": lambda who: group.delete(GROUP, LISTED, who),
    "sg pass on": lambda who: group.pass_on(GROUP, LISTED, who, ANN, BEN),
    "sg update": lambda who: group.update(GROUP, LISTED, who, Policy.CLOSED),
    "sg vanish": lambda who: group.vanish(GROUP, LISTED, who, BEN),
    "sg replace": lambda who: group.replace_owner(GROUP, LISTED, who, ANN, [BEN]),
}
BY_ITSELF = {"pn leave", "sg join", "sg leave"}
"""What a device alone can do, for itself."""


def allowed(decide: Callable[[], object]) -> bool:
    try:
        decide()
    except Refused:
        return False
    return True


@pytest.mark.parametrize(("what", "role"), [*product(DECISIONS, (Role.VIEWER, Role.OPERATOR, Role.ADMIN))])
def test_a_viewer_decides_nothing_and_an_operator_all_that_is_not_for_a_device(what: str, role: Role) -> None:
    expected = role is not Role.VIEWER and what not in BY_ITSELF
    assert allowed(partial(DECISIONS[what], Actor(role, "ann"))) is expected  # also where its name is an owner's ID


def test_the_server_replaces_owners_and_takes_out_who_vanished_and_nothing_else() -> None:
    assert {what for what, decide in DECISIONS.items() if allowed(partial(decide, SERVER))} == {
        "sg vanish",
        "sg replace",
    }


# each action of the store: who does it, and the row that says so

AT = 50.0
CM = EntityId("cm-1")
OWNED = Group(SG, "walk", None, ANN, Policy.OPEN, 1, 1, 1.0)
NEW_CM = NewCmDevice(CM, HUB, ANN, b"seed", b"print of it", 10.0)


def setup(*pnes: EntityId) -> Establishment:
    return Establishment(PN, HUB, None, Policy.OPEN, AT, tuple(Membership(pne, False) for pne in pnes), {})


def done(event: str, who: Actor) -> Outcome:
    return Outcome(AT, event, EntityId("server.test"), who, Result.SUCCESS)


Do = Callable[[ServerStore, Actor], Awaitable[object]]
BY_OPERATOR: dict[str, Do] = {
    "add_entities": lambda store, who: store.add_entities([new_entity("new", Kind.PNE)], who),
    "revoke": lambda store, who: store.revoke(BEN, AT, who),
    "update_entity": lambda store, who: store.update_entity(BEN, None, "another note", AT, who),
    "edit": lambda store, who: store.edit(PN, [], partial(membership.update, policy=Policy.CLOSED), AT, who),
    "dismiss": lambda store, who: store.dismiss(EntityId("stranger"), AT, who),
    "rotate_cm": lambda store, who: store.rotate_cm([CM], AT, who),
    "may_reassign_cm": lambda store, who: store.may_reassign_cm(CM, True, AT, who),
    "change_group": lambda store, who: store.change_group(SG, group.delete, AT, who),
    "keep_push": lambda store, who: store.keep_push(KeptPush(0, bytes(8), BEN, "hello", AT, AT + 9), who),
    "drop_cursor": lambda store, who: store.drop_cursor("backup", AT, who),
    "prune_audit": lambda store, who: store.prune_audit(AT, 99, done("audit_pruned", who)),
    "set_back": lambda store, who: store.set_back(replace(done("set_back", who), at=2e9)),
    "record": lambda store, who: store.record([done("text_sent", who)]),
}
"""Who does it is handed in."""
BY_ITSELF_ALONE: dict[str, tuple[Actor, Callable[[ServerStore], Awaitable[object]]]] = {
    "establish": (actor.pne(BEN), lambda store: store.establish(setup(BEN))),
    "create_group": (
        Actor(Role.OWNER, BEN),
        lambda store: store.create_group(replace(OWNED, sg_id=SgId("sg-2"), owner=BEN), 9),
    ),
    "register_sender": (actor.pne(ANN), lambda store: store.register_sender(ANN, None, AT)),
    "declined": (actor.pne(BEN), lambda store: store.declined("sg", BEN, [ANN], SG, AT)),
    "assign_cm": (actor.gateway(HUB), lambda store: store.assign_cm(replace(NEW_CM, cm_device_id=EntityId("cm-2")))),
    "release_cm": (actor.gateway(HUB), lambda store: store.release_cm(CM, HUB, AT)),
    "rekey_cm": (actor.pne(ANN), lambda store: store.rekey_cm(CM, ANN, 1, b"next", AT)),
    "activate_cm": (actor.gateway(CM), lambda store: store.activate_cm(CM, 0, AT)),
    "expire_cm": (SERVER, lambda store: store.expire_cm(AT, AT)),
    "expire_invitations": (SERVER, lambda store: store.expire_invitations(1e9, 9)),
    "expire_group_invitations": (SERVER, lambda store: store.expire_group_invitations(1e9, 9)),
}
"""Who does it is who a session proved, or the server as time passes."""
NO_ACTION = {
    "keep_origin": "the server notes whose store it is",
    "keep_host": "the server notes from where somebody proved itself",
    "is_there": "a process says that it is there",
    "leaves": "a process says that it ends",
    "may_ask": "a pace is counted; what is asked has a row of its own",
    "begin_epoch": "an epoch of who joined and left, who have rows",
    "sweep_bounds": "paces that are over, and keys that nothing is taken under any more",
    "group_key": "a key is made where it is first asked for",
    "take_group_message": "a message has a number of its own",
    "drop_group_message": "a message has arrived",
    "drop_push": "a text has arrived",
    "drop_kept": "what is over is dropped",
    "spare_kept": "what would be over is kept",
    "add_reading": "a reading has a number of its own",
    "move_cursor": "a follower notes how far it has come",
}
"""What nobody does to anybody."""


def new_entity(name: str, kind: Kind) -> NewEntity:
    return NewEntity(EntityId(name), kind, None, "", b"sealed", name.encode().ljust(8), 1.0, may_own=True)


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    """Give a store where each of these actions has something to do."""
    one = ServerStore.open(place)
    entities = [new_entity("hub", Kind.GATEWAY), new_entity("ann", Kind.PNE), new_entity("ben", Kind.PNE)]
    await one.add_entities(entities, OPERATOR)
    await one.establish(replace(setup(ANN), at=9.0))
    await one.edit(PN, [EntityId("cat")], partial(membership.invite, whom=[EntityId("cat")]), 9.0, OPERATOR)
    await one.create_group(OWNED, 9)
    await one.change_group(SG, partial(group.invite, whom=[BEN]), 9.0, OPERATOR)
    await one.assign_cm(NEW_CM)
    unknown = (EntityId("stranger"), SERVER, Result.AUTHENTICATION_FAILED, "unknown", HUB)
    await one.record([Outcome(9.0, "refused", *unknown)])
    await one.move_cursor("backup", None, 9.0, OPERATOR)
    yield one
    await one.close()


def test_no_action_of_the_store_was_forgotten() -> None:
    """Whatever writes stands in one of the three tables."""
    tree = ast.parse(inspect.getsource(server_store))
    writing = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "writes"
    }
    assert len(writing) > 30
    tables = ({*BY_OPERATOR}, {*BY_ITSELF_ALONE}, {*NO_ACTION})
    assert writing == set[str]().union(*tables)
    assert sum(map(len, tables)) == len(writing)


def test_who_acts_is_handed_in() -> None:
    """As an actor, or in the row that is to be written."""
    for name in {*BY_OPERATOR} - {"record", "prune_audit", "set_back"}:
        one = inspect.signature(getattr(Store, name)).parameters["actor"]
        assert (get_type_hints(getattr(Store, name))["actor"], one.default) == (Actor, one.empty), name


async def said_of(store: ServerStore, do: Awaitable[object]) -> tuple[list[Actor], list[Actor]]:
    """Return who acted by the rows of the audit log, and by the events, that *do* leaves."""
    newest, last = (await store.audit_after(0, 999))[-1].number, await store.last_event()
    await do
    rows = [row.outcome.actor for row in await store.audit_after(newest, 999)]
    return rows, [one.event.actor for one in await store.events(last, 999)]


@pytest.mark.parametrize("name", sorted(BY_OPERATOR))
async def test_each_action_of_a_person_has_a_row_and_an_event_that_say_who(store: ServerStore, name: str) -> None:
    who = Actor(Role.OPERATOR, "ophelia")
    rows, events = await said_of(store, BY_OPERATOR[name](store, who))
    assert who in rows
    assert who in events
    assert {*rows, *events} <= {who, SERVER}  # who follows an owner is the server's choice


@pytest.mark.parametrize("name", sorted(BY_ITSELF_ALONE))
async def test_each_action_of_a_party_has_a_row_and_an_event_that_say_who(store: ServerStore, name: str) -> None:
    who, do = BY_ITSELF_ALONE[name]
    rows, events = await said_of(store, do(store))
    assert who in rows
    assert who in events or name == "establish"  # one event for all PNEs of a SETUP, by their PN GW
    assert events


def test_every_request_that_changes_something_is_somebodys() -> None:
    """Each route of the API that is no GET is told who asks."""
    posts: dict[str, set[str]] = {}
    for path in (*(ROOT / "admin").glob("*.py"), *(ROOT / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef):
                routes = [one for one in map(ast.unparse, node.decorator_list) if one.startswith("router.")]
                if routes and not routes[0].startswith("router.get("):
                    posts[routes[0]] = {ast.unparse(one.annotation) for one in node.args.args if one.annotation}
    assert len(posts) > 20
    assert [route for route, given in posts.items() if "Who" not in given] == ["router.post('/devices/{id}/ping')"]
