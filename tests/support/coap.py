"""Between our CoAP messages and aiocoap's, which the tests have as another implementation."""

from typing import Any

from aiocoap import Message as Theirs
from aiocoap.numbers.optionnumbers import OptionNumber

from cpns.coap import datagram, oscore_option
from cpns.coap.message import Message
from cpns.transport.endpoint import Endpoint


def theirs(message: Message) -> Theirs:
    """Return *message* as one of aiocoap's, to be sent."""
    made = Theirs(code=message.code, payload=message.payload, _token=message.token)
    for number, value in message.options:
        made.opt.add_option(OptionNumber(number).create_option(decode=value))
    return made


def ours(message: Theirs) -> Message:
    """Return a message of aiocoap as one of ours."""
    options = tuple((int(one.number), one.encode()) for one in message.opt.option_list())
    return Message(int(message.code), message.token, options, message.payload)


def datagram_of(message: Message, type_: int, mid: int, token: bytes) -> bytes:
    """Return *message* as a datagram."""
    return datagram.encode(type_, mid, message, token)


def kid_of(option: bytes) -> bytes | None:
    """Return the key ID in an OSCORE option."""
    return oscore_option.decode(option).kid


def waiting(endpoint: Endpoint) -> int:
    """Return how many requests of an endpoint wait for an answer."""
    own: Any = endpoint._pan
    return sum(len(one.asked) for one in (*endpoint._uplinks.connections, *([] if own is None else [own])))
