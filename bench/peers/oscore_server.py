"""aiocoap's own OSCORE server: ``python -m bench.peers.oscore_server TRANSPORT PORT SECRET CLIENTS``.

Answers each reading with 2.04 and stores nothing.
"""

import asyncio
import logging
import sys

import aiocoap
import uvloop
from aiocoap import oscore, resource
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper

PATH = "readings"
SERVER_ID = b"srv"


class Context(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """One end's security context, in memory; the algorithms are those of cpns."""

    alg_aead = oscore.algorithms["AES-CCM-16-64-128"]
    hashfun = oscore.hashfunctions["sha256"]
    id_context = None
    echo_recovery = None
    authenticated_claims = ()

    def __init__(self, secret: bytes, own_id: bytes, peer_id: bytes) -> None:
        self.sender_id, self.recipient_id = own_id, peer_id
        self.derive_keys(b"", secret)
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self) -> None:
        """Nothing is kept."""


def client_id(number: int) -> bytes:
    return b"%05d" % number


class Readings(resource.Resource):  # type: ignore[misc]
    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CHANGED)


async def serve(transport: str, port: int, secret: bytes, clients: int) -> None:
    site, contexts = resource.Site(), CredentialsMap()
    site.add_resource([PATH], Readings())
    for number in range(clients):
        contexts[f":{number}"] = Context(secret, SERVER_ID, client_id(number))
    wrapped = OscoreSiteWrapper(site, contexts)
    await aiocoap.Context.create_server_context(wrapped, bind=("127.0.0.1", port), transports=[transport])
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.disable()
    transport, port, secret, clients = sys.argv[1:]
    uvloop.run(serve(transport, int(port), bytes.fromhex(secret), int(clients)))
