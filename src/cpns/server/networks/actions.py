"""What may be asked for about personal networks: each is a rule, and one transaction.

Whoever the change concerns is told of it by the delivery; where no server runs, there is nobody to tell or to ask.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from cpns.domain import membership
from cpns.domain.actor import Actor
from cpns.domain.member_list import Policy
from cpns.domain.membership import Rule
from cpns.domain.network import Edited, Network
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Store
from cpns.service.places import places
from cpns.shares.noted import by
from cpns.wire.registry import Change

_log = logging.getLogger("cpns.server")

COMES: Final = "pn"
"""What a PNE is asked: whether it comes into a PN."""
MAX_INVITATIONS: Final = 256
"""INVITE Requests under way at once; each waits for people."""
MAX_INVITATIONS_EACH: Final = 4
"""Those of one asker."""
EXPIRED_AT_ONCE: Final = 256


class Delivery(Protocol):
    """Who tells those that a change concerns, and asks those that have to agree; see `NetworkDelivery`."""

    async def ended(
        self, edited: Edited, gone: Sequence[EntityId], change: Change, *, tell_them: bool, confirm: bool = False
    ) -> None:
        """End the sessions of PNEs that are members no longer, and tell whom it concerns."""
        ...

    async def released(self, edited: Edited) -> None:
        """A PN has ended: so do the sessions of its members."""
        ...

    async def updated(self, network: Network) -> None:
        """Tell the PN GW of a PN that it has another version."""
        ...

    async def switched(self, edited: Edited, addresses: tuple[str, ...]) -> None:
        """Another PN GW serves a PN, whose PANs are at *addresses*: tell both."""
        ...

    async def invited(self, network: Network, whom: tuple[EntityId, ...]) -> dict[EntityId, Result]:
        """Let the PN GW ask those that it reaches; return how it ended for each."""
        ...

    async def agreed(self, gateway: EntityId, pn_id: PnId, to: EntityId) -> tuple[str, ...]:
        """Return where the PANs of a PN GW are that agrees to a switch. Raises `Refused` where it does not."""
        ...


class Nobody:
    """A `Delivery` where no server runs."""

    async def ended(
        self, edited: Edited, gone: Sequence[EntityId], change: Change, *, tell_them: bool, confirm: bool = False
    ) -> None:
        """Nobody has a session."""

    async def released(self, edited: Edited) -> None:
        """Nobody has a session."""

    async def updated(self, network: Network) -> None:
        """Tell nobody: who comes asks for the PN Inventory first."""

    async def switched(self, edited: Edited, addresses: tuple[str, ...]) -> None:
        """Tell nobody."""

    async def invited(self, network: Network, whom: tuple[EntityId, ...]) -> dict[EntityId, Result]:
        """Return that none can be asked."""
        return dict.fromkeys(whom, Result.OUT_OF_REACH)

    async def agreed(self, gateway: EntityId, pn_id: PnId, to: EntityId) -> tuple[str, ...]:
        """Raise `NoAnswer`: no PN GW is connected."""
        raise NoAnswer("gateway_away")


class NetworkActions:
    """The actions on PNs.

    Args:
        delivery: tells of them.
    """

    def __init__(self, store: Store, clock: Clock, delivery: Delivery) -> None:
        self._store = store
        self._clock = clock
        self._delivery = delivery
        self._inviting = places(MAX_INVITATIONS, clock.monotonic, MAX_INVITATIONS_EACH, "invitations_at_once")

    async def _edit(self, pn_id: PnId, subjects: Sequence[EntityId], rule: Rule, actor: Actor) -> Edited:
        return await self._store.edit(pn_id, subjects, rule, self._clock.now(), actor)

    async def expire(self) -> list[Network]:
        """End invitations that are over; return the PNs that have another version."""
        return await self._store.expire_invitations(self._clock.now(), EXPIRED_AT_ONCE)

    async def leave(self, pn_id: PnId, actor: Actor) -> None:
        """End a PNE's own membership. Raises `Refused`, as all of these."""
        edited = await self._edit(pn_id, [], membership.leave, actor)
        await self._delivery.ended(edited, edited.edit.gone, Change.LEFT, tell_them=False)

    async def expel(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> None:
        """Put members out; when this returns their sessions are gone, here and at the PN GW if that can be reached."""
        rule = partial(membership.expel, whom=whom, at=self._clock.now())
        edited = await self._edit(pn_id, whom, rule, actor)
        gone = edited.edit.gone
        await self._delivery.ended(edited, gone, Change.EXPELLED, tell_them=True, confirm=actor.is_operator)

    async def release(self, pn_id: PnId, actor: Actor) -> None:
        """End a PN, and with it the sessions of its members."""
        await self._delivery.released(await self._edit(pn_id, [], membership.release, actor))

    async def invite(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Put PNEs on the member list, and let the PN GW ask those that it reaches; return how it ended for each.

        TOO_MANY, besides: the asker, or the PN GW, has as many invitations under way as it may.
        """
        if actor.entity_id is None:  # nothing bounds an operator
            return await self._invite(pn_id, actor, whom)
        async with self._inviting(actor.entity_id) as run:
            results = await self._invite(pn_id, actor, whom)
            run.proved = True
            return results

    async def _invite(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        edited = await self._edit(pn_id, whom, partial(membership.invite, whom=whom), actor)
        asking: tuple[EntityId, ...] = ()  # operator and PN GW may ask as they like
        if actor.is_device and actor.entity_id is not None:
            asking = tuple(dict.fromkeys([actor.entity_id, edited.after.owner or actor.entity_id]))
        results = dict.fromkeys(whom, Result.SUCCESS)
        if asking:
            results = await self._store.may_ask(COMES, whom, asking, self._clock.now())
        asked = tuple(pne for pne, may in results.items() if may is Result.SUCCESS)
        if asked:
            results |= await self._delivery.invited(edited.after, asked)
        for pne in asked:
            if results[pne] is Result.REFUSED_BY_USER:
                await self._store.declined(COMES, pne, asking, pn_id, self._clock.now())
        return results

    async def approve(self, pn_id: PnId, actor: Actor, pne: EntityId, *, let_in: bool) -> None:
        """Decide on a PNE that waits."""
        rule = membership.approve if let_in else membership.refuse
        edited = await self._edit(pn_id, [pne], partial(rule, pne=pne), actor)
        if edited.edit.gone:
            await self._delivery.ended(edited, edited.edit.gone, Change.EXPELLED, tell_them=True)
        elif let_in:  # its PN GW has to know where it belongs before it comes
            await self._delivery.updated(edited.after)

    async def update(
        self, pn_id: PnId, actor: Actor, *, policy: Policy | None, alias: str | None, owner: EntityId | None
    ) -> Network:
        """Change policy, alias or owner, as the operator says."""
        rule = partial(membership.update, policy=policy, alias=alias, owner=owner)
        edited = await self._edit(pn_id, [owner] if owner is not None else [], rule, actor)
        await self._delivery.updated(edited.after)
        return edited.after

    async def switch(self, pn_id: PnId, to: EntityId, actor: Actor, addresses: tuple[str, ...] = ()) -> None:
        """Let another PN GW serve a PN (PN GW switching), when both agree, or the operator and the new one.

        Args:
            pn_id: the PN.
            to: the new PN GW.
            actor: either PN GW of the two, or an operator.
            addresses: where the PANs of *to* are, if that is who asks.

        Raises:
            Refused: one of them is away or does not agree; or the PN was switched or released meanwhile.
        """
        network = await self._store.network(pn_id)
        if network is None or not (actor.is_operator or actor.entity_id in (network.gateway_id, to)):
            raise Refused(Result.UNKNOWN_PN, "no_such_pn")
        if to == network.gateway_id:
            raise Refused(Result.EXISTS, "serves_it_already")
        if actor.entity_id == to:
            await self._delivery.agreed(network.gateway_id, pn_id, to)
        else:
            addresses = await self._delivery.agreed(to, pn_id, to)
        rule = partial(membership.switch, frm=network.gateway_id, to=to)
        edited = await self._store.edit(pn_id, (), rule, self._clock.now(), actor, known=True)
        _log.info("PN %s is switched from %s to %s", pn_id, network.gateway_id, to, extra=by(actor.entity_id or ""))
        await self._delivery.switched(edited, addresses)
