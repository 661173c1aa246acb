"""Names of entities and of what the server names (PROTOCOL section 1)."""

import re
from typing import NewType

from cpns.errors import BadInput

EntityId = NewType("EntityId", str)
"""A PNE, PN GW, CPNS Server or CM Device: 1 to 64 of ``A-Z a-z 0-9 . _ : -``."""

PnId = NewType("PnId", str)
"""A personal network; the server names it. Same alphabet as an entity ID."""

SgId = NewType("SgId", str)
"""A service group; the server names it. Same alphabet as an entity ID."""

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
_HEX = re.compile(r"[0-9a-f]+\Z")
_MAC_DIGITS = (12, 16)


def is_name(text: object) -> bool:
    """Whether *text* may name an entity or a personal network."""
    return isinstance(text, str) and _NAME.match(text) is not None


def entity_id(text: str) -> EntityId:
    """Return *text* as an entity ID.

    Raises:
        BadInput: it is empty, longer than 64, or has another character.
    """
    if not is_name(text):
        raise BadInput(
            "bad_id",
            f"{text[:80]!r} can't name an entity: use 1 to 64 of A-Z a-z 0-9 . _ : -",
        )
    return EntityId(text)


def _mac(text: str) -> tuple[str, bool] | None:
    """Return the lower-case digits of a MAC address (EUI-48, EUI-64), and whether it has separators; None: it is none.

    Separators are colons, hyphens or dots, all alike, between groups of two digits or of four.
    """
    separators = {char for char in text if char in ":-."}
    if len(separators) > 1:
        return None
    groups = text.split(separators.pop()) if separators else [text]
    digits = "".join(groups).lower()
    sizes = {len(group) for group in groups}
    if len(digits) not in _MAC_DIGITS or not _HEX.match(digits) or (len(groups) > 1 and sizes not in ({2}, {4})):
        return None
    return digits, len(groups) > 1


def _grouped(digits: str, size: int, separator: str) -> str:
    return separator.join(digits[at : at + size] for at in range(0, len(digits), size))


def spelled(text: str) -> EntityId:
    """Return *text* as the ID of an entity that is to be made: a MAC address with separators gets one spelling.

    That is lower case with colons. Digits without separators stay as they are: they are serial numbers too, and the
    device may have them built in. IDs are bytes on the wire, so an ID that exists is never respelled.

    Raises:
        BadInput: as `entity_id`.
    """
    name = entity_id(text)
    mac = _mac(name)
    return EntityId(_grouped(mac[0], 2, ":")) if mac is not None and mac[1] else name


def sameness(name: str) -> str:
    """Return what two IDs share that differ only by the spelling of one MAC address."""
    mac = _mac(name)
    return name if mac is None else mac[0]


def spellings(name: str) -> tuple[EntityId, ...]:
    """Return the IDs that may name what *name* names, itself first: the usual spellings of a MAC address."""
    mac = _mac(name)
    if mac is None:
        return (EntityId(name),)
    groups = [(len(mac[0]), ""), *((size, separator) for size in (2, 4) for separator in ":-.")]
    found = [_grouped(digits, *how) for how in groups for digits in (mac[0], mac[0].upper())]
    return tuple(dict.fromkeys(map(EntityId, [name, *found])))
