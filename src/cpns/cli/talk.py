"""What the nouns say to the admin API, and how its answers are printed."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from cpns.admin.client import answer_of, open_client
from cpns.admin.folder import Folder
from cpns.admin.warned import warnings_of
from cpns.cli import output as o
from cpns.cli import private
from cpns.cli.options import Output
from cpns.errors import BadInput, Unavailable
from cpns.ports import Vault

T = TypeVar("T")


def ask(data: Path, talk: Callable[[httpx.AsyncClient], Awaitable[T]], passphrase_file: Path | None = None) -> T:
    """Return what *talk* makes of a client of the server in *data*.

    Raises:
        UserError: what the API answered, or ``server_gone``.
    """

    def open_vault() -> Vault:
        return private.open_server_vault(Folder(data).kek, passphrase_file)

    async def run() -> T:
        async with open_client(data, open_vault) as client:
            client.event_hooks["response"].append(_Warnings().heard)
            try:
                return await talk(client)
            except httpx.TransportError as error:
                raise Unavailable("server_gone", f"The server in {data} closed the connection: try again.") from error

    return asyncio.run(run())


class _Warnings:
    """Says once what the answers to a command lack."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    async def heard(self, response: httpx.Response) -> None:
        for one in warnings_of(response):
            if one not in self._said:
                print(f"warning: {o.plain(one)}", file=sys.stderr)
                self._said.add(one)


def get(data: Path, path: str) -> dict[str, Any]:
    """Return the JSON object of a GET."""

    async def talk(client: httpx.AsyncClient) -> dict[str, Any]:
        return answer_of(await client.get(path))

    return ask(data, talk)


def post(data: Path, path: str, body: object = None, passphrase_file: Path | None = None) -> dict[str, Any]:
    """Return the JSON object of a POST of *body* as JSON."""

    async def talk(client: httpx.AsyncClient) -> dict[str, Any]:
        return answer_of(await client.post(path, json=body))

    return ask(data, talk, passphrase_file)


def resource(plural: str, id: str, action: str = "") -> str:
    """Return the path of an entity, or of an action on it."""
    name = quote(id, safe="").replace(".", "%2E")  # an entity may be called "..", which a path would lose
    return f"/{plural}/{name}{action}"


# entities


COLUMNS = ("id", "state", "connected", "last result", "reason", "via", "when", "pn", "note")


def list_all(plural: str, data: Path, all: bool, output: Output) -> None:
    """Print the entities of a kind; with *all* revoked ones too."""
    found = current(get(data, f"/{plural}"), all)
    columns = (*COLUMNS, "may own") if plural == "devices" else COLUMNS
    o.show(found, output, columns, (_row(entity)[: len(columns)] for entity in found["items"]))


def current(found: dict[str, Any], all: bool) -> dict[str, Any]:
    """Return *found* without what is revoked, unless *all* is wanted."""
    return {**found, "items": [one for one in found["items"] if all or one["state"] != "revoked"]}


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    last = (one["last_result"], one["last_reason"], one["last_via"], one["last_at"])
    return (one["id"], one["state"], o.known(one["connected"]), *last, one["pn_id"], one["note"], one["owner"])


def show(plural: str, data: Path, id: str, output: Output) -> None:
    """Print one entity and its newest audit rows."""
    entity = get(data, resource(plural, id))
    if output is Output.JSON:
        o.print_json(entity)
        return
    fields = {
        "id": entity["id"],
        "state": entity["state"],
        "connected": o.known(entity["connected"]),
        "gateway": entity["gateway"] or "any",
        "last result": entity["last_result"],
        "reason": entity["last_reason"],
        "via": entity["last_via"],
        "when": entity["last_at"],
        "pn": entity["pn_id"],
        "may own": entity["owner"],
        "note": entity["note"],
        "created": entity["created_at"],
        "revoked": entity["revoked_at"],
    }
    if plural == "gateways":
        del fields["gateway"], fields["may own"]
    o.print_fields(fields)
    print()
    print_audit(entity["audit"])


def settle(plural: str, data: Path, id: str, new: dict[str, Any], output: Output) -> None:
    """Change gateway or note of an entity.

    Raises:
        BadInput: ``nothing_to_change``.
    """
    if new.get("gateway") is None and new["note"] is None:
        raise BadInput("nothing_to_change", f"Say what is to change of {o.plain(id)}: see --help.")
    done = post(data, resource(plural, id, "/settings"), new)
    o.say(f"{done['id']} is changed; sessions ended: {done['ended']}", done, output)


def print_audit(audit: list[dict[str, Any]]) -> None:
    """Print rows of the audit log."""
    shown = ("event", "by", "result", "reason", "times", "via")
    o.print_table(("when", *shown), ((row["at"], *(row[name] for name in shown)) for row in audit))


