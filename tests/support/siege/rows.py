"""The attacks of the table, and what the honest parties may notice of them."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.siege.attackers import Attack
from tests.support.siege.site import GATEWAYS, Site

GOALS = {"elsewhere": 1.0, "here": 10.0, "gateway": 2.0, "slow": 15.0}
"""Seconds that a newcomer may take; established devices keep p99 under 50 ms, or three times the quiet one."""
RATES = (100, 1000)
SOURCES = {"one port": (1, 1), "1,000 ports": (1, 1000), "200 hosts": (200, 1000)}


@dataclass(frozen=True)
class Row:
    """One attack of the table."""

    title: str
    attacks: Callable[[Site, float], list[Attack]]


def _on_pan(what: str, entity: str, rate: float, hosts: int, ports: int) -> Callable[[Site, float], list[Attack]]:
    return lambda site, seconds: [Attack(what, site.pans[GATEWAYS[0]], entity, rate, seconds, hosts, ports)]


def _on_uplink(what: str, entity: str, rate: float, hosts: int, ports: int) -> Callable[[Site, float], list[Attack]]:
    return lambda site, seconds: [Attack(what, site.uplink, entity, rate, seconds, hosts, ports, tcp=True)]


def rows() -> list[Row]:
    """Return all rows, each attack at each rate from each kind of source."""
    found = []
    for rate in RATES:
        for source, (hosts, ports) in SOURCES.items():
            for what in ("activate of new IDs", "activate of one ID", "cm activate"):
                found.append(
                    Row(f"uplink: {what}, {rate}/s, {source}", _on_uplink(what, GATEWAYS[1], rate, hosts, ports))
                )
            for what, entity in (
                ("setup of new IDs", "stranger"),
                ("setup of one ID", f"steady-{GATEWAYS[0]}-0"),
                ("activate of new IDs", "stranger"),
                ("activate of one ID", f"steady-{GATEWAYS[0]}-0"),
                ("discovery", "stranger"),
            ):
                found.append(Row(f"PAN: {what}, {rate}/s, {source}", _on_pan(what, entity, rate, hosts, ports)))
    return found
