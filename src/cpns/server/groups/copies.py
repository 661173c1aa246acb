"""What the PN GWs are told of service groups when members come to them: each thing once, and one after the other.

A PN GW that has a group's newest version was told of it by us; so a PNE that sets up again and again makes no work.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from cpns.domain.group import Group
from cpns.ids import EntityId, SgId
from cpns.ports import Clock
from cpns.ports.groups import GroupStore
from cpns.service.background import Background

REMEMBERED_SECONDS: Final = 60.0
"""A PN GW may have lost what it was told; so it is told again after that, if members come to it."""


class GroupCopies:
    """Whom of our PN GWs we told of what lately.

    Args:
        tell: tells a PN GW to look at a group, and gives it the key.
        work: runs in it.
    """

    def __init__(
        self, store: GroupStore, clock: Clock, tell: Callable[[EntityId, Group], Awaitable[None]], work: Background
    ) -> None:
        self._store = store
        self._clock = clock
        self._tell = tell
        self._work = work
        self._told: dict[EntityId, dict[SgId, tuple[int, float]]] = {}
        """By PN GW that is connected, and group of a PNE behind it: the version, and when."""
        self._waiting: dict[EntityId, set[SgId]] = {}
        """By PN GW that is being told: what else it is to be told of."""

    def connected(self, gateway: EntityId) -> None:
        """A PN GW has come, or gone: it knows nothing from us."""
        self._told.pop(gateway, None)

    def knows(self, gateway: EntityId, sg_id: SgId, version: int) -> None:
        """A PN GW with members of a group was told of a version."""
        self._told.setdefault(gateway, {})[sg_id] = version, self._clock.monotonic()

    def forgets(self, gateway: EntityId, sg_id: SgId) -> None:
        """A PN GW has no members of a group any more."""
        self._told.get(gateway, {}).pop(sg_id, None)

    def came(self, gateway: EntityId, groups: Iterable[SgId]) -> None:
        """Members of *groups* are behind a PN GW from now on: tell it of those that it does not know as they are."""
        new = set(groups)
        if not new:
            return
        if gateway in self._waiting:
            self._waiting[gateway] |= new
            return
        self._waiting[gateway] = new
        self._work.start(self._tell_all(gateway))

    async def _tell_all(self, gateway: EntityId) -> None:
        try:
            while wanted := self._waiting[gateway]:
                self._waiting[gateway] = set()
                for group in await self._store.groups_named(sorted(wanted)):
                    if not self._is_known(gateway, group):
                        self.knows(gateway, group.sg_id, group.version)
                        await self._tell(gateway, group)
        finally:
            del self._waiting[gateway]

    def _is_known(self, gateway: EntityId, group: Group) -> bool:
        now, told = self._clock.monotonic(), self._told.get(gateway, {})
        for sg_id in [sg_id for sg_id, (_, at) in told.items() if now - at > REMEMBERED_SECONDS]:
            del told[sg_id]
        return group.sg_id in told and told[group.sg_id][0] == group.version
