"""The commands about Changing-Mode devices, against processes of their own: server, gateway, device."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli_networks import QUICK, Site
from tests.support.parties import Process, acknowledged, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    try:
        one.provision("tablet", "car")
        yield one
    finally:
        one.close()


def node(site: Site, name: str = "tablet", *more: str) -> Process:
    """Start a CM Device behind gw-1."""
    one = site.start(
        *("node", "run", "--pne-key", site.path(f"{name}.key"), "--server", f"127.0.0.1:{site.server_port}"),
        *("--gateway", f"127.0.0.1:{site.pan_port}", "--data", site.path(name), "--interval", "0.2", *QUICK),
        *("--control", site.path(f"{name}.sock"), "--output", "json", *more),
    )
    one.wait_line('"established"')
    return one


def state(site: Site, name: str, **wanted: object) -> bool:
    found = site.control("node", "status", name)
    return all(found[field] == value for field, value in wanted.items())


@pytest.mark.long
@pytest.mark.req("CM-0", "CM-17", "CM-18")
def test_from_the_first_key_to_the_revocation(site: Site) -> None:
    site.server()
    site.gateway("--alias", "home")
    tablet = node(site)
    until(lambda: state(site, "tablet", mode="both", generation=1), "it goes direct, and takes a fresh key")
    (found,) = site.ask("cm", "list")["items"]
    own = found["id"]
    shown = {name: found[name] for name in ("device", "gateway", "state", "generation", "known_to_gateway")}
    assert shown == {
        **{"device": "tablet", "gateway": "gw-1", "state": "active", "generation": 1},
        "known_to_gateway": False,
    }
    assert (found["connected"], state(site, "tablet", through=own, cm_device=own)) == (True, True)
    assert [row["event"] for row in site.ask("cm", "show", "tablet")["audit"]][-1] == "cm_assigned"

    assert site.ask("cm", "rotate", own)["items"][0]["rotation_due"] is True
    until(lambda: state(site, "tablet", generation=2), "it takes another key when it is asked to")
    until(lambda: site.ask("cm", "show", own)["rotation_due"] is False, "and uses it")
    site.control("node", "rekey", "tablet")
    until(lambda: site.ask("cm", "show", own)["generation"] == 3, "its own user can have that too")

    assert site.control("node", "mode", "tablet", "pne") == {"mode": "pne"}
    assert state(site, "tablet", mode="pne", through="gw-1")
    assert site.ask("cm", "show", own)["connected"] is False
    assert site.control("node", "mode", "tablet", "auto") == {"mode": "auto"}
    until(lambda: state(site, "tablet", mode="both", through=own), "it chooses by itself again")

    assert site.ask("device", "send", "tablet", "hello")["answer"] == "received"
    tablet.wait_line('"text": "hello"')
    assert site.ask("cm", "revoke", "tablet", "--yes")["id"] == own
    until(lambda: state(site, "tablet", mode="pne", through="gw-1"), "it is behind its gateway again")
    before = len(acknowledged(tablet))
    until(lambda: len(acknowledged(tablet)) > before + 3, "its readings go on")
    assert site.ask("cm", "list") == {"items": []}
    (found,) = site.ask("cm", "list", "--all")["items"]
    assert found["state"] == "revoked"
    assert tablet.end() == 0


@pytest.mark.req("CM-17")
def test_a_gateway_that_set_some_up_is_revoked(site: Site) -> None:
    """It says which, and whose keys that gateway knows; one command has them take fresh ones."""
    server = site.server()
    site.gateway("--alias", "home")
    node(site)
    until(lambda: state(site, "tablet", mode="both", generation=1), "it goes direct")
    car = node(site, "car", "--prefer", "gateway")
    until(lambda: site.control("node", "status", "car")["cm_device"] is not None, "it has a key, and no need of it")
    known = site.control("node", "status", "car")["cm_device"]
    exposed = site.ask("gateway", "revoke", "gw-1", "--dry-run")
    assert {one["device"]: one["known_to_gateway"] for one in exposed["cm_devices"]} == {"tablet": False, "car": True}
    car.process.send_signal(signal.SIGSTOP)  # else it may go direct, and take a fresh key, before the command begins
    printed = site.call("gateway", "revoke", "gw-1", "--data", site.path("server"), "--yes")
    assert "knows the keys of 1 CM Devices that it set up" in printed
    assert "cpns cm rotate --gateway gw-1" in printed
    assert [one["id"] for one in site.ask("cm", "rotate", "--gateway", "gw-1")["items"]] == [known]
    car.process.send_signal(signal.SIGCONT)
    until(lambda: state(site, "car", mode="both", through=known), "no gateway carries it: it goes direct")
    until(lambda: site.ask("cm", "show", "car")["known_to_gateway"] is False, "and takes the fresh key")
    assert car.end() == 0
    assert server.end() == 0
    assert {one["device"] for one in site.ask("cm", "list")["items"]} == {
        "tablet",
        "car",
    }  # with the server at rest too


def test_what_does_not_exist_is_said(site: Site) -> None:
    data = ("--data", site.path("server"))
    for arguments, code in (
        (("cm", "show", "nobody", *data), "unknown_cm_device"),
        (("cm", "revoke", "nobody", "--yes", *data), "unknown_cm_device"),
        (("cm", "rotate", "nobody", *data), "unknown_cm_device"),
        (("cm", "revoke", "tablet", *data), "not_confirmed"),
        (("node", "status", "--control", site.path("nothing.sock")), "not_running"),
        (("node", "rekey"), "no_control"),
    ):
        site.call(*arguments, code=1)
        assert any(line.startswith(f"error[{code}]") for line in site.all[-1].err), (arguments, site.all[-1].err)
    site.call("cm", "rotate", *data, code=2)
    assert site.ask("cm", "list") == {"items": []}
    assert site.ask("cm", "rotate", "--gateway", "gw-1") == {"items": []}


def test_every_command_shows_an_example(site: Site) -> None:
    for arguments in (
        *(("cm", name) for name in ("list", "show", "revoke", "rotate")),
        *(("node", name) for name in ("run", "mode", "rekey", "status")),
    ):
        assert f"Example: cpns {' '.join(arguments)}" in site.call(*arguments, "--help")
