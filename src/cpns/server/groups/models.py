"""The JSON about service groups."""

from typing import Self

from pydantic import BaseModel, Field

from cpns.domain.group import GroupInventory
from cpns.domain.invitation import INVITATION_SECONDS, OPEN_OF_LIST
from cpns.domain.member_list import Policy, Standing
from cpns.server.models import Request, rfc3339
from cpns.wire.registry import MAX_KEEP


class Candidate(Request):
    """Who is to own a group; null: the rule names one."""

    device: str | None = None


class GroupSettings(Request):
    """Who may join a group from now on, and how many seconds a message waits for who is away; null: as it is."""

    policy: Policy | None = None
    keep: int | None = Field(default=None, ge=0, le=MAX_KEEP)


class Group(BaseModel):
    """An entry of the SG Inventory.

    Attributes:
        members: the devices in it, and since when.
        listed: the others on its list: coming or leaving with the next epoch, invited, pending or barred.
        invited_until: when the invitations end that are open.
        invitations_left: how many more its owner and members may make, as far as this group goes.
    """

    id: str
    name: str
    service: str | None
    owner: str
    policy: str
    version: int
    epoch: int
    vouched: bool
    keep: int
    created_at: str
    members: dict[str, str]
    listed: dict[str, str]
    invited_until: dict[str, str]
    invitations_left: int

    @classmethod
    def of(cls, found: GroupInventory) -> Self:
        """Return *found* as it leaves."""
        one, inside = found.group, set(found.members)
        ends = {
            place.pne_id: place.since + INVITATION_SECONDS
            for place in found.listed
            if place.standing is Standing.INVITED
        }
        return cls(
            id=one.sg_id,
            name=one.name,
            service=one.service,
            owner=one.owner,
            policy=one.policy.value,
            version=one.version,
            epoch=one.epoch,
            vouched=one.vouched,
            keep=one.keep,
            created_at=rfc3339(one.created_at),
            members={place.pne_id: rfc3339(place.since) for place in found.listed if place.pne_id in inside},
            listed={place.pne_id: place.standing.value for place in found.listed if place.pne_id not in inside},
            invited_until={pne: rfc3339(at) for pne, at in ends.items()},
            invitations_left=max(0, OPEN_OF_LIST - len(ends)),
        )


class Groups(BaseModel):
    """The SG Inventory."""

    items: list[Group]
