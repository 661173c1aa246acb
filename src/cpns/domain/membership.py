"""Who may be in a personal network, and who decides: the rules, without I/O (AUTH-0, FN-8).

Each rule takes the PN and the places of the PNEs concerned, as they are inside the transaction that will change them,
and returns the change or raises `Refused`.

    right            operator  owner    who stands in  PN GW of the PN  member         guest, others
    invite           yes       yes      who is not barred  policy open  policy open    no
    approve          yes       yes      yes            no               no             no
    refuse           yes       yes      no             no               no             no
    expel            and bar   and bar  one a minute   without a bar    no             no
    release          yes       yes      no             yes              no             no
    leave            -         itself   itself         -                itself         itself
    hand to another PN GW  yes no       no             if that one agrees  no          no

Who may own is provisioned, or named by the operator. Where a PN has no owner, the member that has been in it longest
stands in: being first proves nothing, so it can shut nobody out for good.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

from cpns.domain.actor import Actor, Role
from cpns.domain.member_list import Policy, Standing, check_expels, check_invites, check_operator, come, governs
from cpns.domain.network import Admission, Edit, Network, Place
from cpns.errors import Refused, Result
from cpns.ids import EntityId

Places = Mapping[EntityId, Place]
Rule = Callable[[Network, Places, Actor], Edit]
"""The actor is the one that the store writes down, as it is within the PN."""

EXPEL_SECONDS: Final = 60.0
"""How often who stands in for the owner may put one out."""


def admit(policy: Policy, place: Place, actor: Actor, *, founding: bool) -> Admission:
    """Decide on a PNE that has proven itself, and the PN GW that it came through.

    Args:
        policy: of the PN.
        place: of the PNE.
        actor: the PNE: nobody else comes in, and nobody for it.
        founding: whether its SETUP is the one that makes the PN; then it is a first member.
    """
    if not actor.is_device:
        return Admission(Result.NOT_ALLOWED, "no_active_device")
    standing = come(policy, place.standing)
    if standing is Standing.BARRED:
        return Admission(Result.NOT_ALLOWED, "barred")
    if place.standing in (Standing.MEMBER, Standing.INVITED) or founding:
        return Admission(Result.SUCCESS, standing=Standing.MEMBER)
    if place.present:  # a guest sets up again
        return Admission(Result.SUCCESS)
    if standing is Standing.MEMBER:
        return Admission(Result.SUCCESS, standing=None if place.home else standing)
    if standing is Standing.PENDING:
        return Admission(Result.PENDING_APPROVAL, "pending_approval", standing)
    return Admission(Result.POLICY, "not_on_the_member_list")


def first_owner(came: Iterable[EntityId], may_own: Container[EntityId]) -> EntityId | None:
    """Return who owns a PN without an owner when *came*, in this order, are members: the first that may own."""
    return next((pne for pne in came if pne in may_own), None)


def invite(network: Network, places: Places, actor: Actor, whom: Sequence[EntityId]) -> Edit:
    """Put *whom* on the member list, so that they may come; who governs lifts a bar too."""
    strong = governs(actor) or _stands_in(network, places, actor)
    may = strong or (network.policy is Policy.OPEN and _belongs(network, places, actor))
    check_invites(actor, may=may, standings=[places[pne].standing for pne in whom])
    new = [pne for pne in whom if places[pne].standing is not Standing.MEMBER]
    return Edit("invited", tuple(new), standings=dict.fromkeys(new, Standing.INVITED) if strong else {})


def approve(network: Network, places: Places, actor: Actor, pne: EntityId) -> Edit:
    """Let a waiting PNE in: at its next attempt it is a member."""
    _waiting(places, pne, may=governs(actor) or _stands_in(network, places, actor))
    return Edit("approved", (pne,), standings={pne: Standing.MEMBER})


def refuse(network: Network, places: Places, actor: Actor, pne: EntityId) -> Edit:
    """Bar a waiting PNE, and put it out where it is in meanwhile, as guest."""
    _waiting(places, pne, may=governs(actor))
    gone = (pne,) if places[pne].present else ()
    return Edit("barred", (pne,), standings={pne: Standing.BARRED}, gone=gone)


def _waiting(places: Places, pne: EntityId, *, may: bool) -> None:
    if not may:
        raise Refused(Result.NOT_ALLOWED, "may_not_approve")
    if places[pne].standing is not Standing.PENDING:
        raise Refused(Result.NOT_A_MEMBER, "not_waiting")


def leave(network: Network, places: Places, actor: Actor) -> Edit:
    """End a PNE's own membership, and its place on the list."""
    pne = actor.entity_id
    if pne is None or not actor.is_device or not places[pne].present:
        raise Refused(Result.NOT_A_MEMBER, "not_in_this_pn")
    return Edit("left", (pne,), standings={pne: None}, gone=(pne,))


