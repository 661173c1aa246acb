"""Messages to groups on their way: handed on to the PN GWs of the members, and later to those that were away."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from cpns.domain.group import Group, KeptMessage
from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId
from cpns.ports import topics
from cpns.server.feature import Here
from cpns.server.peers.elsewhere import ELSEWHERE_SECONDS
from cpns.service.deliveries import Deliveries
from cpns.service.group_keyring import GroupKeyring
from cpns.service.patience import Patience
from cpns.shares.noted import by
from cpns.wire import codec
from cpns.wire import group_messages as m

_log = logging.getLogger("cpns.server")

HAND_ON_SECONDS: Final = 8.0
"""What a PN GW has to give a message to its members."""
PATIENCE: Final = 4.0
"""What a sender waits for a PN GW, which waits for its members; who has not got it by then is given it end to end."""
KEPT_SECONDS: Final = 4.0


class MessageDelivery:
    """Hands them on.

    Args:
        keys: opens the Group Key of a message that was kept.
    """

    def __init__(self, here: Here, keys: GroupKeyring) -> None:
        self._store = here.store
        self._keys = keys
        self._gateways = here.gateways
        self._pnes = here.pnes
        self._clock = here.clock
        self._cluster = here.cluster
        self._cluster.serve(topics.GROUP_MESSAGE, self._hand_on_elsewhere)
        self._cluster.serve(topics.GROUP_MESSAGES_WAIT, self._wait_elsewhere)
        self._patience: Patience[Sequence[EntityId]] = Patience(PATIENCE, here.gateways.link)
        self._deliveries = Deliveries(self._due, self._hand_over)

    async def load(self) -> None:
        """Take up what waits by the store: since before our start, or kept by another process."""
        self._deliveries.take_up(await self._store.awaiting_group_messages())

    async def close(self) -> None:
        """Stop sending; what has not arrived waits on."""
        await self._patience.close()
        await self._deliveries.close()

    @property
    def waiting(self) -> frozenset[EntityId]:
        """The members for which something waits."""
        return self._deliveries.waiting

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: give it what waits for it."""
        self._deliveries.heard(pne)

    def wait_for(self, pnes: Sequence[EntityId]) -> None:
        """A message that is kept waits for *pnes*, at whichever process these are."""
        self._cluster.tell(topics.GROUP_MESSAGES_WAIT, topics.Entities(tuple(pnes)))
        self._wait(pnes)

    def _wait(self, pnes: Iterable[EntityId]) -> None:
        """A message waits for *pnes*: those behind this process may have missed no more than that one datagram."""
        self._deliveries.wait_for(pnes)
        for pne in pnes:
            if self._pnes.here(pne) is not None:
                self._deliveries.heard(pne)

    async def hand_on(
        self, group: Group, others: Sequence[EntityId], message: m.GroupMessageUp, own: EntityId
    ) -> list[EntityId]:
        """Give a message to the PN GWs of the other members; return who of these has not got it.

        Of an epoch that is over, to those that were members of it: no newcomer gets its key. The sender's own PN GW
        does not give such a message to anybody before we took it.
        """
        plain = m.GroupMessage(
            *(message.sg_id, message.epoch, message.sender, message.seq, message.sealed, message.signature)
        )
        behind = self._behind(others)
        elsewhere = behind.pop(None, [])
        missed: list[EntityId] = []
        if message.epoch == group.epoch or message.count or message.missed:
            missed += _without(behind.pop(own, []), message.count, message.missed)
        here, there = await asyncio.gather(self._give_all(behind, plain), self._give_elsewhere(elsewhere, plain))
        return missed + here + there

    def _behind(self, pnes: Sequence[EntityId]) -> dict[EntityId | None, list[EntityId]]:
        """Return *pnes* by the PN GW that they are behind, as far as it is connected here; None: not here."""
        behind: dict[EntityId | None, list[EntityId]] = {}
        for pne in pnes:
            way = self._pnes.here(pne)
            behind.setdefault(None if way is None else way[1].via, []).append(pne)
        return behind

    async def _give_all(
        self, behind: Mapping[EntityId | None, list[EntityId]], message: m.GroupMessage
    ) -> list[EntityId]:
        there = {gateway: pnes for gateway, pnes in behind.items() if gateway is not None}
        missed = await self._patience.ask(
            {gateway: partial(self._give, gateway, pnes, message) for gateway, pnes in there.items()}
        )
        return [pne for gateway, pnes in there.items() for pne in missed.get(gateway, pnes)]

    async def _give_elsewhere(self, pnes: list[EntityId], message: m.GroupMessage) -> list[EntityId]:
        """Let the other processes give a message to those of *pnes* that are behind them; return who has not got it."""
        if not pnes:
            return []
        seconds = PATIENCE + ELSEWHERE_SECONDS
        asked = topics.GroupMessageFor(codec.encode(message), tuple(pnes))
        answers = await self._cluster.ask(topics.GROUP_MESSAGE, asked, seconds)
        have = {pne for some in answers.values if some is not None for pne in some.entities}
        return [pne for pne in pnes if pne not in have]

    async def _give(self, gateway: EntityId, pnes: Sequence[EntityId], message: m.GroupMessage) -> Sequence[EntityId]:
        """Give a message to one PN GW; return which of *pnes*, that are behind it, have not got it."""
        try:
            answer = await self._gateways.ask(gateway, message, m.GroupMessageResponse, HAND_ON_SECONDS)
        except Refused as error:
            _log.info("gateway %s does not take a message to a group: %s", gateway, error, extra=by(gateway))
            return pnes
        return _without(pnes, answer.count or 0, answer.missed or ())

    async def _due(self, pne: EntityId) -> Sequence[KeptMessage]:
        return await self._store.kept_group_messages(pne, self._clock.now())

    async def _hand_over(self, pne: EntityId, kept: KeptMessage) -> None:
        """Give a member what was kept for it, end to end, with the Group Key of that epoch, which it may have missed.

        Raises:
            Refused: it is away.
        """
        way = self._pnes.here(pne)
        if way is None:
            raise NoAnswer("away")
        one = kept.message
        message = m.GroupMessageKept(
            *(one.sg_id, one.epoch, one.sender, one.seq, one.sealed),
            self._keys.open(one.sg_id, one.epoch, one.sealed_key).reveal(),
            one.signature,
            one.verify_key,
        )
        await way[0].tell(message, timeout=KEPT_SECONDS, session=way[1])
        await self._store.drop_group_message(kept.number, pne)

    # for other processes

    async def _hand_on_elsewhere(self, asked: topics.GroupMessageFor) -> topics.Entities:
        """Give a message to members that are behind this process; return who has it."""
        behind = self._behind(asked.pnes)
        away = behind.pop(None, [])
        missed = {*away, *await self._give_all(behind, codec.decode(asked.message, m.GroupMessage))}
        return topics.Entities(tuple(pne for pne in asked.pnes if pne not in missed))

    async def _wait_elsewhere(self, pnes: topics.Entities) -> None:
        self._wait(pnes.entities)


def _without(pnes: Sequence[EntityId], count: int, missed: Sequence[EntityId]) -> Sequence[EntityId]:
    """Return who of *pnes* has not got it; all of them where the numbers of their PN GW don't add up.

    It lists 64 at the most, and may not know yet of one that the server finds behind it.
    """
    missing = [pne for pne in pnes if pne in missed]
    return missing if count + len(missing) == len(pnes) else pnes
