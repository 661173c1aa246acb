"""What people give to go into messages, checked where it enters: later nobody is there who could be asked."""

from collections.abc import Sequence

from cpns.errors import BadInput, WireError
from cpns.ids import EntityId, entity_id
from cpns.wire import application, fields
from cpns.wire.registry import MAX_ALIAS_BYTES, MAX_BATCH


def name_for_people(text: str, whose: str) -> str:
    """Return *text* as a name for people, *whose* being such as "a group".

    Raises:
        BadInput: ``bad_name``.
    """
    if not fields.is_text(text):
        can = f"use 1 to {MAX_ALIAS_BYTES} bytes of printable characters"
        raise BadInput("bad_name", f"{text[:80]!r} can't be the name of {whose}: {can}.")
    return text


def text_to_say(text: str) -> str:
    """Return *text* as one that a device can be told.

    Raises:
        BadInput: ``bad_text``.
    """
    try:
        application.encode_push(application.Push(bytes(application.PUSH_ID_BYTES), text))
    except WireError as error:
        most = f"{application.MAX_TEXT_CHARS} characters, and 4 KB of UTF-8"
        raise BadInput("bad_text", f"A text has up to {most}.") from error
    return text


def devices_to_name(names: Sequence[str]) -> list[EntityId]:
    """Return the devices that an action names, each once.

    Raises:
        BadInput: ``bad_request``: none, or more than a message holds; ``bad_id``.
    """
    if not 0 < len(names) <= MAX_BATCH:
        raise BadInput("bad_request", f"Name 1 to {MAX_BATCH} devices.")
    return [entity_id(name) for name in dict.fromkeys(names)]