def revoke(plural: str, data: Path, id: str, yes: bool, output: Output) -> None:
    """Revoke an entity, after asking.

    Raises:
        BadInput: ``not_confirmed``.
    """
    confirm(f"Revoke {id} for good?", yes)
    revoked = post(data, resource(plural, id, "/revoke"))
    o.say(f"{revoked['id']} is revoked; sessions ended: {revoked['ended']}", revoked, output)


def confirm(question: str, yes: bool) -> None:
    """Ask the user, unless *yes*.

    Raises:
        BadInput: ``not_confirmed``: said no, or nobody is there to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("not_confirmed", f"Nobody is there to confirm ({o.plain(question)}): give --yes.")
    print(f"{o.plain(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("not_confirmed", "Nothing is changed.")


# networks, and who waits


def show_network(data: Path, id: str, output: Output) -> None:
    """Print one network with its members, and who else is on its member list."""
    pn = get(data, resource("networks", id))
    if output is Output.JSON:
        o.print_json(pn)
        return
    names = ("id", "alias", "gateway", "owner", "policy", "version")
    fields = {name: pn[name] for name in names} | {"created": pn["created_at"]}
    if pn["stands_in"]:
        fields["owner"] = f"none; {pn['stands_in']} came first and stands in"
    o.print_fields(fields)
    print()
    rows = (
        (
            one["id"],
            "guest" if one["guest"] else "member",
            o.known(one["state"]),
            age_of(one["at"]),
            one["source"],
            one["since"],
        )
        for one in pn["members"]
    )
    o.print_table(("device", "as", "state", "known for", "from", "in since"), rows)
    if pn["listed"]:
        print("\nOn the member list, and not in it now:")
        o.print_table(("device", "standing"), pn["listed"].items())


def age_of(at: str | None) -> str:
    """Return how long ago a time of the API was, for people."""
    if at is None:
        return ""
    return o.age(max(0.0, time.time() - datetime.fromisoformat(at).timestamp()))


def pending(data: Path, output: Output) -> None:
    """Print the devices that wait for a decision."""
    found = get(data, "/pending")
    columns = ("device", "wants into", "through", "since", "tried last", "attempts", "proven", "next")
    rows = (
        (
            *(one["id"], one["network"] or "-", one["via"], age_of(one["since"]), age_of(one["last"])),
            *(one["attempts"], one["known"], f"cpns device approve {one['id']}, or refuse"),
        )
        for one in found["items"]
    )
    if output is Output.TABLE and not found["items"]:
        print("Nobody waits.")
        return
    o.show(found, output, columns, rows)


def exposure(data: Path, id: str, output: Output) -> None:
    """Print what a gateway could ever read."""
    found = get(data, resource("gateways", id, "/exposure"))
    if output is Output.JSON:
        o.print_json(found)
        return
    print(f"What {o.plain(id)} could ever read, and from when: that a device below was there, when it spoke, how much,")
    print("and who is in its network. Never what a device and the server said to each other.\n")
    rows = (
        (one["device"], one["first"], one["last"], one["establishments"], one["readings_carried"])
        for one in found["devices"]
    )
    o.print_table(("device", "from", "newest from", "set up", "readings carried, sealed"), rows)
    if found["cm_devices"]:
        print("\nIt set up CM Devices; it knows the key of each that did not take a fresh one since:")
        show_cm_devices({"items": found["cm_devices"]}, output)
    if found["networks"]:
        print(f"\nIt serves {', '.join(found['networks'])}: `cpns network switch` lets another gateway do so.")


# service groups


def show_group(data: Path, id: str, output: Output) -> None:
    """Print one group with its members, and who else is on its list."""
    one = get(data, resource("groups", id))
    if output is Output.JSON:
        o.print_json(one)
        return
    names = ("id", "name", "service", "owner", "policy", "version", "epoch")
    said = {"senders": "vouched for by gateways" if one["vouched"] else "sign", "messages kept, s": one["keep"]}
    said |= {"invitations left": one["invitations_left"]}
    o.print_fields({name: one[name] for name in names} | said | {"created": one["created_at"]})
    print()
    o.print_table(("device", "in since"), one["members"].items())
    if one["listed"]:
        print("\nOn its list, and not in it:")
        until = one["invited_until"]
        rows = ((device, standing, until.get(device, "")) for device, standing in one["listed"].items())
        o.print_table(("device", "standing", "until"), rows)


# CM Devices


def show_cm_devices(found: dict[str, Any], output: Output) -> None:
    """Print a list of CM Devices."""
    columns = ("id", "device", "set up by", "state", "connected", "key", "known to that gateway", "went direct first")
    rows = (
        (
            *(one[name] for name in ("id", "device", "gateway", "state")),
            o.known(one["connected"]),
            f"generation {one['generation']}" + (", a fresh one is due" if one["rotation_due"] else ""),
            *(one["known_to_gateway"], one["used_at"] or "never"),
        )
        for one in found["items"]
    )
    o.show(found, output, columns, rows)


def show_cm_device(data: Path, id: str, output: Output) -> None:
    """Print one CM Device and its newest audit rows."""
    one = get(data, resource("cm", id))
    if output is Output.JSON:
        o.print_json(one)
        return
    o.print_fields({name.replace("_", " "): value for name, value in one.items() if name != "audit"})
    print()
    print_audit(one["audit"])


def known_to(data: Path, gateway: str) -> list[str]:
    """Return the CM Devices whose key a gateway knows, as it set them up."""
    found = get(data, resource("gateways", gateway, "/exposure"))
    return [one["id"] for one in found["cm_devices"] if one["known_to_gateway"]]


def offer_rotation(data: Path, gateway: str, yes: bool) -> None:
    """Offer to rotate the CM keys that a revoked gateway knows."""
    whom = known_to(data, gateway)
    if not whom:
        return
    print(f"\n{o.plain(gateway)} knows the keys of {len(whom)} CM Devices that it set up: {', '.join(whom)}.")
    if not yes and sys.stdin.isatty():
        with contextlib.suppress(BadInput):
            confirm("Have them take fresh keys now?", yes)
            post(data, "/cm/rotate", {"devices": whom})
            print("They take fresh keys as soon as they are heard.")
            return
    print(f"Have them take fresh ones: cpns cm rotate --gateway {o.plain(gateway)}")


# readings


def tail(
    data: Path, path: str, query: dict[str, str], after: int | None, count: int | None, shown: Callable[[str], str]
) -> None:
    """Print what *path* has as it comes, each line as it is *shown*, until *count* or Ctrl-C.

    Raises:
        Unavailable: ``server_not_running``, or ``server_gone`` where the server ended first.
    """
    wanted = {**query, "follow": "true", "after": after, "limit": count}
    params = {name: value for name, value in wanted.items() if value is not None}

    async def talk(client: httpx.AsyncClient) -> None:
        told = 0
        async with contextlib.aclosing(lines(client, path, params)) as found:
            async for line in found:
                print(shown(line), flush=True)
                told += 1
        if told != count:
            raise Unavailable("server_gone", f"The server in {data} was stopped.")

    ask(data, talk)


EXPORTED_AT_ONCE: Final = 1000


def export(data: Path, noun: str, path: str, query: dict[str, str], after: int) -> None:
    """Print what *path* has with a number over *after*, oldest first, a JSON object a line; *noun* is what it is."""

    import json

    async def talk(client: httpx.AsyncClient) -> tuple[int, int]:
        told, last = 0, after
        while True:
            page = answer_of(await client.get(path, params={**query, "after": last, "limit": EXPORTED_AT_ONCE}))
            for item in page["items"]:
                print(o.json_for_output(json.dumps(item, ensure_ascii=False, separators=(",", ":"))))
            told, last = told + len(page["items"]), page["next"]
            if len(page["items"]) < EXPORTED_AT_ONCE:
                return told, last

    told, last = ask(data, talk)
    sys.stdout.flush()  # nothing is counted that nobody got
    print(f"{told} {noun}, the last with number {last}." if told else f"No {noun}.", file=sys.stderr)


async def lines(client: httpx.AsyncClient, path: str, params: dict[str, Any]) -> AsyncGenerator[str, None]:
    """Yield what *path* says line by line, as it comes."""
    async with client.stream("GET", path, params=params, timeout=None) as response:
        if response.is_error:
            await response.aread()
            answer_of(response)
        rest = b""
        async for chunk in response.aiter_bytes():  # httpx's own lines end at U+2028 too, which a text may hold
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode()


def reading(line: str) -> str:
    """Return a reading for people."""
    import json

    one = json.loads(line)
    body = json.dumps(one["body"], ensure_ascii=False)
    via = f"{one['device']} via {one['gateway']}"
    return o.plain(f"{one['number']}  {one['received_at']}  {via}  {one['verified']}  {body}")


def event(line: str) -> str:
    """Return an event for people."""
    import json

    one = json.loads(line)
    data = "  ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in one["data"].items()
    )
    return o.plain(
        f"{one['number']}  {one['at']}  {one['kind']}  {one['subject']}  by {one['role']} {one['by']}  {data}"
    )
