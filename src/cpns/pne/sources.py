"""Where a PNE's readings come from: this machine, or lines of JSON. Async generators of reading bodies."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

import psutil

from cpns.errors import WireError
from cpns.wire.application import MAX_APPLICATION_BYTES, READING_ID_BYTES, Json, Reading, encode_reading

Body = dict[str, Json]

MAX_LINE_BYTES: Final = 64 * 1024
_AHEAD: Final = 64
"""Lines read ahead of the PNE."""

BadLine = Callable[[int, str], None]
"""Is told of a line that is no reading: its number, from 1, and why."""


async def host(interval: float) -> AsyncIterator[Body]:
    """Yield what this machine measures of itself, every *interval* seconds, the first at once."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        yield sample()
        due = max(due + interval, loop.time())  # what was missed while the PNE waited is not made up for
        await asyncio.sleep(due - loop.time())


def sample() -> Body:
    """Return load, memory in use, temperatures and network traffic of this machine, now."""
    network = psutil.net_io_counters()
    body: Body = {
        "load_1m": round(psutil.getloadavg()[0], 2),
        "memory_percent": psutil.virtual_memory().percent,
        "network_sent_bytes": network.bytes_sent,
        "network_received_bytes": network.bytes_recv,
    }
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}  # not on every platform
    temperatures: Body = {name: found[0].current for name, found in list(sensors.items())[:8] if found}
    if temperatures:
        body["temperatures_celsius"] = temperatures
    return body


async def lines(descriptor: int, on_bad: BadLine) -> AsyncIterator[Body]:
    """Yield the JSON object in each line of *descriptor* until it ends; blank lines are passed over."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def put(line: bytes | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, line)

    # A thread of our own, and a daemon: nothing else can wait for a terminal or file, and the end must not wait for it.
    threading.Thread(target=_read, args=(descriptor, put), name="readings", daemon=True).start()
    number = 0
    while (line := await queue.get()) is not None:
        room.release()
        number += 1
        if not line.strip():
            continue
        try:
            body = parse(line)
        except ValueError as error:
            on_bad(number, str(error))
        else:
            yield body


def _read(descriptor: int, put: Callable[[bytes | None], None]) -> None:
    rest = b""
    try:
        while chunk := os.read(descriptor, MAX_LINE_BYTES):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                put(line)
            rest = rest[: MAX_LINE_BYTES + 1]  # a longer line is refused whatever follows
        if rest:
            put(rest)
        put(None)
    except OSError:
        put(None)
    except RuntimeError:
        return  # the loop is closed: nobody reads on


class _TwiceError(ValueError):
    """One object has a key twice: which value is meant can't be told."""


def _object(pairs: list[tuple[str, Json]]) -> Body:
    found: Body = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"it has the key {json.dumps(key)} twice")
        found[key] = value
    return found


def parse(line: bytes) -> Body:
    """Return the body of a reading in *line*.

    Raises:
        ValueError: it is no JSON object, or none that a reading can hold; the text says why.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        body = json.loads(line, object_pairs_hook=_object)
    except _TwiceError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError("no JSON") from error
    if not isinstance(body, dict):
        raise ValueError("no JSON object")
    try:
        encode_reading(Reading(bytes(READING_ID_BYTES), body))
    except WireError as error:
        why = f"too deep, over {MAX_APPLICATION_BYTES} bytes, or with a number or text that does not travel"
        raise ValueError(why) from error
    return body
