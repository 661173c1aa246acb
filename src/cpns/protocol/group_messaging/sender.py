"""The sender: it numbers, seals and signs."""

from dataclasses import dataclass, field
from typing import Final

from cpns.crypto import group
from cpns.crypto.secret import Secret
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.wire.group_messages import GroupMessage
from cpns.wire.registry import RUN_BYTES, SEQ_BYTES, START_BYTES

COUNT_BYTES: Final = SEQ_BYTES - RUN_BYTES - START_BYTES


@dataclass(slots=True)
class Sender:
    """One registration of a sender: its key, and the sequence numbers under it.

    A number is ``run || start || count``, 4 bytes each. The server gives no run twice, and says it end to end; so a
    device needs to keep nothing over a restart, and no number returns under one key. *start* is for the one case in
    which a run does return: a server that was set back to a backup.

    Attributes:
        start: 4 fresh random bytes.
        counts: messages so far, by group.
    """

    pne_id: EntityId
    run: int
    start: bytes
    sign_key: Secret
    counts: dict[SgId, int] = field(default_factory=dict)

    def seal(self, sg_id: SgId, epoch: int, group_key: Secret, plaintext: bytes, *, signed: bool) -> GroupMessage:
        """Return *plaintext* as the next message to a group.

        Raises:
            Refused: TOO_MANY: all numbers of this registration are used up, and another is needed.
        """
        count = self.counts.get(sg_id, 0) + 1
        if count >> 8 * COUNT_BYTES:
            raise Refused(Result.TOO_MANY, "sequence_numbers_used_up")
        self.counts[sg_id] = count
        seq = self.run.to_bytes(RUN_BYTES, "big") + self.start + count.to_bytes(COUNT_BYTES, "big")
        sealed = group.seal_message(group_key, sg_id, epoch, self.pne_id, seq, plaintext)
        signature = None
        if signed:
            signature = group.sign(self.sign_key, group.message_input(sg_id, epoch, self.pne_id, seq, sealed))
        return GroupMessage(sg_id, epoch, self.pne_id, seq, sealed, signature)
