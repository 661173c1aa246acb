"""The JSON of the API that is about service groups; see `cpns.admin.models`."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from cpns.admin.models import rfc3339
from cpns.domain.group import GroupInventory
from cpns.domain.network import Policy
from cpns.wire.registry import MAX_KEEP


class Candidate(BaseModel):
    """Who is to own a group; null: the rule names one."""

    model_config = ConfigDict(extra="forbid")

    device: str | None = None


class GroupSettings(BaseModel):
    """Who may join a group from now on, and how many seconds a message waits for who is away; null: as it is."""

    model_config = ConfigDict(extra="forbid")

    policy: Policy | None = None
    keep: int | None = Field(default=None, ge=0, le=MAX_KEEP)


class Group(BaseModel):
    """An entry of the SG Inventory.

    Attributes:
        members: the devices in it, and since when.
        listed: the others on its list, and how they stand: invited, pending or barred.
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

    @classmethod
    def of(cls, found: GroupInventory) -> Self:
        """Return *found* as it leaves."""
        one, inside = found.group, set(found.members)
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
        )


class Groups(BaseModel):
    """The SG Inventory."""

    items: list[Group]
