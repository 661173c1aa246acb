"""The commands about service groups, against processes of their own: server, gateways, devices of two networks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_networks import QUICK, Site
from tests.support.parties import PATIENCE, Process, until


class Groups(Site):
    """A site with two networks, and `cpns pne group`."""

    def of(self, name: str, action: str, *more: str, code: int = 0) -> Any:
        """Run ``cpns pne group ACTION`` on a running device."""
        control = ("--control", self.path(f"{name}.sock"), "--output", "json")
        said = self.call("pne", "group", action, *more, *control, code=code)
        return json.loads(said) if code == 0 else None

    def behind_the_other(self, name: str, pan: str, *more: str) -> Process:
        """Start a device behind gw-2."""
        return self.start(
            *("pne", "run", "--key", self.path(f"{name}.key"), "--gateway", pan, "--output", "json", *QUICK),
            *("--control", self.path(f"{name}.sock"), *more),
        )

    def members(self, group: str) -> set[str]:
        return set(self.ask("group", "show", group)["members"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Groups]:
    one = Groups(tmp_path)
    try:
        one.provision("ann", "ben", "cat")
        one.prepare("gateway", "add", "gw-2", "--data", one.path("server"), "--out", one.path("gw-2.key"))
        yield one
    finally:
        one.close()


@pytest.mark.req("DEF-4", "DEF-5", "FN-7")
def test_a_group_across_two_networks(site: Groups) -> None:
    """Made, found, joined, passed on and ended by the devices themselves; the operator looks, and has the last word."""
    site.server()
    site.gateway("--alias", "home", "--control", site.path("gw-1.sock"))
    ann, ben = site.device("ann"), site.device("ben", "--accept")
    cat = site.behind_the_other("cat", site.second_gateway("--alias", "office"), "--accept")
    for process in (ann, ben, cat):
        process.wait_line('"established"')
    made = site.of("ann", "create", "family", "--service", "music", "--invite", "cat", "--invite", "nobody")
    assert made["results"] == {"cat": "success", "nobody": "out_of_reach"}
    cat.wait_line("invited by ann into the group family")
    (found,) = site.of("ben", "find", "FAM")["items"]
    assert (found["id"], found["owner"], found["policy"]) == (made["id"], "ann", "open")
    assert site.of("ben", "join", "family") == {"result": "success", "id": made["id"], "owner": "ann"}
    ann.wait_line('"change": "joined"')
    (listed,) = site.ask("group", "list")["items"]
    assert (listed["name"], listed["owner"], set(listed["members"])) == ("family", "ann", {"ann", "ben", "cat"})
    site.of("ben", "expel", "family", "cat", code=1)
    assert site.of("ann", "owner", "family", "--to", "ben") == {"owner": "ben"}
    cat.wait_line('"owner": "ben"')
    site.of("ben", "expel", "family", "cat")
    cat.wait_line('"change": "expelled"')
    until(lambda: site.of("cat", "list")["items"] == [], "cat knows that it is out")
    assert site.ask("group", "show", "family")["listed"] == {"cat": "barred", "nobody": "invited"}
    copies = site.control("gateway", "members", "gw-1")["groups"]
    assert [(one["name"], one["members"]) for one in copies] == [("family", ["ann", "ben"])]

    assert site.ask("group", "invite", "family", "cat")["results"] == {"cat": "success"}
    assert site.ask("group", "owner", "family", "--to", "cat")["owner"] == "cat"
    site.ask("group", "expel", "family", "ann", "--yes")
    assert site.members("family") == {"ben", "cat"}
    assert site.ask("group", "set", "family", "--policy", "closed")["policy"] == "closed"
    site.of("cat", "leave", "family")
    until(lambda: site.ask("group", "show", "family")["owner"] == "ben", "the rule names the next owner")
    site.of("ben", "delete", "family")
    assert site.ask("group", "list") == {"items": []}


@pytest.mark.req("FN-7")
def test_what_is_said_to_a_group_is_printed(site: Groups) -> None:
    """By the device itself, and by who watches; what is kept comes after a restart; the operator sees the terms."""
    site.server()
    site.gateway()
    ann, ben = site.device("ann"), site.device("ben")
    pan = site.second_gateway()
    cat = site.behind_the_other("cat", pan)
    for process in (ann, ben, cat):
        process.wait_line('"established"')
    site.of("ann", "create", "family", "--keep", "2")
    for name in ("ben", "cat"):
        site.of(name, "join", "family")
    watch = ("pne", "group", "watch", "family", "--control", site.path("ben.sock"))
    watcher = site.start(*watch, "--count", "2")
    lines = site.start(*watch, "--count", "1", "--output", "json")
    for one in (watcher, lines):
        one.wait_line("Listening")
    assert site.of("ann", "send", "family", "dinner is ready") == {"sent": "dinner is ready", "have": 2, "kept": 0}
    said = json.loads(cat.wait_line('"group_text"'))
    assert (said["name"], said["from"], said["text"], said["late"]) == ("family", "ann", "dinner is ready", False)
    assert json.loads(lines.wait_line("dinner"))["from"] == "ann"
    assert lines.process.wait(PATIENCE) == 0
    cat.end()
    assert site.of("ann", "send", "family", "it gets cold") == {"sent": "it gets cold", "have": 1, "kept": 1}
    assert watcher.process.wait(PATIENCE) == 0
    watcher.wait_line("family  ann  it gets cold")
    again = site.behind_the_other("cat", pan)
    assert json.loads(again.wait_line('"group_text"'))["text"] == "it gets cold"
    assert site.ask("group", "set", "family", "--keep", "0")["keep"] == 0
    shown = site.call("group", "show", "family", "--data", site.path("server"))
    assert "sign" in shown
    site.call("group", "set", "family", "--data", site.path("server"), code=2)
    site.of("ann", "send", "family", "x" * 1025, code=1)
    assert any(line.startswith("error[bad_text]") for line in site.all[-1].err), site.all[-1].err


def test_what_can_not_be_done_is_said(site: Groups) -> None:
    data = ("--data", site.path("server"))
    for arguments, code in (
        (("group", "show", "nobody", *data), "unknown_group"),
        (("group", "delete", "nobody", *data), "not_confirmed"),
        (("group", "delete", "nobody", "--yes", *data), "unknown_group"),
        (("pne", "group", "list"), "no_control"),
        (("pne", "group", "join", "x", "--control", site.path("nothing.sock")), "not_running"),
    ):
        site.call(*arguments, code=1)
        assert any(line.startswith(f"error[{code}]") for line in site.all[-1].err), (arguments, site.all[-1].err)


def test_every_command_shows_an_example(site: Groups) -> None:
    for arguments in (
        *(("group", name) for name in ("list", "show", "invite", "expel", "owner", "set", "delete")),
        *(
            ("pne", "group", name)
            for name in ("create find list join invite leave expel owner send watch delete".split())
        ),
    ):
        assert f"Example: cpns {' '.join(arguments)}" in site.call(*arguments, "--help")
