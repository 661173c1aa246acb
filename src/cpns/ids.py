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
