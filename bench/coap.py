"""``python -m bench.coap``: what a message costs the CoAP engine: a reading, and hostile messages by their length.

CPU microseconds of one thread, the least of many turns; kinds take turns, so that a disturbance hits all of them.
Nothing is asked of sockets or of a loop: this is the work alone.
"""

import argparse
import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from aiocoap import Message as AiocoapMessage
from aiocoap import oscore as aiocoap_oscore
from aiocoap.message import Direction
from aiocoap.numbers.codes import CHANGED
from aiocoap.transports import tcp

from bench.cpu import yardstick
from cpns.coap import datagram, frame
from cpns.coap.connection import Connection
from cpns.coap.errors import FormatError
from cpns.coap.events import RequestArrived
from cpns.coap.message import Message, write_option
from cpns.coap.messaging import MessageLayer
from cpns.coap.numbers import Code, Option, supported
from cpns.coap.oscore import Context, Limits, said_by
from cpns.coap.oscore_option import OscoreOption
from cpns.coap.tuning import Tuning
from cpns.crypto.oscore import oscore_keys
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.transport.budget import STRANGER_FRAMES

FORMS: Final = supported((Option.URI_HOST, Option.OSCORE, Option.URI_PATH))
SECRET, SALT = bytes(range(32)), bytes(range(16))
PNE, SERVER = b"pne", b"srv"
BODY: Final = bytes(48)
LENGTHS: Final = (16, 64, 1024, 8192, 65_000)
MOST: Final = 66_560
CSM: Final = frame.encode(Message(Code.CSM), b"")


def context(sender: bytes, recipient: bytes) -> Context:
    return Context(oscore_keys(Secret(SECRET), SALT, sender, recipient), sender, recipient, Limits())


def best(works: Mapping[str, Callable[[], int]], turns: int) -> dict[str, float]:
    """Return CPU microseconds of each work for each of the units that it says it did, the least of all *turns*."""
    least = dict.fromkeys(works, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(turns):
            for name, work in works.items():
                start = time.thread_time_ns()
                units = work()
                least[name] = min(least[name], (time.thread_time_ns() - start) / 1000 / units)
    finally:
        gc.enable()
    return least


# one reading: frame, options, OSCORE open, answer, seal, frame


def readings(count: int) -> list[bytes]:
    """Return *count* sealed readings of one PNE, as frames on the uplink."""
    sender, frames = context(PNE, SERVER), []
    inner = Message(Code.POST, b"", ((11, b"readings"),), BODY)
    for number in range(count):
        sealed, _ = sender.seal_request(inner, ((3, b"server.example"),), 0.0)
        frames.append(frame.encode(sealed, number.to_bytes(4, "big")))
    return frames


def by_the_engine(frames: list[bytes]) -> int:
    """Take and answer *frames*."""
    connection, sessions = Connection(MOST, FORMS), {PNE: context(SERVER, PNE)}
    connection.receive(CSM)
    connection.next_event()
    connection.take()
    answer = Message(CHANGED)
    for data in frames:
        connection.receive(data)
        while (event := connection.next_event()) is not None:
            if not isinstance(event, RequestArrived) or event.message.text(3) != "server.example":
                raise RuntimeError("no reading")
            said = said_by(event.message)
            if said is None or said.kid is None:
                raise RuntimeError("not sealed")
            session = sessions[said.kid]
            inner, request = session.open_request(said, event.message.payload, 0.0)
            if inner.texts(11) != ("readings",) or inner.payload != BODY:
                raise RuntimeError("no reading")
            connection.respond(event, session.seal_response(answer, request, 0.0))
        connection.take()
    return len(frames)


class Theirs(aiocoap_oscore.CanProtect, aiocoap_oscore.CanUnprotect, aiocoap_oscore.SecurityContextUtils):  # type: ignore[misc]
    """aiocoap's OSCORE, in memory."""

    id_context = None
    echo_recovery = None

    def __init__(self, sender: bytes, recipient: bytes) -> None:
        self.alg_aead = aiocoap_oscore.algorithms["AES-CCM-16-64-128"]
        self.hashfun = aiocoap_oscore.hashfunctions["sha256"]
        self.sender_id, self.recipient_id = sender, recipient
        self.derive_keys(SALT, SECRET)
        self.sender_sequence_number = 0
        self.recipient_replay_window = aiocoap_oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self) -> None:
        pass


def by_aiocoap(frames: list[bytes]) -> int:
    """Take and answer *frames* by aiocoap's codec and OSCORE."""
    sessions: dict[bytes, Any] = {PNE: Theirs(SERVER, PNE)}
    for data in frames:
        size = sum(tcp._extract_message_size(data))
        request = tcp._decode_message(data[:size])
        option = request.opt.oscore
        session = sessions[option[1 + (option[0] & 7) :]]
        request.direction = Direction.INCOMING
        inner, request_id = session.unprotect(request)
        if request.opt.uri_host != "server.example" or inner.opt.uri_path != ("readings",) or inner.payload != BODY:
            raise RuntimeError("no reading")
        answer, _ = session.protect(AiocoapMessage(code=CHANGED), request_id)
        answer.token = request.token
        tcp._serialize(answer)
    return len(frames)


# hostile messages, by their length


