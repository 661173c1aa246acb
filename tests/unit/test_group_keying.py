"""Who opens a broadcast of a Group Key, and what it costs: the key tree of a PN GW (DEF-6, DEF-7)."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cpns.crypto import group
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId, SgId
from cpns.protocol.group_keying import member, tree
from cpns.service.system import random_bytes
from cpns.wire import codec
from cpns.wire.group_messages import GkdkRequest, GroupKeyBroadcast, PathEntry

SG, GW = SgId("sg-1"), EntityId("gw-1")
SIGN = Secret(bytes(range(32)))
NAMES = [EntityId(f"pne-{number:02}") for number in range(24)]


def fresh() -> Secret:
    return Secret(random_bytes(32))


def gkdk(planted: tree.Tree, pne: EntityId, gateway: EntityId = GW) -> member.Gkdk:
    return member.take(tree.gkdk(planted, pne, group.verify_key(SIGN)), gateway)


# The cover


@pytest.mark.parametrize("depth", range(5))
def test_the_cover_is_exactly_its_leaves_and_the_smallest(depth: int) -> None:
    """Every set of leaves: what is below the nodes is that set, and no two of the nodes have one parent."""
    for chosen in range(2 ** min(2**depth, 12)):
        leaves = {leaf for leaf in range(2**depth) if chosen >> leaf & 1}
        nodes = tree.cover(leaves, depth)
        below = [leaf for node in nodes for leaf in range(2**depth) if is_below(leaf + 2**depth, node)]
        assert sorted(below) == sorted(leaves)
        assert len({node // 2 for node in nodes if node > 1}) == len([node for node in nodes if node > 1])


def is_below(leaf: int, node: int) -> bool:
    while leaf > node:
        leaf //= 2
    return leaf == node


@pytest.mark.parametrize("count", [2, 3, 8, 63, 64, 65, 1000, 4096])
def test_a_broadcast_grows_with_the_logarithm(count: int) -> None:
    names = [EntityId(f"pne-{number}") for number in range(count)]
    planted = tree.plant(SG, GW, 1, fresh(), names)
    message = tree.broadcast(planted, 1, fresh(), SIGN)
    assert len(message.entries) <= math.log2(count) + 1
    left = tree.change(planted, names[1:])
    assert left is not None
    assert len(tree.cover((leaf for _, leaf in left.leaves), left.depth)) <= 2 * math.log2(count) + 1
    path = tree.gkdk(planted, names[0], group.verify_key(SIGN))
    assert len(path.entries) == planted.depth + 1 <= math.log2(2 * count) + 3
    assert len(codec.encode(message)) < 1200  # one datagram on any usual PAN
    assert len(codec.encode(path)) < 1200


# Who opens what


class Members(RuleBasedStateMachine):
    """Members come and go; everybody keeps all that it ever got, and the whole traffic is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[EntityId, list[member.Gkdk]] = {name: [] for name in NAMES}
        self.sent: list[tuple[GroupKeyBroadcast, Secret, set[EntityId]]] = []
        self.planted: tree.Tree
        self.epoch = 0
        self.now: set[EntityId] = set()
        self.told: dict[EntityId, int] = {}

    @initialize(first=st.sets(st.sampled_from(NAMES), min_size=1, max_size=8))
    def begin(self, first: set[EntityId]) -> None:
        self.planted = tree.plant(SG, GW, 1, fresh(), first)
        self.now = set(first)
        self.rekey()

    def rekey(self) -> None:
        """As the PN GW does at each change of the members."""
        changed = tree.change(self.planted, self.now)
        if changed is None:
            changed = tree.plant(SG, GW, self.planted.number + 1, fresh(), self.now)
        self.planted = changed
        for pne in self.now:
            if self.told.get(pne) != changed.number or changed.members[pne] not in self.leaves_of(pne):
                self.held[pne].append(gkdk(changed, pne))
                self.told[pne] = changed.number
        self.epoch += 1
        key = fresh()
        self.sent.append((tree.broadcast(changed, self.epoch, key, SIGN), key, set(self.now)))

    def leaves_of(self, pne: EntityId) -> set[int]:
        own = [one for one in self.held[pne] if one.tree == self.planted.number]
        return {max(one.path) - 2**self.planted.depth for one in own}

    @rule(pne=st.sampled_from(NAMES))
    def comes(self, pne: EntityId) -> None:
        if pne not in self.now:
            self.now.add(pne)
            self.told.pop(pne, None)
            self.rekey()

    @precondition(lambda self: len(self.now) > 1)
    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.now)), min_size=1, max_size=len(self.now) - 1))
        self.now -= gone
        self.rekey()

    @invariant()
    def each_opens_exactly_its_epochs(self) -> None:
        """Alone, and (as it is by any one of its keys) all others together."""
        if not self.sent:
            return
        message, key, members = self.sent[-1]
        for name in NAMES:
            opened = [one for own in self.held[name] if (one := try_to(own, message)) is not None]
            assert opened == ([key] if name in members else []), name

    def teardown(self) -> None:
        for message, key, members in self.sent:
            for name in NAMES:
                opened = {one.reveal() for own in self.held[name] if (one := try_to(own, message)) is not None}
                assert opened == ({key.reveal()} if name in members else set())
                assert bool(raw_keys(self.held[name], message)) == (name in members)


