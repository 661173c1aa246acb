"""The JSON about personal networks."""

from collections.abc import Callable
from typing import Self

from pydantic import BaseModel, field_validator

from cpns.domain import network as pn
from cpns.domain.member_list import Policy
from cpns.domain.presence import Fact
from cpns.ids import EntityId
from cpns.server.models import Request, rfc3339
from cpns.wire import fields
from cpns.wire.registry import MAX_ALIAS_BYTES


class Switch(Request):
    """The gateway that is to serve a network."""

    gateway: str


class Settings(Request):
    """What is to change of a network; null leaves it."""

    policy: Policy | None = None
    alias: str | None = None
    owner: str | None = None

    @field_validator("alias")
    @classmethod
    def _fits(cls, alias: str | None) -> str | None:
        if alias is not None and not fields.is_text(alias):
            raise ValueError(f"an alias has 1 to {MAX_ALIAS_BYTES} bytes of printable characters")
        return alias


class Member(BaseModel):
    """A device in a network.

    Attributes:
        state: connected, idle, asleep or away; null where nobody knows, as of `Entity.connected`.
        at: when that was learned; `source` is who said so: the device (pne), its gateway, or the server.
        guest: whether its home is another network.
    """

    id: str
    since: str
    guest: bool
    pan_secure: bool
    state: str | None
    at: str | None
    source: str | None

    @classmethod
    def of(cls, member: pn.Present, fact: Fact | None) -> Self:
        """Return *member* as it leaves, with what is known of where it is."""
        return cls(
            id=member.pne_id,
            since=rfc3339(member.since),
            guest=member.guest,
            pan_secure=member.pan_secure,
            state=None if fact is None else fact.presence.name.lower(),
            at=None if fact is None else rfc3339(fact.at),
            source=None if fact is None else fact.source.name.lower(),
        )


class Network(BaseModel):
    """An entry of the PN Inventory.

    Attributes:
        stands_in: the device that came first, where there is no owner.
        members: the devices that are in it now.
        listed: the others on its member list, and how they stand: member, invited, pending or barred.
    """

    id: str
    gateway: str
    alias: str | None
    owner: str | None
    stands_in: str | None
    policy: str
    version: int
    created_at: str
    members: list[Member]
    listed: dict[str, str]

    @classmethod
    def of(cls, found: pn.Inventory, presence: Callable[[EntityId], Fact | None]) -> Self:
        """Return *found* as it leaves."""
        one = found.network
        return cls(
            id=one.pn_id,
            gateway=one.gateway_id,
            alias=one.alias,
            owner=one.owner,
            stands_in=found.first,
            policy=one.policy.value,
            version=one.version,
            created_at=rfc3339(one.created_at),
            members=[Member.of(member, presence(member.pne_id)) for member in found.members],
            listed={pne: standing.value for pne, standing in found.listed},
        )


class Networks(BaseModel):
    """The PN Inventory."""

    items: list[Network]
