"""No secret shows: planted keys and a passphrase are looked for in all that processes print, store and are given."""

import base64
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from tests.support.parties import Parties, Process, acknowledged, until


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    ones = Parties(tmp_path, fresh=True)  # so that what stands in /proc is theirs
    yield ones
    ones.close()


def shapes(secret: bytes) -> list[bytes]:
    """Return every form in which a key could be written down by mistake."""
    text = secret.hex().encode()
    return [
        secret,
        text,
        text.upper(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        base64.b32encode(secret).rstrip(b"="),
        repr(secret)[2:-1].encode(),
    ]


def arguments_and_environment(process: Process) -> bytes:
    folder = Path(f"/proc/{process.process.pid}")
    found = (folder / "cmdline").read_bytes()
    with contextlib.suppress(PermissionError):  # of a process that holds keys root alone sees more
        found += (folder / "environ").read_bytes()
    return found


@pytest.mark.long
@pytest.mark.req("DEF-8")
def test_no_planted_secret_is_found_anywhere(parties: Parties, tmp_path: Path) -> None:
    passphrase = "canary " + secrets.token_urlsafe(12)
    Path(parties.path("passphrase")).write_text(passphrase + "\n")
    Path(parties.path("passphrase")).chmod(0o600)
    planted = secrets.token_bytes(32)
    Path(parties.path("devices.csv")).write_text(f"id,key\npne-1,{planted.hex()}\n")
    data, unlock = parties.path("server"), ("--passphrase-file", parties.path("passphrase"))
    parties.call("server", "init", "--data", data, "--id", "server.example", *unlock)
    parties.call("gateway", "add", "gw-1", "--data", data, "--out", parties.path("gw-1.key"), *unlock)
    parties.call(
        "device", "import", parties.path("devices.csv"), "--data", data, "--out", parties.path("out.csv"), *unlock
    )
    credential = Path(parties.path("out.csv")).read_text().splitlines()[1].split(",")[1]
    Path(parties.path("pne-1.key")).write_text(credential)
    Path(parties.path("pne-1.key")).chmod(0o600)
    gateway_key = parse_credential(Path(parties.path("gw-1.key")).read_text(), Kind.GATEWAY).eukey.reveal()

    server = parties.start(
        "server", "run", "--data", data, "--listen", f"127.0.0.1:{parties.server_port}", *unlock,
        "--trace", parties.path("server.trace"),
    )  # fmt: skip
    server.wait_line("listening at")
    gateway = parties.gateway("--trace", parties.path("gateway.trace"))
    pne = parties.pne("pne-1", "--trace", parties.path("pne.trace"))
    pne.write('{"temperature": 21.5}')
    until(lambda: acknowledged(pne), "a reading")
    parties.call("device", "send", "pne-1", "hello", "--data", data)
    parties.call("device", "show", "pne-1", "--data", data, "--output", "json")
    parties.call("device", "add", "pne-1", "--data", data, code=1)  # an error text
    given = b"".join(map(arguments_and_environment, (server, gateway, pne)))
    for process in (pne, gateway, server):
        process.end()

    printed = "\n".join(line for process in parties.all for line in process.out + process.err).encode()
    kept = b"".join(
        path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix not in (".key", ".csv") and path.name != "passphrase"
    )
    assert b"temperature" in kept, "the search must find what is there"
    for name, secret in (("EUKey of the PNE", planted), ("EUKey of the gateway", gateway_key)):
        for shape in shapes(secret):
            assert shape not in printed, f"{name} was printed"
            assert shape not in kept, f"{name} was stored unsealed"
            assert shape not in given, f"{name} is in arguments or environment"
    assert passphrase.encode() not in printed + kept + given
