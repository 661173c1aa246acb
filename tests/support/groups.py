"""Service groups in tests: made, keyed, and looked into."""

from typing import Any

from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import SgId
from cpns.pne.app import Pne
from cpns.wire.registry import JoinPolicy
from tests.support.world import World, until

FAST: dict[str, Any] = {"timer": 2.0, "request_timeout": 1.5, "presence": 0.5}


def keys(pne: Pne, sg_id: SgId) -> dict[int, bytes]:
    return {epoch: key.reveal() for epoch, key in pne.groups.keys.get(sg_id, {}).items()}


async def epoch(here: World, sg_id: SgId) -> int:
    found = await here.store.group(sg_id)
    assert found is not None
    return found.group.epoch


async def all_have(here: World, sg_id: SgId, *pnes: Pne) -> bytes:
    """Wait until all of *pnes* have the key of the present epoch, and the same one; return it."""
    now = await epoch(here, sg_id)
    await until(lambda: all(now in keys(pne, sg_id) for pne in pnes), 10)
    (key,) = {keys(pne, sg_id)[now] for pne in pnes}
    return key


async def group_of(
    here: World, count: int, gateway: Any, prefix: str = "pne", **options: Any
) -> tuple[SgId, list[Pne]]:
    """Return a group of PNEs behind one PN GW, the first its owner."""
    pnes = [await here.joined_pne(f"{prefix}-{number}", gateway, **FAST) for number in range(count)]
    sg_id, _ = await pnes[0].groups.create("family", JoinPolicy.OPEN, **options)
    for pne in pnes[1:]:
        await pne.groups.join(sg_id)
    return sg_id, pnes


async def noted(here: World, sg_id: SgId, members_of: dict[int, set[str]]) -> set[str]:
    """Return who is a member, and note that for the epoch."""
    found = await here.store.group(sg_id)
    assert found is not None
    return members_of.setdefault(found.group.epoch, set(found.members))


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
