"""Who does something: each rule and each row of the audit log has one, and nobody is none."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cpns.ids import EntityId


class Role(StrEnum):
    """As whom somebody acts."""

    VIEWER = "viewer"
    """A person at the server who reads alone."""
    OPERATOR = "operator"
    """A person at the server who acts on devices, networks and groups."""
    ADMIN = "admin"
    """A person at the server who may do all."""
    PNE = "pne"
    """A device, as its session proves it; whether it is more than that depends on what it acts on."""
    OWNER = "owner"
    """A device, where it acts on the network or group that it owns."""
    MEMBER = "member"
    """A device, where it acts on a network or group that it is a member of."""
    GATEWAY = "gateway"
    """A PN GW, as its session proves it; be it that of a CM Device."""
    SERVER = "server"
    """The server itself: when time passes, and when it refuses."""


_DEVICES: Final = (Role.PNE, Role.OWNER, Role.MEMBER)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        name: of a PNE or PN GW its ID; of a person the name that the server knows it by.
    """

    role: Role
    name: str

    @property
    def is_operator(self) -> bool:
        """Whether it is a person who may act at the server, whatever the lists say."""
        return self.role in (Role.OPERATOR, Role.ADMIN)

    @property
    def is_device(self) -> bool:
        """Whether it is a PNE."""
        return self.role in _DEVICES

    @property
    def entity_id(self) -> EntityId | None:
        """The ID that a session proved; None of people and of the server."""
        return EntityId(self.name) if self.is_device or self.role is Role.GATEWAY else None

    def within(self, owner: EntityId | None, *, is_member: bool) -> "Actor":
        """Return it as what it is in a network or group that *owner* owns."""
        if not self.is_device:
            return self
        role = Role.OWNER if self.name == owner else Role.MEMBER if is_member else Role.PNE
        return replace(self, role=role)


OPERATOR: Final = Actor(Role.ADMIN, "local")
"""Who has the admin socket, which is that of the server's own user."""
SERVER: Final = Actor(Role.SERVER, "server")


def pne(entity_id: EntityId) -> Actor:
    """Return a PNE as its session proves it."""
    return Actor(Role.PNE, entity_id)


def gateway(entity_id: EntityId) -> Actor:
    """Return a PN GW as its session proves it."""
    return Actor(Role.GATEWAY, entity_id)
