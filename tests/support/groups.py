"""Service groups in tests: made, keyed, and looked into."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.group import ChangedGroup
from cpns.domain.member_list import Standing
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import SgId
from cpns.pne.app import Pne
from cpns.protocol.group_messaging.sender import Sender
from cpns.server.groups.actions import GroupActions
from cpns.wire import application
from cpns.wire.registry import JoinPolicy
from tests.support.world import FAST, World, until


def keys(pne: Pne, sg_id: SgId) -> dict[int, bytes]:
    return {epoch: key.reveal() for epoch, key in pne.groups.keys.get(sg_id, {}).items()}


async def epoch(here: World, sg_id: SgId) -> int:
    found = await here.store.group(sg_id)
    assert found is not None
    return found.group.epoch


async def until_epoch(here: World, sg_id: SgId, wanted: int) -> None:
    """Wait until an epoch has begun: who leaves or comes by itself waits for others that do."""
    async with asyncio.timeout(40):
        while await epoch(here, sg_id) < wanted:
            await asyncio.sleep(0.02)


async def all_have(here: World, sg_id: SgId, *pnes: Pne) -> bytes:
    """Wait until all of *pnes* have the key of the present epoch, and the same one; return it."""
    now = await epoch(here, sg_id)
    await until(lambda: len({keys(pne, sg_id).get(now) for pne in pnes}) == 1 and now in keys(pnes[0], sg_id))
    return keys(pnes[0], sg_id)[now]


async def group_of(
    here: World, count: int, gateway: Any, prefix: str = "pne", **options: Any
) -> tuple[SgId, list[Pne]]:
    """Return a group of PNEs behind one PN GW, the first its owner."""
    pnes = [await here.joined_pne(f"{prefix}-{number}", gateway, **FAST) for number in range(count)]
    sg_id, _ = await pnes[0].groups.create("family", JoinPolicy.OPEN, **options)
    joining = []
    for pne in pnes[1:]:  # in their order, and not each after an epoch of its own
        joining.append(asyncio.create_task(pne.groups.join(sg_id)))
        async with asyncio.timeout(40):
            while pne.config.pne_id not in await listed(here, sg_id):
                await asyncio.sleep(0.005)
    await asyncio.gather(*joining)
    return sg_id, pnes


async def listed(here: World, sg_id: SgId) -> dict[str, Standing]:
    """Return the list of a group."""
    found = await here.store.group(sg_id)
    return {} if found is None else {one.pne_id: one.standing for one in found.listed}


class Epochs:
    """Who was in each epoch of the groups of a server, from now on; and in which one who left did so."""

    def __init__(self, groups: GroupActions) -> None:
        self.members_of: dict[int, set[str]] = {}
        self.left_in: dict[str, int] = {}
        self._tell = groups.tell
        groups.tell = self._noting  # type: ignore[method-assign]

    def _noting(self, changes: Iterable[ChangedGroup]) -> Any:
        told = list(changes)
        for one in told:
            if one.after.epoch != one.before.epoch:
                self.members_of[one.after.epoch] = set(one.members)
            if one.change.event == "sg_left":
                self.left_in |= dict.fromkeys(one.change.subjects, one.after.epoch)
        return self._tell(told)


async def patiently(pne: Pne, sg_id: SgId, *, leaves: bool) -> None:
    """Leave or join; what was done by a message whose answer was lost, is done."""
    for _ in range(20):
        try:
            if leaves:
                await pne.groups.leave(sg_id)
            else:
                await pne.groups.join(sg_id)
        except NoAnswer:
            continue
        except Refused as error:
            if error.result is not (Result.NOT_A_MEMBER if leaves else Result.ALREADY_MEMBER):
                raise
            await pne.groups.refresh()
        return
    raise AssertionError("lost twenty times")


def sealing(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, str]]]:
    """Return what will have, for each text that is sealed, under which epochs, and by whom."""
    sealed: dict[str, list[tuple[int, str]]] = {}
    seal = Sender.seal

    def noting(self: Sender, sg_id: SgId, epoch: int, key: Secret, payload: bytes, *, signed: bool) -> Any:
        text = application.decode_push(payload).text
        sealed.setdefault(text, []).append((epoch, self.pne_id))
        return seal(self, sg_id, epoch, key, payload, signed=signed)

    monkeypatch.setattr(Sender, "seal", noting)
    return sealed