def options_of(one: bytes, size: int) -> bytes:
    return (one * (size // len(one) + 1))[:size]


def framed(code: int, rest: bytes) -> bytes:
    """Return a frame of *code* whose options and payload are *rest*, whatever that is."""
    marked = frame.encode(Message(code, b"", (), rest[1:]), b"")
    return marked[: len(marked) - len(rest)] + rest


def long_option(size: int) -> bytes:
    return write_option(11, bytes(max(0, size - 5)))


DATAGRAMS: Final[dict[str, Callable[[int], bytes]]] = {
    "empty options (zero bytes)": lambda size: bytes(size),
    "options of one byte": lambda size: options_of(b"\x01x", size),
    "options with long heads": lambda size: options_of(b"\x0d\x00" + bytes(13), size),
    "32 options, then a payload": lambda size: bytes(32) + b"\xff" + bytes(size),
    "one long option": long_option,
    "a payload": lambda size: b"\xff" + bytes(size),
    "a length that is not there": lambda size: bytes(size)[:24] + b"\x0e\xff\xff" + bytes(size),
    "bytes 0xf0": lambda size: b"\xf0" * size,
}
FRAMES: Final[dict[str, Callable[[int], bytes]]] = {
    "empty messages": lambda size: options_of(b"\x00\x00", size),
    "pings": lambda size: options_of(b"\x00\xe2", size),
    "pongs": lambda size: options_of(b"\x00\xe3", size),
    "answers nobody waits for": lambda size: options_of(b"\x00\x44", size),
    "settings": lambda size: options_of(b"\x00\xe1", size),
    "requests": lambda size: options_of(b"\x00\x02", size),
}
"""Frames of two bytes, the shortest that there are."""
STREAMS: Final[dict[str, Callable[[int], bytes]]] = {
    "a frame of empty options": lambda size: frame.encode(Message(2, b"", (), bytes(size)), b"").replace(
        b"\xff", b"\0", 1
    ),
    "settings with many options": lambda size: frame.encode(Message(Code.CSM, b"", (), bytes(size)), b"").replace(
        b"\xff", b"\0", 1
    ),
    "half a frame": lambda size: frame.encode(Message(2, b"", (), bytes(size)), b"")[:-1],
    "a frame too long": lambda size: b"\xf0\xff\xff\xff\xff" + bytes(size),
}


def datagrams(data: bytes) -> int:
    """Decode *data* behind the head of a confirmable request."""
    data = b"\x40\x02\x12\x34" + data
    for _ in range(20):
        try:
            datagram.decode(data)
        except FormatError:
            continue
    return 20


def layered(data: bytes) -> int:
    """Let the message layer take *data*, each time with another message ID."""
    layer = MessageLayer(Tuning(), FORMS, 0, str)
    for mid in range(20):
        layer.receive("stranger", b"\x40\x02\x12" + bytes((mid,)) + data, 0.0)
        layer.take()
    return 20


def streamed(data: bytes, piece: int = 0) -> int:
    """Let a connection take *data*, whole or in pieces."""
    connection = Connection(MOST, FORMS)
    connection.receive(CSM)
    connection.next_event()
    for at in range(0, len(data), piece or len(data)):
        connection.receive(data[at : at + (piece or len(data))])
        while connection.next_event() is not None:
            pass
    connection.take()
    return 1


def sealed(size: int) -> Callable[[], int]:
    """Open *size* bytes that nobody sealed."""
    receiver = context(SERVER, PNE)
    said, garbage = OscoreOption(b"\x07", PNE), bytes(size)

    def work() -> int:
        for _ in range(20):
            try:
                receiver.open_request(said, garbage, 0.0)
            except AuthenticationFailed:
                continue
        return 20

    return work


def hostile() -> dict[str, dict[int, Callable[[], int]]]:
    """Return the works by kind and length."""
    kinds: dict[str, dict[int, Callable[[], int]]] = {}
    for name, made in DATAGRAMS.items():
        kinds[f"decode: {name}"] = {size: partial(datagrams, made(size)) for size in LENGTHS}
    for name in ("empty options (zero bytes)", "a payload"):
        kinds[f"message layer: {name}"] = {size: partial(layered, DATAGRAMS[name](size)) for size in LENGTHS}
    for name, made in STREAMS.items():
        kinds[f"stream: {name}"] = {size: partial(streamed, made(size)) for size in LENGTHS}
    whole = {size: frame.encode(Message(2, b"", (), bytes(size)), b"") for size in LENGTHS}
    kinds["stream: one frame in pieces of 16 bytes"] = {size: partial(streamed, whole[size], 16) for size in LENGTHS}
    kinds["OSCORE: what nobody sealed"] = {size: sealed(size) for size in LENGTHS}
    return kinds


def show(turns: int) -> None:
    frames = readings(500)
    ways = {"this engine": lambda: by_the_engine(frames), "aiocoap": lambda: by_aiocoap(frames)}
    print(f"yardstick: SHA-256 of 1 KiB {yardstick():.2f} us\n")
    print("one reading: frame, options, OSCORE open, answer, seal, frame (CPU us)")
    for name, cost in best(ways, turns).items():
        print(f"  {name:<42}{cost:8.1f}")
    print(f"\na hostile message of so many bytes (CPU us, and us for each 16 bytes)\n  {'':<44}", end="")
    print("".join(f"{size:>16,}" for size in LENGTHS))
    for kind, works in hostile().items():
        costs = best({str(size): work for size, work in works.items()}, turns)
        cells = [f"{costs[str(size)]:9.1f} {costs[str(size)] * 16 / size:6.2f}" for size in works]
        print(f"  {kind:<44}{''.join(cells)}")
    rate = int(STRANGER_FRAMES[0])
    print(f"\nframes of two bytes, one behind the other (CPU us each, and of a core at {rate:,}/s, which a host may)")
    count = LENGTHS[-1] // 2
    floods = {name: partial(streamed, made(2 * count)) for name, made in FRAMES.items()}
    for name, cost in best(floods, turns).items():
        print(f"  {name:<44}{cost / count:9.1f}{cost / count * rate / 1e6:9.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.coap", description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    show(parser.parse_args().turns)
