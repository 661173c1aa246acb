"""The uplink: TLS as an option, the newest session of a gateway, and what a server takes before a session stands."""

import asyncio
import datetime
import ipaddress
import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.gateway import uplink
from cpns.gateway.uplink import BACKOFF, LONGEST_REFUSED, longest_pause
from cpns.ids import EntityId
from cpns.transport.certificate import Certificate
from tests.support.parties import free_port
from tests.support.world import CLOCK, until, world

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CENTURY = datetime.timedelta(days=36500)


def certificate(folder: Path, address: str, ends: datetime.timedelta = CENTURY) -> tuple[Path, Path]:
    """Write a self-signed certificate for *address*, and its key; it *ends* so long after 2026 began."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cpns test")])
    one = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / f"{address}.pem", folder / f"{address}.key"
    cert.write_bytes(one.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, private


@pytest.mark.req("AUTH-7.5.5")
async def test_the_uplink_runs_under_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    async with world(tmp_path) as w:
        await w.start_server(tls_certificate=cert, tls_key=key)
        gateway = await w.start_gateway(tls=True, tls_ca=cert)
        pne = await w.start_pne("pne-1", gateway)
        await asyncio.wait_for(pne.wait_established(), 40)
        await asyncio.wait_for(pne.send(pne.next_reading({"t": 1})), 40)
        assert [row.pne_id for row in await w.store.readings(0, 10)] == ["pne-1"]


async def test_a_gateway_refuses_a_server_with_another_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    other, _ = certificate(tmp_path, "127.0.0.2")
    async with world(tmp_path) as w:
        await w.start_server(tls_certificate=cert, tls_key=key)
        with pytest.raises(NoAnswer, match="uplink_away"):
            await (await w.start_gateway(tls=True, tls_ca=other, wait=False)).uplink.wait(8)
    assert "give --tls-ca" in no_uplink(caplog)


@pytest.mark.parametrize(("gateway", "what_to_do"), [(False, "give --tls;"), (True, "leave --tls out;")])
async def test_a_gateway_says_what_to_do_where_one_end_alone_has_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gateway: bool, what_to_do: str
) -> None:
    cert, key = certificate(tmp_path, "127.0.0.1")
    async with world(tmp_path) as w:
        await w.start_server(**({} if gateway else {"tls_certificate": cert, "tls_key": key}))
        with pytest.raises(NoAnswer, match="uplink_away"):
            await (await w.start_gateway(tls=gateway, wait=False)).uplink.wait(8)
    assert what_to_do in no_uplink(caplog)


async def test_a_certificate_that_has_ended_is_named_at_both_ends_and_renewed_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpns.gateway.uplink.BACKOFF", (0.1, 0.2))
    caplog.set_level("INFO")
    cert, key = certificate(tmp_path, "127.0.0.1", datetime.timedelta(days=1))
    async with world(tmp_path) as w:
        await w.start_server(tls_certificate=cert, tls_key=key)
        assert f"the certificate {cert} ended on 2026-01-02" in caplog.text
        with pytest.raises(NoAnswer, match="uplink_away"):
            await (await w.start_gateway(tls=True, tls_ca=cert, wait=False)).uplink.wait(8)
        assert "certificate_has_ended: renew it at the server" in no_uplink(caplog)
        certificate(tmp_path, "127.0.0.1")
        monkeypatch.setattr("cpns.server.upkeep.CERTIFICATE_LOOK_SECONDS", 0.0)
        await until(lambda: "was read anew; it ends on 2125" in caplog.text)
        await w.start_gateway("gw-2", tls=True, tls_ca=cert)


@pytest.mark.parametrize(("days", "said"), [(13, "write a new one there"), (15, "")])
async def test_a_certificate_that_soon_ends_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: int, said: str
) -> None:
    one = Certificate(*certificate(tmp_path, "127.0.0.1", datetime.timedelta(days=100)))
    one.look(NOW.timestamp() + (100 - days) * 86400)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


async def test_a_renewed_certificate_that_is_no_good_leaves_the_older(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be half written."""
    cert, key = certificate(tmp_path, "127.0.0.1")
    one = Certificate(cert, key)
    for broken in ("", "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"):
        cert.write_text(broken)
        one.look(NOW.timestamp())
        assert "the older one serves on" in caplog.text
        caplog.clear()
    cert.unlink()
    one.look(NOW.timestamp())
    assert "the older one serves on" in caplog.text


