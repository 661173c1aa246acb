"""What people give to go into messages is checked where it enters: nothing starts, or is sent, that nobody can take."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpns.cli.control import Action, Control, ask
from cpns.cli.groups import Texts
from cpns.cli.members import of_gateway, of_pne
from cpns.domain.inventory import Kind
from cpns.errors import UserError
from cpns.wire import application
from cpns.wire.registry import MAX_ALIAS_BYTES
from tests.support.commands import OWN_PARTIES, Places, commands, is_word
from tests.support.groups import all_have, epoch, until_epoch
from tests.support.world import World, until, world
from tests.unit.test_commands import rule

UNFIT = ["", "x" * 65, "\u00e9" * 33, "a\x1bb", "a\nb", "a\u0085b", "a\u2028b", "a\u202eb", "a\u200bb", "a\x7fb"]
"""No name of anything."""
TOO_LONG = ["x" * 1025, "\U0001f600" * 1024, "\U0001f600" * 1021]
"""No text that a message holds."""
LONGEST = "\U0001f600" * 1020


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


ADDRESSES = {"server", "pan", "secure_pan", "gateway", "listen", "nats"}
"""Words of a role that are no part of a message."""


@pytest.mark.parametrize("text", UNFIT, ids=ascii)
def test_no_role_starts_with_what_its_messages_can_not_hold(places: Places, text: str) -> None:
    tried = []
    for path, command in commands():
        if path[-1] != "run":
            continue
        for parameter in command.params:
            name = str(parameter.name)
            if not is_word(parameter) or name in ADDRESSES or (not text and (path[0], name) == ("server", "id")):
                continue
            words = [*places.words(path, command), f"{parameter.opts[0]}={text}"]
            rule(words, places.run(words), "bad_name", "bad_id")
            tried.append((path[0], name))
    wanted = [("gateway", "alias"), ("pne", "gateway_id"), ("pne", "join"), ("pne", "invite")]
    assert set(wanted) <= set(tried), tried


def test_a_role_invites_no_more_than_a_message_holds(places: Places) -> None:
    path = ("pne", "run")
    words = [*places.words(path, dict(commands())[path]), *(f"--invite=pne-{n}" for n in range(65))]
    rule(words, places.run(words), "bad_request")


def test_every_word_of_every_command_may_be_hostile(places: Places) -> None:
    tried = 0
    for path, command in commands():
        if path in OWN_PARTIES or path[-1] == "run":
            continue
        for parameter in command.params:
            if is_word(parameter):
                words = places.words(path, command, **{str(parameter.name): "".join([*UNFIT, *TOO_LONG])})
                rule(words, places.run(words))
                tried += 1
    assert tried >= 70


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400"])
def test_numbers_end(places: Places, number: str) -> None:
    tried = 0
    for path, command in commands():
        for parameter in command.params:
            if parameter.type_descriptor.annotation is float:
                words = [*places.words(path, command), f"{parameter.opts[0]}={number}"]
                done = places.run(words)
                rule(words, done)
                assert done.code in (1, 2), words
                tried += 1
    assert tried >= 25


# at the doors of what runs


@dataclass
class Doors:
    """A gateway and a device that run, and the sockets for their commands."""

    world: World
    device: Path
    gateway: Path

    async def ask(self, path: Path, action: str, **given: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask, path, action, **given)

    async def refused(self, path: Path, action: str, **given: Any) -> str:
        """Return the code of the error that a command ends with."""
        with pytest.raises(UserError) as caught:
            await self.ask(path, action, **given)
        return caught.value.code


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    async with world(tmp_path) as here:
        await here.start_server()
        await here.provision(Kind.PNE, "pne-1", may_own=True)
        gateway = await here.start_gateway()
        pne = await here.joined_pne("pne-1", gateway)
        tables: list[dict[str, Action]] = [of_pne(pne, Texts()), of_gateway(gateway)]
        open_doors = [Control(tmp_path / name, table) for name, table in zip(("pne", "gw"), tables, strict=True)]
        for door in open_doors:
            await door.start()
        yield Doors(here, tmp_path / "pne", tmp_path / "gw")
        for door in open_doors:
            await door.close()


CREATE: dict[str, Any] = {
    "name": "family",
    "policy": "open",
    "service": None,
    "invite": [],
    "vouched": False,
    "keep": 0,
}
AT_DEVICE: list[tuple[str, str, dict[str, Any], str]] = [
    ("group create", "name", CREATE, "bad_name"),
    ("group create", "service", CREATE, "bad_name"),
    ("group create", "invite", CREATE, "bad_id"),
    ("group find", "keyword", {"service": None}, "bad_name"),
    ("group find", "service", {"keyword": None}, "bad_name"),
    ("group join", "group", {}, "unknown_group"),
    ("group leave", "group", {}, "unknown_group"),
    ("group delete", "group", {}, "unknown_group"),
    ("group owner", "group", {"to": None}, "unknown_group"),
    ("group send", "group", {"text": "hello"}, "unknown_group"),
    ("group invite", "group", {"devices": ["pne-2"]}, "unknown_group"),
    ("group expel", "group", {"devices": ["pne-2"]}, "unknown_group"),
    ("group owner", "to", {"group": "family"}, "bad_id"),
    ("group invite", "devices", {"group": "family"}, "bad_id"),
    ("group expel", "devices", {"group": "family"}, "bad_id"),
    ("invite", "devices", {}, "bad_id"),
    ("expel", "devices", {}, "bad_id"),
]
AT_GATEWAY: list[tuple[str, str, dict[str, Any], str]] = [
    ("invite", "devices", {}, "bad_id"),
    ("expel", "devices", {}, "bad_id"),
    ("hand-over", "to", {}, "bad_id"),
    ("make-gateway", "device", {}, "bad_id"),
]
LISTS = {"devices", "invite"}


async def test_a_running_device_says_what_does_not_fit(doors: Doors) -> None:
    await doors.ask(doors.device, "group create", **CREATE)
    tried = 0
    for path, table in ((doors.device, AT_DEVICE), (doors.gateway, AT_GATEWAY)):
        for action, name, others, code in table:
            for text in UNFIT:
                value = [text] if name in LISTS else text
                assert await doors.refused(path, action, **{**others, name: value}) == code, (action, name, text)
                tried += 1
            if name in LISTS:
                for many in ([f"pne-{n}" for n in range(65)], [] if name == "devices" else ["pne-2"] * 65):
                    assert await doors.refused(path, action, **{**others, name: many}) == "bad_request"
                    tried += 1
    for text in TOO_LONG:
        assert await doors.refused(doors.device, "group send", group="family", text=text) == "bad_text"
    assert tried >= 200
    longest = "\u00e9" * (MAX_ALIAS_BYTES // 2)
    made = await doors.ask(doors.device, "group create", **{**CREATE, "name": longest, "service": longest})
    found = await doors.ask(doors.device, "group find", keyword=longest, service=longest)
    assert [one["id"] for one in found["items"]] == [made["id"]]


async def test_the_longest_text_arrives(doors: Doors) -> None:
    """What is taken where it enters is taken by all who come after."""
    others = await doors.world.joined_pne("pne-2", doors.world.gateways[0])
    made = await doors.ask(doors.device, "group create", **{**CREATE, "keep": None})
    before = await epoch(doors.world, made["id"])
    await others.groups.join(made["id"])
    await until_epoch(doors.world, made["id"], before + 1)
    await all_have(doors.world, made["id"], *doors.world.pnes)
    await doors.ask(doors.device, "group send", group="family", text=LONGEST)
    await until(lambda: [one.text for one in doors.world.said["pne-2"]] == [LONGEST])
    push = application.Push(bytes(application.PUSH_ID_BYTES), LONGEST)
    assert application.decode_push(application.encode_push(push)) == push
