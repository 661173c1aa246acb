"""The JSON about who waits to be let in, and about what a gateway could read."""

from typing import Self

from pydantic import BaseModel

from cpns.domain import inventory
from cpns.domain import network as pn
from cpns.server.changing.models import CmDevice
from cpns.server.models import rfc3339


class Waiting(BaseModel):
    """A device that waits for a decision.

    Attributes:
        known: whether it is provisioned and has proven itself; else nothing is proven but that a gateway named it.
        network: the network that it wants to come into; null for one that is not known.
    """

    id: str
    known: bool
    network: str | None
    via: str
    since: str
    last: str
    attempts: int

    @classmethod
    def of(cls, one: pn.Waiting) -> Self:
        """Return *one* as it leaves."""
        return cls(
            id=one.pne_id,
            known=one.known,
            network=one.pn_id,
            via=one.via,
            since=rfc3339(one.since),
            last=rfc3339(one.last),
            attempts=one.attempts,
        )


class Pending(BaseModel):
    """The devices that wait for a decision."""

    items: list[Waiting]


class Held(BaseModel):
    """What a gateway had to do with one device; each establishment gave it a hop key, if the PAN was open."""

    device: str
    first: str
    last: str
    establishments: int
    readings_carried: int

    @classmethod
    def of(cls, held: inventory.HeldThrough) -> Self:
        """Return *held* as it leaves."""
        return cls(
            device=held.pne_id,
            first=rfc3339(held.first),
            last=rfc3339(held.last),
            establishments=held.establishments,
            readings_carried=held.readings,
        )


class Exposure(BaseModel):
    """What a gateway could ever read: nothing of what devices and server said to each other.

    `networks` are those that it serves now, `cm_devices` those that it set up.
    """

    id: str
    networks: list[str]
    devices: list[Held]
    cm_devices: list[CmDevice]
