"""What the services need of the store for service groups; `cpns.ports.Store` is one of these too."""

from collections.abc import Sequence
from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.group import MAX_GROUPS, ChangedGroup, Group, GroupInventory, GroupRule, KeyedGroup, MakeGroupKey
from cpns.errors import Result
from cpns.ids import EntityId, SgId


class GroupStore(Protocol):
    """The SG Inventory. See `cpns.ports.Store` for what holds of all its methods."""

    async def group(self, sg_id: SgId, asker: EntityId | None = None, at: float = 0.0) -> GroupInventory | None:
        """Return one entry of the SG Inventory, or None.

        Args:
            sg_id: the group.
            asker: for it a closed group that it has no place in is none; None: it may know of all.
            at: decides which invitations have ended.
        """
        ...

    async def groups(self) -> list[GroupInventory]:
        """Return the SG Inventory, by name; names may be equal."""
        ...

    async def group_page(
        self,
        sg_id: SgId,
        asker: EntityId | None,
        members: Sequence[EntityId],
        after: str,
        limit: int,
        only: EntityId | None = None,
    ) -> GroupInventory | None:
        """Return a group with up to *limit* places of its list, as *asker* may see it; None where it may not.

        Args:
            sg_id: the group.
            asker: its owner sees the whole list, others the members; None: the members are asked for alone.
            members: the PNEs that it asks for, one of which has to be a member.
            after: of the page before; empty: the first page.
            limit: of the page.
            only: that PNE's place alone.
        """
        ...

    async def groups_of(self, pne_ids: Sequence[EntityId], after: str, limit: int) -> list[SgId]:
        """Return up to *limit* groups with an ID over *after* that any of these PNEs is a member of, by ID."""
        ...

    async def discover_groups(
        self, pne_id: EntityId, keyword: str, service: str | None, after: str, limit: int
    ) -> list[Group]:
        """Return up to *limit* groups with an ID over *after* that this PNE may find.

        Args:
            pne_id: who looks; a closed group is found by who is on its list alone.
            keyword: in name or service, whatever the case; empty finds all.
            service: exactly; None finds any.
            after: of the page before.
            limit: of the page.
        """
        ...

    async def create_group(self, new: Group, most: int) -> None:
        """Commit a new group with its owner as first member.

        Raises:
            Refused: EXISTS: its owner has one of that name. TOO_MANY: its owner is in *most* groups, or makes them too
                fast.
        """
        ...

    async def change_group(
        self, sg_id: SgId, rule: GroupRule, at: float, actor: Actor, most: int = MAX_GROUPS
    ) -> ChangedGroup:
        """Commit what *rule* makes of the group and its list; see `edit`.

        Raises:
            Refused: UNKNOWN_SG (a closed group is none for who has no place in it), TOO_MANY (who would come in is in
                *most* groups, or the list is full), or what *rule* raised.
        """
        ...

    async def may_ask(
        self, what: str, whom: Sequence[EntityId], asking: Sequence[EntityId], at: float
    ) -> dict[EntityId, Result]:
        """Note that PNEs are asked something; return SUCCESS for each that may be.

        Args:
            what: a word for the question.
            whom: those that are asked, whether they exist or not.
            asking: who causes that, and whom else it is done for.
            at: seconds since the epoch.

        Returns:
            REFUSED_BY_USER for who said no to one of *asking* within the hour; TOO_MANY for who was asked too often by
            the first of them; OUT_OF_REACH for who was asked too often by all.
        """
        ...

    async def declined(self, what: str, pne: EntityId, asking: Sequence[EntityId], about: str, at: float) -> None:
        """Note that a PNE said no to *asking*; the audit log gets a row ``WHAT_declined`` with *about* as reason."""
        ...

    async def groups_named(self, sg_ids: Sequence[SgId]) -> list[Group]:
        """Return those of these groups that there are, by ID."""
        ...

    async def begin_epoch(self, sg_id: SgId, at: float) -> ChangedGroup | None:
        """Commit that the next epoch of a group begins, if it is due; None where there is no such group."""
        ...

    async def due_epochs(self, limit: int) -> list[SgId]:
        """Return up to *limit* groups for whose next epoch somebody waits."""
        ...

    async def expire_group_invitations(self, at: float, limit: int) -> list[ChangedGroup]:
        """End up to *limit* invitations into groups that are over."""
        ...

    async def sweep_bounds(self, at: float) -> None:
        """Drop what is kept for a time alone, and is over: Group Keys of older epochs, paces."""
        ...

    async def group_key(
        self, sg_id: SgId, make: MakeGroupKey, at: float, of: Sequence[EntityId] | None = None
    ) -> KeyedGroup | None:
        """Return a group as it is with the Group Key of its running epoch; None where there is no such group.

        Args:
            sg_id: the group.
            make: makes that key, where nobody asked for it in this epoch; one key is ever made for an epoch.
            at: decides which older epochs are taken still.
            of: for these PNEs, none of which is a member where there is no such group; None: for the server itself.
        """
        ...

    async def silent_owners(self, since: float) -> list[tuple[Group, tuple[EntityId, ...]]]:
        """Return the groups whose owner was not established since then, and the members that were."""
        ...
