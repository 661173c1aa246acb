"""What the services need of the store for what waits for devices."""

from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.group import KeptMessage, SenderKey, TakenMessage
from cpns.domain.inventory import KeptPush
from cpns.ids import EntityId


class MessageStore(Protocol):
    """What waits for a device: messages to groups, and texts. See `cpns.ports.Store`."""

    async def register_sender(self, pne_id: EntityId, verify_key: bytes | None, at: float) -> SenderKey:
        """Note the key under which a PNE sends from now on; its `run` was never given to this PNE before."""
        ...

    async def take_group_message(self, message: TakenMessage) -> None:
        """Note that a message was taken, as the sender's newest, and keep it for those that are members still.

        Of each group 64 wait for a member at the most; the oldest are dropped, and those that have expired.
        """
        ...

    async def kept_group_messages(self, pne_id: EntityId, now: float) -> list[KeptMessage]:
        """Return the messages that wait for a member, oldest first; without those that are over."""
        ...

    async def awaiting_group_messages(self) -> list[EntityId]:
        """Return the members for which messages wait."""
        ...

    async def drop_group_message(self, number: int, pne_id: EntityId) -> None:
        """A member has that message."""
        ...

    async def keep_push(self, push: KeptPush, actor: Actor) -> None:
        """Keep a text of somebody for its PNE; its `number` is given here. Those that have expired are dropped.

        Raises:
            Conflict: ``too_many_pushes``.
        """
        ...

    async def pushes_for(self, pne_id: EntityId, now: float) -> list[KeptPush]:
        """Return the texts that wait for a PNE, oldest first; without those that are over."""
        ...

    async def awaited(self) -> list[EntityId]:
        """Return the PNEs for which texts wait."""
        ...

    async def drop_push(self, number: int) -> None:
        """Drop one text: it has arrived."""
        ...

    async def drop_kept(self, now: float) -> bool:
        """Drop the texts and group messages that are over, and events and revocations that are old.

        Returns:
            Whether more may be left: of the latter it drops a part.
        """
        ...

    async def spare_kept(self, before: float, after: float) -> int:
        """Keep those that end between two times as much longer as lies between these; return how many."""
        ...