def expel(network: Network, places: Places, actor: Actor, whom: Sequence[EntityId], at: float) -> Edit:
    """End the membership of *whom*, and bar them where owner or operator says so.

    The PN GW can put them out, as it can refuse service anyway; the member list is not its to write. Nor is it that of
    who stands in for an owner, which puts out one a minute.
    """
    strong = governs(actor)
    stands_in = _stands_in(network, places, actor)
    check_expels(actor, whom, may=strong or stands_in or _serves(network, actor))
    if any(not places[pne].present and (places[pne].standing is None or not strong) for pne in whom):
        raise Refused(Result.NOT_A_MEMBER, "not_in_this_pn")
    if stands_in and (len(whom) > 1 or at < network.expelled_at + EXPEL_SECONDS):
        raise Refused(Result.TOO_MANY, "one_a_minute_while_there_is_no_owner")
    gone = tuple(pne for pne in whom if places[pne].present)
    standings: dict[EntityId, Standing | None] = dict.fromkeys(whom, Standing.BARRED) if strong else {}
    return Edit("expelled", tuple(whom), standings=standings, gone=gone, expelled_at=at if stands_in else None)


def release(network: Network, places: Places, actor: Actor) -> Edit:
    """End the PN."""
    if not governs(actor) and not _serves(network, actor):
        raise Refused(Result.NOT_ALLOWED, "may_not_release")
    return Edit("pn_released", released=True)


def switch(network: Network, places: Places, actor: Actor, frm: EntityId, to: EntityId) -> Edit:
    """Let another PN GW serve the PN, if it is still *frm* that does: the first of two switches wins."""
    if not actor.is_operator and (actor.role is not Role.GATEWAY or actor.name not in (frm, to)):
        raise Refused(Result.UNKNOWN_PN, "no_such_pn")
    if network.gateway_id != frm:
        raise Refused(Result.IN_PROGRESS, "switched_meanwhile")
    return Edit("pn_gw_switched", gateway_id=to)


def update(
    network: Network,
    places: Places,
    actor: Actor,
    *,
    policy: Policy | None = None,
    alias: str | None = None,
    owner: EntityId | None = None,
) -> Edit:
    """Change what the operator may: policy, alias, owner (who has to stand as member on the list)."""
    check_operator(actor)
    if owner is not None and places[owner].standing is not Standing.MEMBER:
        raise Refused(Result.NOT_A_MEMBER, "owner_is_no_member")
    return Edit("pn_settled", policy=policy, alias=alias, owner=owner)


def _stands_in(network: Network, places: Places, actor: Actor) -> bool:
    """Whether *actor* came first into a PN that has no owner."""
    if not actor.is_device or network.owner is not None:
        return False
    return places[EntityId(actor.name)].first


def _serves(network: Network, actor: Actor) -> bool:
    return actor.role is Role.GATEWAY and actor.name == network.gateway_id


def _belongs(network: Network, places: Places, actor: Actor) -> bool:
    """Whether *actor* serves the PN, or is in it as member."""
    return _serves(network, actor) or (actor.role is Role.MEMBER and places[EntityId(actor.name)].present)
