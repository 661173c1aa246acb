"""The commands about personal networks, against processes of their own: server, gateways, devices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.credential import DeviceCredential, parse_credential
from cpns.domain.inventory import Kind
from cpns.ids import EntityId
from tests.support.parties import PATIENCE, Parties, Process, until

QUICK = ("--timer", "2", "--request-timeout", "1", "--presence", "0.5")


class Site(Parties):
    """Parties, with a second gateway and control sockets."""

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, "--data", self.path("server"), "--output", "json"))

    def device(self, name: str, *more: str) -> Process:
        return self.pne(name, *QUICK, "--control", self.path(f"{name}.sock"), *more)

    def control(self, role: str, action: str, name: str, *more: str) -> Any:
        return json.loads(self.call(role, action, *more, "--control", self.path(f"{name}.sock"), "--output", "json"))

    def second_gateway(self, *more: str) -> str:
        """Start gw-2; return the address of its PAN."""
        one = self.start(
            *("gateway", "run", "--key", self.path("gw-2.key"), "--server", f"127.0.0.1:{self.server_port}"),
            *("--pan", "127.0.0.1:0", "--no-announce", "--control", self.path("gw-2.sock"), *more),
        )
        return one.wait_line("gw-2 at").rsplit(" ", 1)[-1]

    def network(self) -> Any:
        return self.ask("network", "show", "home")

    def states(self) -> dict[str, str]:
        return {member["id"]: member["state"] for member in self.network()["members"]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    try:
        one.provision("bob", "carol", "dave")
        one.prepare("device", "add", "alice", "--owner", "--data", one.path("server"), "--out", one.path("alice.key"))
        one.prepare("gateway", "add", "gw-2", "--data", one.path("server"), "--out", one.path("gw-2.key"))
        yield one
    finally:
        one.close()


@pytest.mark.long
@pytest.mark.req("FN-8", "DEF-3", "FN-4")
def test_a_network_from_its_first_device_to_its_end(site: Site) -> None:
    site.server()
    site.gateway("--alias", "home", "--control", site.path("gw-1.sock"))
    bob = site.device("bob", "--wait", "--accept")
    site.device("carol", "--wait")
    alice = site.device("alice")
    alice.wait_line('"established"')
    assert (site.network()["owner"], site.network()["policy"]) == ("alice", "open")
    assert {one["id"] for one in site.control("pne", "network", "alice")["members"]} == {"alice"}
    asked = until(
        lambda: (r := site.control("pne", "invite", "alice", "bob", "carol")["results"])["bob"] == "success" and r,
        "bob comes",
    )
    assert asked["carol"] == "refused_by_user"
    bob.wait_line('"established"')
    bob.write('{"n": 1}')
    bob.wait_line('"acknowledged"')
    assert site.states() == {"alice": "connected", "bob": "connected"}
    held = site.control("gateway", "members", "gw-1")
    assert [[one["id"] for one in pn["members"]] for pn in held["networks"]] == [["alice", "bob"]]
    assert "bob" in site.call("gateway", "members", "--control", site.path("gw-1.sock"))
    site.call("network", "set", "home", "--policy", "closed", "--owner", "bob", "--data", site.path("server"))
    site.call("pne", "expel", "bob", "--control", site.path("alice.sock"), code=1)
    site.control("pne", "expel", "bob", "alice")
    alice.wait_line('"expelled"')
    assert site.network()["listed"]["alice"] == "barred"
    assert "barred" in site.call("network", "show", "home", "--data", site.path("server"))
    site.call("network", "invite", "home", "alice", "--data", site.path("server"))
    until(lambda: "alice" in site.states(), "alice is back")
    site.control("pne", "leave", "alice")
    assert alice.process.wait(PATIENCE) == 0
    site.call("network", "release", "home", "--data", site.path("server"), code=1)  # nobody is there to confirm
    site.call("network", "release", "home", "--yes", "--data", site.path("server"))
    assert site.ask("network", "list")["items"] == []
    bob.wait_line('"released"')


@pytest.mark.req("FN-8")
def test_who_waits_is_shown_and_let_in(site: Site) -> None:
    site.start(
        *("server", "run", "--data", site.path("server"), "--listen", f"127.0.0.1:{site.server_port}"),
        *("--policy", "approval"),
    ).wait_line("listening at")
    site.gateway("--alias", "home")
    site.device("alice").wait_line('"established"')
    bob = site.device("bob")
    pending = until(lambda: site.ask("device", "pending")["items"], "bob waits")
    assert (pending[0]["id"], pending[0]["known"], pending[0]["via"]) == ("bob", True, "gw-1")
    assert json.loads(bob.wait_line('"not_let_in"'))["reason"] == "pending_approval"
    assert "cpns device approve bob" in site.call("device", "pending", "--data", site.path("server"))
    told = site.ask("explain", "bob")["items"]
    assert any("approve" in one["next_step"] for one in told)
    site.call("device", "approve", "bob", "--data", site.path("server"))
    bob.wait_line('"established"')
    assert "Nobody waits" in site.call("device", "pending", "--data", site.path("server"))

    key = Path(site.path("carol.key")).read_text()
    Path(site.path("stranger.key")).write_text(_renamed(key, "stranger"))
    Path(site.path("stranger.key")).chmod(0o600)
    stranger = site.device("stranger")
    until(lambda: [one for one in site.ask("device", "pending")["items"] if one["id"] == "stranger"], "it is seen")
    assert "nobody" not in site.call("explain", "stranger", "--data", site.path("server"))
    site.call("device", "approve", "stranger", "--data", site.path("server"), "--out", site.path("new.key"))
    stranger.end()
    assert Path(site.path("new.key")).read_text().startswith("cpns1/pne/stranger/")
    assert site.ask("device", "show", "stranger")["state"] == "active"
    site.call("device", "refuse", "nobody", "--data", site.path("server"), code=1)


def _renamed(credential: str, name: str) -> str:
    one = parse_credential(credential, Kind.PNE)
    other = DeviceCredential(Kind.PNE, EntityId(name), one.server_id, Secret(one.eukey.reveal()))
    return other.line().reveal().decode() + "\n"


@pytest.mark.req("FN-1", "FN-8")
def test_a_network_changes_its_gateway_and_a_lost_gateway_is_revoked(site: Site) -> None:
    site.server()
    site.gateway("--alias", "home", "--control", site.path("gw-1.sock"))
    second = site.second_gateway()
    alice = site.device("alice", "--gateway", second)
    alice.wait_line('"established"')
    site.control("gateway", "hand-over", "gw-1", "gw-2")
    alice.wait_line('"gateway": "gw-2"')
    assert site.network()["gateway"] == "gw-2"
    site.call("network", "switch", "home", "gw-1", "--data", site.path("server"))
    until(lambda: site.ask("device", "show", "alice")["last_via"] == "gw-1", "alice is back at gw-1")
    exposed = site.ask("gateway", "revoke", "gw-2", "--dry-run")
    assert [(one["device"], one["establishments"]) for one in exposed["devices"]] == [("alice", 1)]
    assert site.ask("gateway", "show", "gw-2")["state"] == "active"
    printed = site.call("gateway", "revoke", "gw-2", "--yes", "--data", site.path("server"))
    assert "could ever read" in printed
    assert "sessions ended: 1" in printed
    alice.write('{"n": 2}')
    alice.wait_line('"acknowledged"')


@pytest.mark.req("FN-1")
def test_a_text_is_kept_for_a_device_that_is_away(site: Site) -> None:
    site.server()
    site.gateway()
    site.call("device", "send", "alice", "hello", "--data", site.path("server"), code=1)
    kept = site.ask("device", "send", "alice", "hello", "--keep", "60")
    assert kept["answer"] is None
    assert kept["kept_until"] is not None
    assert "kept until" in site.call("device", "send", "alice", "again", "--keep", "60", "--data", site.path("server"))
    alice = site.device("alice")
    alice.wait_line('"text": "hello"')
    alice.wait_line('"text": "again"')
    assert "2 texts" not in site.call("explain", "alice", "--data", site.path("server"))
    bob = site.start(
        *("pne", "run", "--key", site.path("bob.key"), "--gateway", f"127.0.0.1:{site.pan_port}"),
        *("--source", "host", "--interval", "2", "--sleepy", "--output", "json"),
    )
    bob.wait_line('"acknowledged"')
    until(lambda: site.ask("device", "send", "bob", "sweet dreams", "--keep", "60")["answer"] is None, "bob sleeps")
    bob.wait_line('"text": "sweet dreams"')  # when it wakes for its next reading


@pytest.mark.req("DEF-2")
def test_a_device_changes_its_mode_by_command(site: Site) -> None:
    site.server()
    site.gateway()
    site.call("gateway", "add", "box-gw", "--data", site.path("server"), "--out", site.path("box-gw.key"))
    node = site.start(
        *("node", "run", "--pne-key", site.path("dave.key"), "--gateway-key", site.path("box-gw.key")),
        *("--server", f"127.0.0.1:{site.server_port}", "--gateway", f"127.0.0.1:{site.pan_port}"),
        *("--interval", "0.2", "--control", site.path("node.sock"), "--output", "json"),
    )
    node.wait_line('"gateway": "gw-1"')
    assert site.control("node", "mode", "node", "both") == {"mode": "both"}
    node.wait_line('"gateway": "box-gw"')
    until(lambda: any(row["device"] == "dave" for row in site.readings()), "its readings are stored")
    assert site.ask("gateway", "show", "box-gw")["connected"] is True
    assert site.control("node", "mode", "node", "pne") == {"mode": "pne"}
    until(lambda: site.ask("gateway", "show", "box-gw")["connected"] is False, "its gateway is gone")
    assert node.end() == 0


def test_a_command_for_what_does_not_run_says_so(site: Site) -> None:
    site.call("pne", "network", "--control", site.path("nothing.sock"), code=1)
    process = site.all[-1]
    assert any(line.startswith("error[not_running]") for line in process.err)
    site.call("gateway", "members", code=1)
    assert any(line.startswith("error[no_control]") for line in site.all[-1].err)
