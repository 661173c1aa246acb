"""Nobody acts who is none: each rule, each action and each row of the audit log has an actor."""

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import cpns
from cpns.admin.cm import CmAdmin
from cpns.admin.groups import GroupAdmin
from cpns.admin.networks import PnAdmin
from cpns.admin.service import Admin
from cpns.domain import actor, group, membership
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.group import Group, GroupChange, Listed
from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Edit, Network, Place
from cpns.errors import Refused
from cpns.ids import EntityId, PnId, SgId
from cpns.ports import Store
from cpns.server.groups import Groups
from cpns.server.networks import Networks
from cpns.service.provisioning import Provisioning

ROOT = Path(cpns.__file__).parent
ANN, BEN, HUB = EntityId("ann"), EntityId("ben"), EntityId("hub")

ACTIONS: dict[type, set[str]] = {
    Networks: {"leave", "expel", "release", "invite", "approve", "settle", "switch"},
    Groups: {"join", "leave", "invite", "expel", "delete", "settle", "pass_on"},
    Provisioning: {"add", "import_csv", "settle", "revoke"},
    Admin: {"add", "import_csv", "settle", "revoke"},
    PnAdmin: {"invite", "expel", "release", "switch", "settle", "approve", "refuse"},
    GroupAdmin: {"invite", "expel", "delete", "settle", "pass_on"},
    CmAdmin: {"revoke", "rotate"},
    Store: {"add_entities", "revoke", "settle_entity", "edit", "change_group", "dismiss", "rotate_cm"},
}
"""What somebody does, as against what time, a session or a record says by itself."""
CHANGES = {
    Networks: {"sweep", "admitted", "gone"},
    Groups: {"sweep", "replace_silent_owners", "key_for", "tell", "told", "changed_anywhere", "look_at_all"},
    Admin: {"send", "ping"},
}
"""What tells of it, or has its actor in what it is given."""


def rules() -> Iterator[Callable[..., Any]]:
    for module, shape in ((membership, Edit), (group, GroupChange)):
        for name, one in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("_") and get_type_hints(one).get("return") is shape:
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
    assert len(found) > 14
    for one in found:
        third = [*inspect.signature(one).parameters.values()][2]
        assert (third.name, get_type_hints(one)["actor"], third.default) == ("actor", Actor, third.empty), one


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in ACTIONS.items() for name in sorted(names)]
)
def test_each_action_has_its_actor(owner: type, name: str) -> None:
    one = getattr(owner, name)
    assert get_type_hints(one)["actor"] is Actor
    assert inspect.signature(one).parameters["actor"].default is inspect.Parameter.empty


@pytest.mark.parametrize("owner", [Networks, Groups, Provisioning, PnAdmin, GroupAdmin, CmAdmin])
def test_no_action_was_forgotten_here(owner: type) -> None:
    """What is public, and neither an action nor what tells of one, returns what it reads."""
    public = {name for name, one in inspect.getmembers(owner, inspect.iscoroutinefunction) if name[0] != "_"}
    reads = {"close", "inventory", "facts", "sealed_key", "all", "one", "waiting", "held_through"}
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


NETWORK = Network(PnId("pn-1"), HUB, None, ANN, Policy.OPEN, 1, 1.0)
PLACES = {ANN: Place(Standing.MEMBER, present=True), BEN: Place(Standing.PENDING, present=True)}
GROUP = Group(SgId("sg-1"), "walk", None, ANN, Policy.OPEN, 1, 1, 1.0)
LISTED = {ANN: Listed(ANN, Standing.MEMBER, 1.0), BEN: Listed(BEN, Standing.MEMBER, 2.0)}
DECISIONS: dict[str, Callable[[Actor], object]] = {
    "pn invite": lambda who: membership.invite(NETWORK, PLACES, who, [BEN]),
    "pn approve": lambda who: membership.approve(NETWORK, PLACES, who, BEN),
    "pn refuse": lambda who: membership.refuse(NETWORK, PLACES, who, BEN),
    "pn expel": lambda who: membership.expel(NETWORK, PLACES, who, [BEN], 9.0),
    "pn release": lambda who: membership.release(NETWORK, PLACES, who),
    "pn switch": lambda who: membership.switch(NETWORK, PLACES, who, HUB, BEN),
    "pn settle": lambda who: membership.settle(NETWORK, PLACES, who, policy=Policy.CLOSED),
    "pn leave": lambda who: membership.leave(NETWORK, PLACES, who),
    "sg join": lambda who: group.join(GROUP, LISTED, who),
    "sg invite": lambda who: group.invite(GROUP, LISTED, who, [BEN]),
    "sg leave": lambda who: group.leave(GROUP, LISTED, who),
    "sg expel": lambda who: group.expel(GROUP, LISTED, who, [BEN]),
    "sg delete": lambda who: group.delete(GROUP, LISTED, who),
    "sg pass on": lambda who: group.pass_on(GROUP, LISTED, who, ANN, BEN),
    "sg settle": lambda who: group.settle(GROUP, LISTED, who, Policy.CLOSED),
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
