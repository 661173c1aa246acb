"""Who is in reach: hosts share the room, and one that names many displaces its own."""

from typing import Any

import pytest

from cpns.gateway import reach
from cpns.gateway.reach import KNOWN_SECONDS, Reach
from cpns.ids import EntityId
from cpns.shares.party import Party


class At:
    """A link from a host."""

    def __init__(self, host: str) -> None:
        self.host = host

    def party(self, source: None) -> Party:
        return Party(self.host, 1)


def met(one: Reach, name: str, host: str, now: float = 0.0) -> Any:
    link: Any = At(host)
    one.met(EntityId(name), link, now)
    return link


def test_a_host_that_names_many_displaces_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MAX_KNOWN", 8)
    one = Reach()
    bob = met(one, "bob", "10.0.0.2")
    for number in range(100):
        met(one, f"made-up-{number}", "10.0.0.9")
    assert one.link(EntityId("bob"), 0.0) is bob
    assert one.known(0.0) == ["bob", *(f"made-up-{number}" for number in range(93, 100))]


def test_many_hosts_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MAX_KNOWN", 8)
    one = Reach()
    for number in range(40):
        met(one, f"made-up-{number}", f"10.0.0.{number % 4}")
    met(one, "bob", "10.0.1.2")
    assert len(one.known(0.0)) == 8
    assert one.link(EntityId("bob"), 0.0) is not None


def test_who_is_heard_elsewhere_has_moved_and_who_is_silent_is_forgotten() -> None:
    one = Reach()
    met(one, "bob", "10.0.0.2")
    link = met(one, "bob", "10.0.0.3", 10.0)
    assert one.link(EntityId("bob"), 10.0 + KNOWN_SECONDS) is link
    assert one.link(EntityId("bob"), 11.0 + KNOWN_SECONDS) is None
    assert one.known(11.0 + KNOWN_SECONDS) == []
    assert one.link(EntityId("nobody"), 0.0) is None