def try_to(own: member.Gkdk, message: GroupKeyBroadcast) -> Secret | None:
    try:
        return member.open_broadcast(own, message)
    except AuthenticationFailed:
        return None


def raw_keys(held: list[member.Gkdk], message: GroupKeyBroadcast) -> set[bytes]:
    """Return what anybody gets out of *message* with any node key that it ever held, whatever the checks say."""
    found = set()
    for own in held:
        for key in own.path.values():
            for entry in message.entries:
                try:
                    args = (key, SG, GW, message.epoch, entry.node, entry.wrapped)
                    found.add(group.open_group_key(*args).reveal())
                except AuthenticationFailed:
                    continue
    return found


Members.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMembers = pytest.mark.req("DEF-6", "DEF-7", "FN-9")(Members.TestCase)


@pytest.mark.req("DEF-6", "DEF-7")
def test_a_member_can_not_forge_a_broadcast() -> None:
    """It has the key of the root, and all that a broadcast is made of, but not the PN GW's signature."""
    planted = tree.plant(SG, GW, 1, fresh(), NAMES)
    forged = tree.broadcast(planted, 7, fresh(), fresh())
    with pytest.raises(AuthenticationFailed, match="wrong_signature"):
        member.open_broadcast(gkdk(planted, NAMES[0]), forged)


@pytest.mark.req("DEF-7")
@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 8},
        {"tree": 2},
        {"gateway_id": EntityId("gw-2")},
        {"sg_id": SgId("sg-2")},
        {"signature": bytes(64)},
        {"entries": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_broadcast_is_not_opened(change: dict[str, Any]) -> None:
    planted = tree.plant(SG, GW, 1, fresh(), NAMES)
    own, honest = gkdk(planted, NAMES[0]), tree.broadcast(planted, 7, fresh(), SIGN)
    assert member.open_broadcast(own, honest)
    with pytest.raises(AuthenticationFailed):
        member.open_broadcast(own, replace(honest, **change))


def test_a_gkdk_is_a_path_of_the_tree() -> None:
    planted = tree.plant(SG, GW, 1, fresh(), NAMES)
    honest = tree.gkdk(planted, NAMES[3], group.verify_key(SIGN))
    assert member.take(honest, GW).path.keys() == {one.node for one in honest.entries}
    for entries in (honest.entries[1:], honest.entries[::-1], (honest.entries[0], PathEntry(7, bytes(32)))):
        with pytest.raises(AuthenticationFailed):
            member.take(GkdkRequest(SG, 1, bytes(32), entries), GW)
    assert "path" not in repr(member.take(honest, GW))


def test_a_new_gkek_when_leaves_run_out_or_the_cover_grows() -> None:
    """A leaf is never given twice; and a tree with many gaps would cost more than a fresh one."""
    planted: tree.Tree | None = tree.plant(SG, GW, 1, fresh(), NAMES[:4])
    seen: set[int] = set()
    changes = 0
    while planted is not None:
        assert not seen.intersection(leaf for _, leaf in planted.leaves[-1:])
        seen.update(leaf for _, leaf in planted.leaves)
        changes += 1
        planted = tree.change(planted, [NAMES[0], NAMES[4 + changes % 2]])
    assert 2 <= changes <= 2**3
    many = tree.plant(SG, GW, 1, fresh(), [EntityId(f"pne-{number}") for number in range(256)])
    assert tree.change(many, [EntityId(f"pne-{number}") for number in range(0, 256, 2)]) is None
