"""EAP-PSK (RFC 4764) over RADIUS: hostapd as the server, eapol_test as PN GW and device in one.

The nearest by protocol: a pre-shared key, both sides prove it, and there is a session key in the end.
"""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from bench.peers import relay
from bench.peers.peer import IN_FLIGHT, Cost, Measure, Peer, charged, environment, free_port, need, run, serving

_SERVER = """
interface=lo
driver=none
eap_server=1
eap_user_file={folder}/users
radius_server_clients={folder}/clients
radius_server_auth_port={port}
"""
_DEVICE = """
network={{
 key_mgmt=WPA-EAP
 eap=PSK
 identity="{name}"
 password={key}
}}
"""


def _configure(folder: Path, port: int, secret: str, names: list[str]) -> None:
    keys = {name: secrets.token_hex(16) for name in names}
    (folder / "hostapd.conf").write_text(_SERVER.format(folder=folder, port=port))
    (folder / "clients").write_text(f"127.0.0.1/32 {secret}\n")
    (folder / "users").write_text("".join(f'"{name}" PSK {key}\n' for name, key in keys.items()))
    for name, key in keys.items():
        (folder / f"{name}.conf").write_text(_DEVICE.format(name=name, key=key))


@contextlib.asynccontextmanager
async def _start(folder: Path) -> AsyncIterator[Measure]:
    need("hostapd", "hostapd")
    need("eapoltest", "eapol_test")
    port, secret = free_port(socket.SOCK_DGRAM), secrets.token_hex(8)
    names = [f"pne-{number:05}" for number in range(IN_FLIGHT)]
    _configure(folder, port, secret, names)
    async with serving(folder, port, "hostapd", "hostapd.conf") as pid, relay.udp(port) as between:

        async def device(number: int, times: int) -> None:
            words = ["eapol_test", "-c", f"{names[number]}.conf", "-a", "127.0.0.1", "-p", str(between.port)]
            words += ["-s", secret, "-r", str(times - 1), "-t", "60", "-M", f"02:00:00:00:00:{number:02x}"]
            printed = await run(*words, env=environment(), cwd=folder)
            if f"MPPE keys OK: {times}  mismatch: 0" not in printed:
                raise RuntimeError(f"not authenticated {times} times: {printed[-500:]}")

        async def measure(count: int) -> Cost:
            clients = [device(number, count // IN_FLIGHT) for number in range(IN_FLIGHT)]
            return await charged(pid, between, count, [clients])

        yield measure


PEERS = (Peer("hostapd, RADIUS with EAP-PSK", forward_secret=False, start=_start),)
