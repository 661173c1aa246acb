"""MIT Kerberos: AS exchange with pre-authentication, then TGS exchange for a ticket of the gateway.

The nearest by function: device and gateway have a key in common in the end, as with LocalEUKey. Left out is what the
KDC writes at each log-in (time of the last one, wrong passwords), for it is not durable either, and Kerberos is
cheaper without.
"""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.peers import relay
from bench.peers.peer import IN_FLIGHT, Cost, Measure, Peer, Round, charged, environment, free_port, need, run, serving

_REALM = "CPNS.EXAMPLE"
_GATEWAY = "gw/hub"
_CLIENT = """
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 65000
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{relay}
 }}
[logging]
 kdc = FILE:{folder}/kdc.log
 admin_server = FILE:{folder}/admin.log
 default = FILE:{folder}/default.log
"""
_SERVER = """
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = ""
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  default_principal_flags = +preauth
 }}
[dbmodules]
 {realm} = {{
  db_library = db2
  disable_last_success = true
  disable_lockout = true
 }}
"""


async def _provision(folder: Path, env: dict[str, str], names: list[str]) -> None:
    await run("kdb5_util", "create", "-s", "-r", _REALM, "-P", secrets.token_hex(16), env=env, cwd=folder)
    lines = [f"addprinc -randkey {name}\nktadd -k {folder}/keytab {name}\n" for name in names]
    lines.append(f"addprinc -randkey {_GATEWAY}\n")
    await run("kadmin.local", "-r", _REALM, env=env, cwd=folder, stdin="".join(lines).encode())


@contextlib.asynccontextmanager
async def _start(folder: Path) -> AsyncIterator[Measure]:
    need("krb5-kdc krb5-admin-server", "krb5kdc", "kdb5_util", "kadmin.local")
    need("krb5-user", "kinit", "kvno")
    port = free_port(socket.SOCK_DGRAM)
    env = environment(KRB5_CONFIG=f"{folder}/krb5.conf", KRB5_KDC_PROFILE=f"{folder}/kdc.conf")
    names = [f"pne-{number:05}" for number in range(IN_FLIGHT)]
    async with relay.udp(port) as between:
        (folder / "krb5.conf").write_text(_CLIENT.format(realm=_REALM, relay=between.port, folder=folder))
        (folder / "kdc.conf").write_text(_SERVER.format(realm=_REALM, port=port, folder=folder))
        await _provision(folder, env, names)
        async with serving(folder, port, "krb5kdc", "-n", "-r", _REALM, env=env) as pid:

            async def program(*words: str) -> None:
                await run(*words, env=env, cwd=folder)

            def rounds(times: int) -> Iterator[Round]:
                for _ in range(times):
                    yield [program("kinit", "-c", f"{name}.cache", "-k", "-t", "keytab", name) for name in names]
                    yield [program("kvno", "-c", f"{name}.cache", "-q", _GATEWAY) for name in names]

            async def measure(count: int) -> Cost:
                return await charged(pid, between, count, rounds(count // IN_FLIGHT))

            yield measure


PEERS = (Peer("MIT Kerberos, AS and TGS", forward_secret=False, start=_start),)
