"""What the control sockets of gateway and device offer about their network, and how it is printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpns.cli import control, groups
from cpns.cli import output as o
from cpns.cli.options import Output
from cpns.domain.given import devices_to_name
from cpns.errors import NotFound
from cpns.gateway.app import Gateway
from cpns.ids import PnId, entity_id
from cpns.pne.app import Pne
from cpns.wire.pn_messages import InventoryEntry
from cpns.wire.registry import Presence, Source


def _member(entry: InventoryEntry) -> dict[str, Any]:
    return {
        "id": entry.entity_id,
        "state": Presence(entry.presence).name.lower(),
        "age": entry.age,
        "source": Source(entry.source).name.lower(),
        "guest": entry.guest,
    }


def of_pne(pne: Pne, texts: groups.Texts) -> dict[str, control.Action]:
    """Return what a device offers; what it asks for goes to the server, end to end."""

    async def network(_: dict[str, Any]) -> dict[str, Any]:
        found, entries = await pne.network.inventory()
        named = {"id": found.pn_id, "alias": found.name, "gateway": found.gateway_id, "owner": found.owner}
        return named | {"version": found.version, "members": [_member(entry) for entry in entries]}

    async def invite(given: dict[str, Any]) -> dict[str, Any]:
        results = await pne.network.invite(devices_to_name(given["devices"]))
        return {"results": {name: result.name.lower() for name, result in results.items()}}

    async def expel(given: dict[str, Any]) -> dict[str, Any]:
        await pne.network.expel(devices_to_name(given["devices"]))
        return {"expelled": given["devices"]}

    async def release(_: dict[str, Any]) -> dict[str, Any]:
        await pne.network.release()
        return {"released": True}

    async def leave(_: dict[str, Any]) -> dict[str, Any]:
        await pne.leave()
        return {"left": True}

    own = {"network": network, "invite": invite, "expel": expel, "release": release, "leave": leave}
    return own | groups.of_pne(lambda: pne, texts)


def of_gateway(gateway: Gateway) -> dict[str, control.Action]:
    """Return what a gateway offers about the networks that it serves."""

    def pn_of(given: dict[str, Any]) -> PnId:
        served = list(gateway.members.pns)
        wanted = given.get("network")
        named = [pn for pn, copy in gateway.networks.copies.items() if wanted in (pn, copy.alias)] if wanted else served
        if len(named) != 1:
            which = f"one of {', '.join(served)}" if served else "it serves none yet"
            raise NotFound("which_network", f"Name the network: {which}.")
        return named[0]

    async def members(_: dict[str, Any]) -> dict[str, Any]:
        here = {member.pne_id: member.link is not None for member in gateway.members}
        copies = [
            {
                **{"id": copy.pn_id, "version": copy.version, "alias": copy.alias, "owner": copy.owner},
                "members": [_member(e) | {"in_reach": here.get(e.entity_id, False)} for e in copy.members.values()],
            }
            for copy in gateway.networks.copies.values()
        ]
        in_groups = [
            {"id": copy.sg_id, "name": copy.name, "owner": copy.owner, "version": copy.version}
            | {"members": list(copy.members)}
            for copy in gateway.groups.copies.values()
        ]
        return {"networks": copies, "groups": in_groups, "held": sum(pan.relay.holding for pan in gateway.pans)}

    async def invite(given: dict[str, Any]) -> dict[str, Any]:
        results = await gateway.invite(pn_of(given), devices_to_name(given["devices"]))
        return {"results": {name: result.name.lower() for name, result in results.items()}}

    async def expel(given: dict[str, Any]) -> dict[str, Any]:
        await gateway.networks.expel(pn_of(given), devices_to_name(given["devices"]))
        return {"expelled": given["devices"]}

    async def release(given: dict[str, Any]) -> dict[str, Any]:
        await gateway.networks.release(pn_of(given))
        return {"released": True}

    async def hand_over(given: dict[str, Any]) -> dict[str, Any]:
        await gateway.switching.hand_over(pn_of(given), entity_id(given["to"]))
        return {"to": given["to"]}

    async def make_gateway(given: dict[str, Any]) -> dict[str, Any]:
        return {"gateway": await gateway.switching.make_gateway(pn_of(given), entity_id(given["device"]))}

    return {
        **{"members": members, "invite": invite, "expel": expel, "release": release},
        **{"hand-over": hand_over, "make-gateway": make_gateway},
    }


def show_members(path: Path | None, output: Output) -> None:
    """Print the members of the networks that a running gateway serves."""
    found = control.ask(path, "members")
    rows = (
        (pn["alias"] or pn["id"], one["id"], "guest" if one["guest"] else "member", one["in_reach"], one["state"])
        for pn in found["networks"]
        for one in pn["members"]
    )
    o.show(found, output, ("network", "device", "as", "in reach here", "state by the server"), rows)
    if output is Output.TABLE and found["groups"]:
        print("\nService groups that its devices are in:")
        shown = ((one["name"], one["owner"], one["version"], one["members"]) for one in found["groups"])
        o.print_table(("group", "owner", "version", "members"), shown)
    if output is Output.TABLE and found["held"]:
        print(f"\n{found['held']} sealed messages wait for the uplink.")


def show_network(path: Path | None, output: Output) -> None:
    """Print what a running device may see of its network."""
    found = control.ask(path, "network")
    if output is Output.JSON:
        o.print_json(found)
        return
    o.print_fields({name: found[name] for name in ("id", "alias", "gateway", "owner", "version")})
    print()
    rows = (
        (one["id"], "guest" if one["guest"] else "member", one["state"], o.age(one["age"]), one["source"])
        for one in found["members"]
    )
    o.print_table(("device", "as", "state", "known for", "from"), rows)


def act(path: Path | None, action: str, sentence: str, output: Output, **arguments: Any) -> None:  # noqa: ANN401
    """Have a running gateway or device do something, and print *sentence*."""
    found = control.ask(path, action, **arguments)
    o.say(sentence, found, output)


def invite(path: Path | None, devices: Sequence[str], network: str | None, output: Output) -> None:
    """Have a running gateway or device invite others, and print how it ended for each."""
    found = control.ask(path, "invite", devices=list(devices), network=network)
    o.show_invited(found, output, "`cpns pne run --join NETWORK`.")
