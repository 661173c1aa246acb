"""What a process does about what happens elsewhere: it looks at each change once the others had time to tell of it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cpns.domain import group, membership
from cpns.domain.actor import OPERATOR
from cpns.domain.event import Event, PnChanged, SgChanged
from cpns.domain.group import Group
from cpns.domain.inventory import Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import Result, StoreFails
from cpns.ids import EntityId, SgId
from cpns.server.changing import Changing
from cpns.server.groups import Groups
from cpns.server.networks import Networks
from cpns.server.peers import follower
from cpns.server.peers.follower import Follower, Looks
from cpns.service.events import Events
from cpns.store.server_store import ServerStore
from tests.support.world import until
from tests.unit.test_store import GW1, PN1, establishment, new, pne

SG = SgId("sg-1")


class Seen:
    """What looks at changes: it keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.fails = 0

    async def __call__(self, changed: object = None) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreFails("away", away=True)
        self.seen.append(changed)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ServerStore]:
    one = ServerStore.open(tmp_path / "server.db")
    await one.add_entities([new(GW1, Kind.GATEWAY), new(pne(1)), new(pne(2))], OPERATOR)
    await one.establish(establishment(PN1, GW1, pne(1)))
    await one.create_group(Group(SG, "walk", None, pne(1), Policy.OPEN, 1, 1, 1.0), 9)
    yield one
    await one.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "GRACE_SECONDS", 0.001)
    monkeypatch.setattr(follower, "AGAIN_SECONDS", 0.001)


class Following:
    """A follower that runs, with three features; *behind* is by how many events it begins before the newest."""

    def __init__(self, store: ServerStore, behind: int = 0) -> None:
        self.networks, self.groups, self.rotations, self.anew = Seen(), Seen(), Seen(), Seen()
        self.behind = behind
        self.began = asyncio.Event()
        self._store = store
        self._looks = Looks()
        follower = Follower(cast(Any, self), Events(store, look_every=0.01), self._happened, self.anew)
        self._running = asyncio.get_running_loop().create_task(follower.run())

    def _happened(self, event: Event) -> None:
        networks = SimpleNamespace(_looks=self._looks, delivery=SimpleNamespace(changed_anywhere=self.networks))
        groups = SimpleNamespace(_looks=self._looks, delivery=SimpleNamespace(changed_anywhere=self.groups))
        changing = SimpleNamespace(_looks=self._looks, rotations=SimpleNamespace(load=self.rotations))
        Networks.happened(cast(Any, networks), event)
        Groups.happened(cast(Any, groups), event)
        Changing.happened(cast(Any, changing), event)

    async def last_event(self) -> int:
        newest = await self._store.last_event()
        if not self.behind:
            self.began.set()
        return newest - self.behind

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._looks.close()


@pytest.fixture
async def following(store: ServerStore) -> AsyncIterator[Following]:
    one = Following(store)
    await one.began.wait()
    yield one
    await one.close()


async def test_it_begins_with_what_is_new(store: ServerStore, following: Following) -> None:
    await store.edit(PN1, [], partial(membership.update, alias="home"), 9.0, OPERATOR)
    await until(lambda: bool(following.networks.seen))
    assert following.networks.seen == [PnChanged(9.0, PN1, 2, GW1, None, (), released=False)]
    await store.change_group(SG, group.delete, 9.0, OPERATOR)
    await until(lambda: bool(following.groups.seen))
    assert following.groups.seen == [SgChanged(SG, 1, 1, (pne(1),))]
    assert (following.rotations.seen, following.anew.seen) == ([], [])


async def test_a_rotation_that_was_asked_for_is_looked_at(store: ServerStore, following: Following) -> None:
    await store.record([Outcome(9.0, "cm_rotation_asked", EntityId("cm-1"), OPERATOR, Result.SUCCESS)])
    await until(lambda: following.rotations.seen == [None])


async def test_a_look_that_fails_is_made_again(store: ServerStore, following: Following) -> None:
    following.networks.fails = 3
    await store.edit(PN1, [], partial(membership.update, alias="home"), 9.0, OPERATOR)
    await until(lambda: len(following.networks.seen) == 1)


async def test_who_missed_some_begins_anew_and_goes_on(store: ServerStore, caplog: pytest.LogCaptureFixture) -> None:
    await store.drop_kept(9e12)
    following = Following(store, behind=1)
    following.anew.fails = 1  # and that is tried again
    await until(lambda: bool(following.anew.seen))
    assert "begin anew" in caplog.text
    following.behind = 0
    await following.began.wait()
    await store.establish(establishment(PN1, GW1, pne(2), at=300.0))
    await until(lambda: bool(following.networks.seen))
    assert following.networks.seen == [PnChanged(300.0, PN1, 2, GW1, None, (), released=False)]
    await following.close()
