"""The JSON about Changing-Mode devices."""

from typing import Self

from pydantic import BaseModel

from cpns.domain import cm
from cpns.server.models import Event, Request, rfc3339


class CmRevocation(Request):
    """Whether the device of a revoked CM Device may be assigned another."""

    reassign: bool = False


class CmDevice(BaseModel):
    """A CM Device.

    Attributes:
        device: the one that it is embedded in.
        gateway: the external gateway that set it up.
        generation: of its key: 0 came of the Key Seed, each rekey makes the next.
        known_to_gateway: whether the gateway that set it up knows its key.
        rotation_due: whether it was asked to take a fresh key, and does not use one yet.
        used_at: when it first went direct; null: it never did.
        connected: null where nobody knows: the server does not run, or not all of its processes can be asked.
    """

    id: str
    device: str
    gateway: str
    state: str
    generation: int
    known_to_gateway: bool
    rotation_due: bool
    created_at: str
    used_at: str | None
    revoked_at: str | None
    connected: bool | None

    @classmethod
    def of(cls, one: cm.CmDevice, connected: bool | None) -> Self:
        """Return *one* as it leaves."""
        return cls(
            id=one.cm_device_id,
            device=one.pne_id,
            gateway=one.gateway_id,
            state=one.state.value,
            generation=one.generation,
            known_to_gateway=one.is_known_to_gateway,
            rotation_due=one.rotation_due,
            created_at=rfc3339(one.created_at),
            used_at=None if one.activated_at is None else rfc3339(one.activated_at),
            revoked_at=None if one.revoked_at is None else rfc3339(one.revoked_at),
            connected=connected,
        )


class CmDevices(BaseModel):
    """CM Devices, oldest first."""

    items: list[CmDevice]


class CmDeviceWithAudit(CmDevice):
    """A CM Device, and the newest rows of the audit log about it, newest first."""

    audit: list[Event]
