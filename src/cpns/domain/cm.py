"""Changing-Mode devices as records, and the rules about them.

A CM Device is an entity of its own (`Kind.CM_DEVICE`): the PN GW that is embedded in a device, named by its CM Device
ID (CM-17). Its PNE is another entity, and owns it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cpns.crypto.secret import Secret
from cpns.domain.actor import Actor, Role
from cpns.domain.inventory import Credential, State
from cpns.errors import Refused, Result
from cpns.ids import EntityId

MAX_CM_DEVICES: Final = 4
"""CM Devices that one PNE may have at once: a gateway that begins again and again fills no table. (Of those with a key
that its PNE agreed on there is one: see `superseded`.)"""


@dataclass(frozen=True, slots=True)
class CmKey:
    """A CM Device ID and its CM Device Key, of which *generation*: 0 is the one that the Key Seed gave."""

    cm_device_id: EntityId
    generation: int
    key: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeldCmKey:
    """A `CmKey` as the CM Device keeps it, sealed."""

    cm_device_id: EntityId
    generation: int
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class CmDevice:
    """A CM Device as the operator sees it.

    Attributes:
        gateway_id: the external PN GW that mediated; it knew the key of generation 0.
        pne_id: the PNE of the same device.
        generation: of the key in use.
        rekeying: whether the next key is agreed on, and not yet in use.
        rotation_due: whether the operator asked for a fresh key that is not yet in use.
        reassign: once it is revoked, whether its PNE may be assigned another.
        activated_at: of the first activation; None: it was never used.
    """

    cm_device_id: EntityId
    gateway_id: EntityId
    pne_id: EntityId
    state: State
    generation: int
    rekeying: bool
    rotation_due: bool
    reassign: bool
    created_at: float
    activated_at: float | None
    revoked_at: float | None

    @property
    def is_known_to_gateway(self) -> bool:
        """Whether the PN GW that mediated knows the key in use."""
        return self.state is State.ACTIVE and self.generation == 0


@dataclass(frozen=True, slots=True)
class CmCredential:
    """A CM Device with its keys, sealed.

    Attributes:
        sealed: the Key Seed at generation 0, else the CM Device Key.
        sealed_next: the CM Device Key of the next generation, from its agreement until it is used.
    """

    device: CmDevice
    sealed: bytes
    sealed_next: bytes | None


@dataclass(frozen=True, slots=True)
class NewCmDevice:
    """What step 10 commits (CM-10)."""

    cm_device_id: EntityId
    gateway_id: EntityId
    pne_id: EntityId
    sealed_seed: bytes
    fingerprint: bytes
    at: float


def assign(pne: Credential | None, others: Sequence[CmDevice], actor: Actor) -> list[CmDevice]:
    """Decide whether a PNE may be assigned a CM Device; return those of *others* that make room for the new one.

    Those are the ones that were never used and that the same PN GW mediated; and, where there are too many, the oldest
    ones whose key a PN GW knows. A device takes a fresh key soon, so these may be a PN GW's alone: it must not
    lock a device out by making many.

    Args:
        pne: the PNE, as it is in the inventory.
        others: its CM Devices, oldest first.
        actor: the PN GW that mediates.

    Raises:
        Refused: NOT_ALLOWED.
    """
    if pne is None or not pne.is_active_pne:
        raise Refused(Result.NOT_ALLOWED, "no_active_device")
    if pne.only_via is not None:  # "through this gateway alone" is what its operator said
        raise Refused(Result.NOT_ALLOWED, "bound_to_one_gateway")
    if any(one.state is State.REVOKED and not one.reassign for one in others):
        raise Refused(Result.NOT_ALLOWED, "cm_device_revoked")
    active = [one for one in others if one.state is State.ACTIVE]
    unused = [one for one in active if one.activated_at is None and one.gateway_id == actor.entity_id]
    left = [one for one in active if one not in unused]
    displaced = [one for one in left if one.is_known_to_gateway][: max(0, len(left) - MAX_CM_DEVICES + 1)]
    return unused + displaced


def release(device: CmDevice | None, actor: Actor) -> bool:
    """Return whether *actor*, the PN GW that mediated, may have a CM Device forgotten that was never used.

    One that is revoked stays: that is the operator's word.
    """
    if device is None or device.activated_at is not None or device.state is not State.ACTIVE:
        return False
    return actor.role is Role.GATEWAY and device.gateway_id == actor.name


def rekey(device: CmDevice | None, generation: int, actor: Actor) -> None:
    """Decide whether *actor*, a PNE, may agree on the key of *generation*.

    Raises:
        Refused: NOT_ALLOWED: it is not this PNE's, or revoked, or that is not the next generation.
    """
    if device is None or not actor.is_device or device.pne_id != actor.name:
        raise Refused(Result.NOT_ALLOWED, "not_its_cm_device")
    if device.state is not State.ACTIVE:
        raise Refused(Result.NOT_ALLOWED, "revoked")
    if generation != device.generation + 1:
        raise Refused(Result.NOT_ALLOWED, "not_the_next_generation")


def activate(device: CmDevice | None, generation: int, actor: Actor) -> None:
    """Decide whether a session of *actor*, the CM Device, may begin that was keyed with the key of *generation*.

    Raises:
        Refused: AUTHENTICATION_FAILED: it was revoked, or that key died, while the CM Device activated.
    """
    if device is None or device.cm_device_id != actor.entity_id or device.state is not State.ACTIVE:
        raise Refused(Result.AUTHENTICATION_FAILED, "revoked")
    if generation not in ((device.generation, device.generation + 1) if device.rekeying else (device.generation,)):
        raise Refused(Result.AUTHENTICATION_FAILED, "older_key")


def superseded(device: CmDevice, others: Sequence[CmDevice]) -> list[EntityId]:
    """Return those of *others* of the same PNE that end when *device* takes up a key that its PNE agreed on itself.

    A PNE asks for a CM Device when it has none. Not before that key: until then a PN GW alone may have begun it.
    """
    return [
        one.cm_device_id
        for one in others
        if one.cm_device_id != device.cm_device_id and one.state is State.ACTIVE and one.pne_id == device.pne_id
    ]
