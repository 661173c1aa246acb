"""A member of a group for the demo that, once it is out, tries to read on. ``python -m cpns.cli.curious``.

It is an ordinary PNE with two vices: it keeps every key that it ever held, and it hears the radio of its neighbour,
whose datagrams pass through a forwarder of its own, as on a real PAN they pass through the air. For each message to a
group that it hears, it tells on standard output whether any of its keys opens it.
"""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cpns.crypto.group import open_group_key
from cpns.crypto.secret import Secret
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import AuthenticationFailed, WireError
from cpns.ids import SgId
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.protocol.group_keying.member import Gkdk
from cpns.protocol.group_messaging.receiver import open_message
from cpns.service.system import SystemClock, random_bytes
from cpns.store.vault import read_key_file
from cpns.wire import application, codec
from cpns.wire.group_messages import GroupKeyBroadcast, GroupMessage

OnAir = GroupMessage | GroupKeyBroadcast


class Air(asyncio.DatagramProtocol):
    """Forwards datagrams between a neighbour and its PN GW, and hears what the PN GW says."""

    def __init__(self, gateway: tuple[str, int], heard: Callable[[bytes], None]) -> None:
        self._gateway = gateway
        self._heard = heard
        self._neighbour: tuple[str, int] | None = None
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Forward one."""
        if addr == self._gateway:
            self._heard(data)
        else:
            self._neighbour = addr
        to = self._neighbour if addr == self._gateway else self._gateway
        if self._transport is not None and to is not None:
            self._transport.sendto(data, to)


class Curious:
    """See the module."""

    def __init__(self, pne: Pne) -> None:
        self._pne = pne
        self._keys: list[Secret] = []
        self._paths: list[Gkdk] = []
        self._said: set[bytes] = set()

    async def hoard(self) -> None:
        """Keep every key that comes by."""
        while True:
            self._look()
            await asyncio.sleep(0.02)

    def _look(self) -> None:
        groups = self._pne.groups
        for sg_id in list(groups.views):
            self._keep(sg_id, groups.keys.get(sg_id, {}).values())

    def _keep(self, sg_id: SgId, keys: Any) -> None:  # noqa: ANN401  # an iterable of Secret
        self._keys += [key for key in keys if key not in self._keys]
        own = self._pne.groups.gkdk(sg_id)
        if own is not None and own not in self._paths:
            self._paths.append(own)

    def heard(self, datagram: bytes) -> None:
        """Try all keys on what a datagram carries, if that is for a group; it is said again for each member."""
        found = _on_air(datagram)
        if found is None or found.signature in self._said or found.signature is None:
            return
        self._said.add(found.signature)
        self._look()
        body = self._key_in(found) if isinstance(found, GroupKeyBroadcast) else self._text_in(found)
        told = {"heard": found.TITLE, "epoch": found.epoch, "keys": len(self._keys), "opens": body is not None}
        print(json.dumps(told | {"text": body if isinstance(body, str) else None}), flush=True)

    def _key_in(self, message: GroupKeyBroadcast) -> Secret | None:
        for own in self._paths:
            for entry in message.entries:
                for node, key in own.path.items():
                    with contextlib.suppress(AuthenticationFailed):
                        found = open_group_key(
                            *(key, message.sg_id, message.gateway_id, message.epoch, node, entry.wrapped)
                        )
                        self._keep(message.sg_id, [found])
                        return found
        return None

    def _text_in(self, message: GroupMessage) -> str | None:
        for key in self._keys:
            with contextlib.suppress(AuthenticationFailed):
                return application.decode_group_text(open_message(message, key)).text
        return None


def _on_air(datagram: bytes) -> OnAir | None:
    """Return the message to a group in a datagram: what comes after one of the bytes that may begin a payload."""
    for at, byte in enumerate(datagram):
        if byte == 0xFF:
            with contextlib.suppress(WireError):
                return codec.decode(datagram[at + 1 :], GroupMessage, GroupKeyBroadcast)
    return None


async def run(arguments: argparse.Namespace) -> None:
    """Come in, forward for the neighbour, join the first group there is, and listen until ended."""
    credential = parse_credential(read_key_file(arguments.key), Kind.PNE)
    host, _, port = arguments.gateway.rpartition(":")
    gateway = (host, int(port))
    config = PneConfig(
        *(credential.entity_id, credential.server_id, credential.eukey, Where((gateway,))), timer=3.0, presence=1.0
    )
    pne = Pne(config, SystemClock(), random_bytes, Inbox(lambda text: "received"))
    curious = Curious(pne)
    await pne.start()
    running = [asyncio.create_task(pne.run()), asyncio.create_task(curious.hoard())]
    await pne.wait_established()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Air(gateway, curious.heard), local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")[:2]
    print(json.dumps({"air": f"{host}:{port}"}), flush=True)
    while not (found := await pne.groups.discover()):
        await asyncio.sleep(0.2)
    await pne.groups.join(found[0].sg_id)
    print(json.dumps({"joined": found[0].name}), flush=True)
    await asyncio.gather(*running)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--gateway", required=True)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
