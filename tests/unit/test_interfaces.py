"""Addresses of our own: which of them a socket is at, who is on the link of one, and what others are told."""

import ipaddress
import socket

import pytest

from cpns.transport import address
from cpns.transport.address import Interface, host_in, interfaces, reachable, split_address


def interface(name: str, index: int, *own: str) -> Interface:
    return Interface(name, index, tuple(ipaddress.ip_interface(one) for one in own))


LOOPBACK = interface("lo", 1, "127.0.0.1/8", "::1/128")
LINK = interface("eth0", 2, "192.168.7.1/24", "10.1.0.1/16", "2001:db8::1/64", "fe80::1/64")
OTHER = interface("wg0", 3, "10.9.0.1/32")

AT = [
    (LOOPBACK, "0.0.0.0", ["127.0.0.1/8"]),
    (LOOPBACK, "::", ["127.0.0.1/8", "::1/128"]),
    (LOOPBACK, "127.0.0.9", ["127.0.0.9/32"]),
    (LOOPBACK, "192.168.7.1", []),
    (LINK, "0.0.0.0", ["192.168.7.1/24", "10.1.0.1/16"]),
    (LINK, "::", ["192.168.7.1/24", "10.1.0.1/16", "2001:db8::1/64", "fe80::1/64"]),
    (LINK, "10.1.0.1", ["10.1.0.1/16"]),
    (LINK, "10.1.0.2", []),
    (LINK, "127.0.0.1", []),
    (LINK, "fe80::1%eth0", ["fe80::1/64"]),
    (LINK, "fe80::1%2", ["fe80::1/64"]),
    (LINK, "fe80::1%wg0", []),
]


@pytest.mark.parametrize(("on", "bound", "there"), AT)
def test_which_addresses_a_socket_has_on_an_interface(on: Interface, bound: str, there: list[str]) -> None:
    found = on.at(bound)
    assert ([] if found is None else [str(one) for one in found.addresses]) == there


@pytest.mark.parametrize(
    ("on", "host", "is_there"),
    [
        (LINK, "192.168.7.200", True),
        (LINK, "192.168.8.1", False),
        (LINK, "127.0.0.1", False),
        (LINK, "fe80::77%2", True),
        (LINK, "fe80::77%3", False),
        (LOOPBACK, "127.3.2.1", True),
        (LOOPBACK, "192.168.7.200", False),
        (OTHER, "10.9.0.2", False),
    ],
)
def test_who_is_on_the_link_of_an_interface(on: Interface, host: str, is_there: bool) -> None:
    assert on.has(host) is is_there


def test_others_are_told_each_address_in_place_of_an_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of 127.0.0.0/8, none that is one within a link only, and no any-address: to others these lead nowhere."""
    monkeypatch.setattr(address, "interfaces", lambda: (LOOPBACK, LINK, OTHER))
    v4 = ["192.168.7.1:5", "10.1.0.1:5", "10.9.0.1:5"]
    assert reachable(["0.0.0.0:5"]) == v4
    assert reachable(["[::]:5"]) == ["192.168.7.1:5", "10.1.0.1:5", "[2001:db8::1]:5", "10.9.0.1:5"]
    assert reachable(["127.0.0.1:4", "[::1]:4", "0.0.0.0:5"]) == ["127.0.0.1:4", "[::1]:4", *v4]
    monkeypatch.setattr(address, "interfaces", lambda: (LOOPBACK,))
    assert reachable(["0.0.0.0:5"]) == []


def test_the_interfaces_of_this_machine() -> None:
    found = {one.name: one for one in interfaces()}
    mine = [one for one in found.values() if one.is_loopback]
    assert [str(one.ip) for one in mine[0].addresses][:1] == ["127.0.0.1"]
    assert all(socket.if_nametoindex(name) == one.index for name, one in found.items())


def test_a_host_has_its_zone() -> None:
    name = socket.if_indextoname(1)
    assert host_in(("fe80::1", 5, 0, 1)) == f"fe80::1%{name}"
    assert host_in(("fe80::1", 5, 0, 4_000_000)) == "fe80::1%4000000"  # gone meanwhile
    assert host_in(("::1", 5, 0, 0)) == "::1"
    assert host_in(("127.0.0.1", 5)) == "127.0.0.1"
    assert split_address("[fe80::1%eth0]:5") == ("fe80::1%eth0", 5)
