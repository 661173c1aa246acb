"""What a PN GW, and a CM Device, keep over a restart."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from cpns.domain.cm import HeldCmKey
from cpns.domain.inventory import HeldMember
from cpns.ids import EntityId, PnId


class GatewayStore(Protocol):
    """What a PN GW keeps over a restart: its PNs, and its members: their LocalEUKeys, and where they were."""

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def served(self) -> list[PnId]:
        """Return the PNs that this PN GW serves."""
        ...

    async def serve(self, pn_id: PnId) -> None:
        """Keep that it serves a PN."""
        ...

    async def release(self, pn_id: PnId) -> None:
        """Forget a PN."""
        ...

    async def keep(self, members: Iterable[HeldMember]) -> None:
        """Keep members, each in place of an older row of the same PNE."""
        ...

    async def members(self) -> list[HeldMember]:
        """Return all that are kept."""
        ...

    async def forget(self, pne_ids: Sequence[EntityId]) -> None:
        """Forget members."""
        ...

    async def close(self) -> None:
        """As `Store.close`."""
        ...


class CmStore(Protocol):
    """What a CM Device keeps over a restart: its keys, sealed."""

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def cm_keys(self) -> list[HeldCmKey]:
        """Return the keys, the newest generation first."""
        ...

    async def keep_cm_key(self, key: HeldCmKey, *, alone: bool = False) -> None:
        """Keep one beside the others, or *alone*, in place of them; durable when this returns."""
        ...

    async def drop_cm_keys(self, keys: Iterable[tuple[EntityId, int]]) -> None:
        """Forget keys, each named by CM Device ID and generation."""
        ...