async def test_a_gateway_says_where_each_of_its_servers_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one line, and again each time that all were tried: the log counts what is said again."""
    monkeypatch.setattr("cpns.gateway.uplink.BACKOFF", (0.05, 0.1))
    ports = [free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)]
    async with world(tmp_path) as w:
        await w.start_server()
        w.address = ("127.0.0.1", ports[0])
        with pytest.raises(NoAnswer, match="uplink_away"):
            await (await w.start_gateway(more_servers=(("::1", ports[1]),), wait=False)).uplink.wait(8)
    lines = no_uplink(caplog).splitlines()
    assert len(lines) > 2
    for line in lines:
        assert f"at 127.0.0.1:{ports[0]}: ConnectionRefusedError; at [::1]:{ports[1]}: ConnectionRefusedError" in line


def no_uplink(caplog: pytest.LogCaptureFixture) -> str:
    """Return what a gateway says of an uplink that does not come to stand."""
    return "\n".join(one.getMessage() for one in caplog.records if "no uplink to" in one.getMessage())


@pytest.mark.req("AUTH-7.5.5")
async def test_the_newest_session_of_a_gateway_replaces_the_older(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        first = await w.start_gateway("gw-1", keepalive=0.3)
        before = first.uplink.standing
        assert before is not None
        second = await w.start_gateway("gw-1")  # the same credential on another machine
        standing = second.uplink.standing
        assert standing is not None
        session = w.server.sessions.with_peer(standing.session.own_id)
        assert session is not None
        assert session.keys.th2 == standing.session.keys.th2
        await until(lambda: before.link.closed or first.uplink.standing is not before)  # it is asked first


@pytest.mark.req("AUTH-7.5.5", "SES-1")
async def test_every_connection_runs_the_authentication_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        gateway = await w.start_gateway()
        before = gateway.uplink.standing
        assert before is not None
        before.link.close()
        while gateway.uplink.standing in (before, None):
            await asyncio.sleep(0.02)
        after = gateway.uplink.standing
        assert after is not None
        assert after.session.keys.th2 != before.session.keys.th2
        assert sum(one.what == "ACTIVATE Request" for one in w.passed) == 2


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AuthenticationFailed("wrong_hash"), LONGEST_REFUSED),
        (Refused(Result.AUTHENTICATION_FAILED, "refused_with_21"), LONGEST_REFUSED),
        (Refused(Result.TOO_MANY, "peer_answered_too_many"), BACKOFF[1]),
        (NoAnswer("connection_gone"), BACKOFF[1]),
        (ConnectionRefusedError(), BACKOFF[1]),
    ],
)
def test_how_long_it_waits_at_most(error: OSError | Refused, seconds: float) -> None:
    """A refusal lasts, what fails otherwise may be over in a moment."""
    assert longest_pause(error) == seconds
    assert BACKOFF[1] < 60 < LONGEST_REFUSED


async def test_a_gateway_that_is_revoked_waits_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uplink, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(uplink, "LONGEST_REFUSED", 1.6)
    async with world(tmp_path) as w:
        await w.start_server()
        gateway = await w.start_gateway("gw-1")
        tried: list[float] = []
        prove = gateway.uplink._claim.prove

        async def timed(*arguments: Any) -> Any:
            tried.append(CLOCK.monotonic())
            return await prove(*arguments)

        gateway.uplink._claim.prove = timed
        await w.provisioning.revoke(OPERATOR, EntityId("gw-1"))
        await until(lambda: len(tried) >= 7)
        gaps = [after - before for before, after in itertools.pairwise(tried)]
        for number, gap in enumerate(gaps):
            assert gap >= 0.5 * min(0.05 * 2**number, 1.6)
        assert "it was revoked" in no_uplink(caplog)
        assert [row.reason for row in await w.audit("gw-1")] == ["revoked"]


async def test_a_gateway_with_a_fresh_key_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink, "BACKOFF", (1000.0, 1000.0))
    async with world(tmp_path) as w:
        await w.start_server()
        await w.start_gateway("gw-2")  # so its host is known, and need not wait after a refusal
        key = await w.provision(w.kinds.GATEWAY, "gw-1")
        w.keys["gw-1"] = Secret(bytes(32))
        gateway = await w.start_gateway("gw-1", wait=False)
        await until(lambda: gateway.uplink.last_refusal)
        gateway.uplink._claim._eukey = key
        gateway.uplink.renew()
        await gateway.uplink.wait(40)
