"""EDHOC (RFC 9528), method 3 with static Diffie-Hellman keys on P-256: lakers, both ends in this process.

It has forward secrecy, and no pre-shared key. Counted is the thread's time in the responder alone, until it has the
secrets of OSCORE, without any socket or CoAP: a server on top of it costs more.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from bench.peers.peer import Absent, Cost, Measure, Peer

TO_INSTALL = "pip install lakers-python"


def _credential(name: str, kid: bytes) -> tuple[bytes, bytes]:
    """Return a private key, and the CCS (RFC 8392) that tells its public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    cose_key = {1: 2, 2: kid, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
    ccs = cbor2.dumps({2: name, 8: {1: cose_key}}, canonical=True)
    return key.private_numbers().private_value.to_bytes(32, "big"), ccs


def _exchange(initiator_has: tuple[bytes, bytes], responder_has: tuple[bytes, bytes]) -> tuple[int, int]:
    """Return nanoseconds of the responder, and bytes of all four messages."""
    import lakers

    by_reference, clock = lakers.CredentialTransfer.ByReference, time.thread_time_ns
    initiator = lakers.EdhocInitiator()
    first = initiator.prepare_message_1(b"\x01", [])

    begun = clock()
    responder = lakers.EdhocResponder(*responder_has)
    responder.process_message_1(first)
    second = responder.prepare_message_2(by_reference, b"\x02", None)
    spent = clock() - begun

    initiator.parse_message_2(second)
    initiator.verify_message_2(*initiator_has, responder_has[1])
    third, _ = initiator.prepare_message_3(by_reference, None)

    begun = clock()
    responder.parse_message_3(third)
    responder.verify_message_3(initiator_has[1])
    fourth = responder.prepare_message_4()
    secrets = responder.edhoc_exporter(0, [], 16), responder.edhoc_exporter(1, [], 8)
    spent += clock() - begun

    initiator.process_message_4(fourth)
    if secrets != (initiator.edhoc_exporter(0, [], 16), initiator.edhoc_exporter(1, [], 8)):
        raise RuntimeError("the two ends have different secrets")
    return spent, sum(map(len, (first, second, third, fourth)))


@contextlib.asynccontextmanager
async def _start(_: Path) -> AsyncIterator[Measure]:
    if find_spec("lakers") is None:
        raise Absent(f"lakers not found; {TO_INSTALL}")
    initiator, responder = _credential("pne", b"\x2b"), _credential("server", b"\x0a")

    async def measure(count: int) -> Cost:
        each = [_exchange(initiator, responder) for _ in range(count)]
        spent, size = (sum(values) / count for values in zip(*each, strict=True))
        return Cost(spent / 1000, size, 2)

    yield measure


PEERS = (Peer("EDHOC method 3 (lakers), no socket", forward_secret=True, start=_start),)
