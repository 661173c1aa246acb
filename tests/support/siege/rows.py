"""The attacks of the table, and what the honest parties may notice of them."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.support.siege.attackers import DRIP, SILENCE, Attack, Attacker
from tests.support.siege.insiders import Insider, InsiderProcess
from tests.support.siege.site import EVIL, GATEWAYS, Site

GOALS = {"elsewhere": 1.0, "here": 10.0, "gateway": 2.0, "slow": 15.0}
"""Seconds that a newcomer may take; established devices keep p99 under 50 ms, or three times the quiet one."""
RATES = (100, 1000, 5000)
TIMES = (1, 2, 10)
"""How much faster than what was found to starve others parties with a key are."""
CONNECTIONS = 10_000
ON_PAN = {
    "setup of new IDs": "stranger",
    "setup of one ID": f"steady-{GATEWAYS[0]}-0",
    "activate of new IDs": "stranger",
    "activate of one ID": f"steady-{GATEWAYS[0]}-0",
    "discovery": "stranger",
}
"""What strangers send on a PAN, and the ID that it is about."""
SOURCES = {"one port": (1, 1), "1,000 ports": (1, 1000), "200 hosts": (200, 1000)}


Attacks = Callable[[Site, float], list[AbstractAsyncContextManager[object]]]
"""Takes the site and the seconds that it lasts."""

INSIDE_DEVICES = {
    "readings of 4 kB": 180,
    "status of 1,024 characters": 200,
    "SG-CREATE": 90,
    "SG-INVITE of 64 names": 20,
    "SG-INVENTORY": 100,
    "SG-DISCOVERY": 100,
    "SG-LEAVE and SG-JOIN": 30,
    "Gateway Change": 100,
    "INVENTORY": 200,
    "INVITE of 64 names": 200,
}
INSIDE_GATEWAYS = {
    "SETUP, AUTHENTICATE never answered": 60,
    "SETUP of 64, wrong hashes": 120,
    "SETUP of 64, never answered": 60,
    "CM-ASSIGN": 150,
    "PN GW switching": 100,
    "INVENTORY": 200,
    "SG-INVENTORY": 100,
}
"""Messages a second that were found to starve others; each is tried at `TIMES` that rate."""


@dataclass(frozen=True)
class Row:
    """One attack of the table."""

    title: str
    attacks: Attacks

    @property
    def attack(self) -> str:
        """The attack, whatever its rate and source."""
        return re.sub(r", \d+/s.*| behind [\w-]+", "", self.title)


def _on_pan(what: str, entity: str, rate: float, hosts: int, ports: int, *, forged: bool = False) -> Attacks:
    return lambda site, seconds: [
        Attacker(Attack(what, site.pans[GATEWAYS[0]], entity, rate, seconds, hosts, ports, forged=forged))
    ]


def _on_uplink(what: str, entity: str, rate: float, hosts: int, ports: int) -> Attacks:
    return lambda site, seconds: [Attacker(Attack(what, site.uplink, entity, rate, seconds, hosts, ports, tcp=True))]


def _inside(what: str, rate: float, gateway: str | None) -> Attacks:
    """Return the attack of a device behind *gateway*, or of a gateway itself (None)."""

    def attacks(site: Site, seconds: float) -> list[AbstractAsyncContextManager[object]]:
        name = "mallory" if gateway is not None else "evil-2"
        target = site.uplink if gateway is None else site.pans[gateway]
        insider = Insider(what, name, target, rate, seconds, is_gateway=gateway is None)
        return [InsiderProcess(insider, site.keys[name])]

    return attacks


def rows(*, forged: bool = False, connections: bool = False) -> list[Row]:
    """Return all rows; some take a raw socket, others many files."""
    return [
        *outside(),
        *(forged_sources() if forged else []),
        *(many_connections() if connections else []),
        *inside(),
    ]


def inside() -> list[Row]:
    """Return what parties with a key do: a device behind an honest gateway or its own, and a gateway."""
    found = []
    for times in TIMES:
        for what, rate in INSIDE_DEVICES.items():
            for gateway in (GATEWAYS[0], EVIL):
                title = f"device behind {gateway}: {what}, {rate * times}/s"
                found.append(Row(title, _inside(what, rate * times, gateway)))
        for what, rate in INSIDE_GATEWAYS.items():
            found.append(Row(f"gateway: {what}, {rate * times}/s", _inside(what, rate * times, None)))
    return found


def outside() -> list[Row]:
    """Return what strangers do, each attack at each rate from each kind of source."""
    found = []
    for rate in RATES:
        for source, (hosts, ports) in SOURCES.items():
            for what in ("activate of new IDs", "activate of one ID", "cm activate"):
                found.append(
                    Row(f"uplink: {what}, {rate}/s, {source}", _on_uplink(what, GATEWAYS[1], rate, hosts, ports))
                )
            for what, entity in ON_PAN.items():
                found.append(Row(f"PAN: {what}, {rate}/s, {source}", _on_pan(what, entity, rate, hosts, ports)))
    return found


def forged_sources() -> list[Row]:
    """Return what strangers do on a PAN in the name of 131,072 other hosts."""
    return [
        Row(f"PAN, forged sources: {what}, {rate}/s", _on_pan(what, entity, rate, 1, 1, forged=True))
        for rate in RATES
        for what, entity in ON_PAN.items()
    ]


def many_connections() -> list[Row]:
    """Return what 10,000 connections do that say nothing, or a byte each ten seconds."""
    found = []
    for hosts in (1, 40):
        source = f"{hosts} host{'s' * (hosts > 1)}"
        silent = _on_uplink(SILENCE, "", 2500, hosts, CONNECTIONS)
        dripping = _on_uplink(DRIP, "", CONNECTIONS / 10, hosts, CONNECTIONS)
        found.append(Row(f"uplink: 10,000 connections that say nothing, 2500/s, {source}", silent))
        found.append(Row(f"uplink: 10,000 connections, a byte each 10 s, 1000/s, {source}", dripping))
    return found
