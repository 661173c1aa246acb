"""A receiver: it checks who sent, opens, and takes each message once."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cpns.crypto import group
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.wire.group_messages import GroupMessage, GroupMessageKept, GroupMessageUp
from cpns.wire.registry import RUN_BYTES, SEQ_BYTES

REMEMBERED: Final = 64
"""Numbers, and IDs, of one sender that are remembered."""

AnyMessage = GroupMessage | GroupMessageUp | GroupMessageKept


class Order(Enum):
    """Where a message stands among those of its sender."""

    NEXT = "next"
    LATE = "late"
    """A newer one was taken before it."""
    REPEATED = "repeated"
    """Taken already, or so old that this can't be told: a replay, or a repetition whose answer was lost."""


def run_of(seq: bytes) -> int:
    """Return the registration that a number belongs to."""
    return int.from_bytes(seq[:RUN_BYTES], "big")


@dataclass(slots=True)
class Heard:
    """What a member took of one sender's messages in one group.

    Attributes:
        floor: no number up to this one is taken, except from the server, which says itself whether it sends again.
        numbers: those taken, the newest `REMEMBERED`.
        ids: of messages: one that was sealed anew under another epoch has another number, and the same ID.
    """

    floor: bytes = bytes(SEQ_BYTES)
    numbers: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)

    def order(self, seq: bytes, *, by_server: bool) -> Order:
        """Tell where a number stands."""
        if seq in self.numbers or (seq <= self.floor and not by_server):
            return Order.REPEATED
        return Order.LATE if self.numbers and seq < self.numbers[-1] else Order.NEXT

    def has(self, message_id: bytes) -> bool:
        """Whether a message with that ID was taken."""
        return message_id in self.ids

    def take(self, seq: bytes, message_id: bytes) -> None:
        """Note a message that was opened."""
        self.numbers = sorted([*self.numbers, seq])
        if len(self.numbers) > REMEMBERED:
            self.floor = max(self.floor, self.numbers.pop(0))
        if message_id not in self.ids:
            self.ids = [*self.ids, message_id][-REMEMBERED:]


def check_signature(message: AnyMessage, verify_key: bytes) -> None:
    """Check that the registered sender sent it.

    Raises:
        AuthenticationFailed: it is not signed, or by another, who may be a member.
    """
    if message.signature is None:
        raise AuthenticationFailed("group_message_is_not_signed")
    signed = group.message_input(message.sg_id, message.epoch, message.sender, message.seq, message.sealed)
    group.verify(verify_key, signed, message.signature)


def open_message(message: AnyMessage, group_key: Secret) -> bytes:
    """Return what a member of that epoch sealed. Raises `AuthenticationFailed`."""
    return group.open_message(group_key, message.sg_id, message.epoch, message.sender, message.seq, message.sealed)


def needs_another_key(message: AnyMessage, run: int | None) -> bool:
    """Whether a message is of a newer registration of its sender than *run*, the one whose key we know.

    Raises:
        Refused: it is of an older one, whose key is replaced.
    """
    if run is not None and run_of(message.seq) < run:
        raise Refused(Result.KEY_EXPIRED, "sender_has_registered_anew")
    return run is None or run_of(message.seq) > run
