"""What the services need of the store for personal networks."""

from collections.abc import Sequence
from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.inventory import Establishment, HeldThrough
from cpns.domain.membership import Rule
from cpns.domain.network import Admitted, Edited, Inventory, Listed, Network, Present, Waiting
from cpns.ids import EntityId, PnId


class NetworkStore(Protocol):
    """The PN Inventory (DEF-3), and who waits to be let in. See `cpns.ports.Store`."""

    async def establish(self, establishment: Establishment) -> Admitted:
        """Commit a finished SETUP: decide on each PNE that has proven itself, and change the PN, its members, the log.

        Raises:
            Refused: UNKNOWN_PN: another PN GW serves that PN.
        """
        ...

    async def edit(
        self,
        pn_id: PnId,
        subjects: Sequence[EntityId],
        rule: Rule,
        at: float,
        actor: Actor,
        *,
        known: bool = False,
    ) -> Edited:
        """Commit what *rule* makes of the PN and the places of *subjects* in it.

        Args:
            pn_id: the PN.
            subjects: whose places *rule* wants to see, besides that of *actor*.
            rule: of `cpns.domain.membership`; called inside the transaction.
            at: for the audit log.
            actor: who decides. For a PNE or PN GW a PN that it neither serves nor has a place in is none,
            known: unless it was told of it.

        Raises:
            Refused: UNKNOWN_PN, or what *rule* raised.
        """
        ...

    async def expire_invitations(self, at: float, limit: int) -> list[Network]:
        """End up to *limit* invitations into PNs that are over; return those PNs as they are now."""
        ...

    async def network(self, pn_id: PnId) -> Network | None:
        """Return one PN, or None."""
        ...

    async def networks_of(self, gateway_id: EntityId) -> dict[PnId, int]:
        """Return the PNs that this PN GW serves, each with its version, the one it has had longest first."""
        ...

    async def membership(self, pne_id: EntityId) -> tuple[PnId, Present] | None:
        """Return the PN that this PNE is in, and how, or None."""
        ...

    async def home(self, pne_id: EntityId) -> tuple[PnId, EntityId] | None:
        """Return the PN that a PNE, a guest where it is, became a member of last, and its PN GW; None: it is none."""
        ...

    async def networks(self) -> list[Inventory]:
        """Return the PN Inventory, by PN ID."""
        ...

    async def inventory(self, pn_id: PnId) -> Inventory | None:
        """Return one entry of the PN Inventory, or None."""
        ...

    async def members_page(self, pn_id: PnId, after: str, limit: int) -> list[Present]:
        """Return up to *limit* members of a PN with an ID over *after*, by ID."""
        ...

    async def listed_page(self, pn_id: PnId, after: str, limit: int) -> list[Listed]:
        """As `members_page`, with those that stand as members and are not in the PN."""
        ...

    async def waiting(self) -> list[Waiting]:
        """Return the PNEs that wait for a decision: those that have proven themselves first, each by ID."""
        ...

    async def dismiss(self, entity_id: EntityId, at: float, actor: Actor) -> None:
        """Forget that an ID came which nobody provisioned."""
        ...

    async def held_through(self, gateway_id: EntityId) -> list[HeldThrough]:
        """Return what a PN GW ever held, by PNE ID."""
        ...
