"""What the control socket of a running device offers about service groups."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cpns.cli.control import Action
from cpns.domain.given import devices_to_name, name_for_people, text_to_say
from cpns.domain.group import Named, chosen, is_sg_id
from cpns.domain.member_list import Policy
from cpns.errors import NotFound, Unavailable
from cpns.ids import SgId, entity_id
from cpns.pne.app import Pne
from cpns.pne.group_messages import GroupText
from cpns.pne.groups import Groups
from cpns.wire.fields import is_text
from cpns.wire.registry import JoinPolicy, Place

SEND_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 20.0
"""What one question of a watcher waits for, before it is asked again."""


class Texts:
    """What a device heard in its groups lately, for those who watch."""

    def __init__(self) -> None:
        self._heard: deque[tuple[int, dict[str, Any]]] = deque(maxlen=256)
        self._count = 0
        self._came = asyncio.Event()

    def add(self, said: GroupText) -> None:
        """Take one."""
        self._count += 1
        self._heard.append((self._count, as_printed(said)))
        came, self._came = self._came, asyncio.Event()
        came.set()

    async def after(self, number: int | None) -> dict[str, Any]:
        """Return what was heard after *number*, when there is some, or in the end nothing; None: from now on."""
        if number == self._count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._came.wait()
        found = [one for count, one in self._heard if number is not None and count > number]
        return {"items": found, "last": self._count}


def as_printed(said: GroupText) -> dict[str, Any]:
    """Return what a member said as JSON has it."""
    return {"group": said.sg_id, "name": said.name, "from": said.sender, "text": said.text, "late": said.late}


def line_of(said: GroupText) -> str:
    """Return what a member said as a line for people."""
    if said.text is None:
        return f"group {said.name}: a message of {said.sender} came too late to be opened"
    return f"group {said.name}: {said.sender}{' (late)' if said.late else ''}: {said.text}"


def of_pne(pne: Callable[[], Pne], texts: Texts) -> dict[str, Action]:
    """Return what a device offers.

    Args:
        pne: returns it; raises `CpnsError` where it is none at the moment.
        texts: what it has heard.
    """

    def action(name: str) -> Action:
        async def run(given: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = await getattr(_Groups(pne()), name)(given)
            return found

        return run

    async def heard(given: dict[str, Any]) -> dict[str, Any]:
        return await texts.after(given["after"])

    names = ("which", "create", "find", "list", "join", "invite", "leave", "expel", "owner", "delete", "send")
    return {f"group {name}": action(name) for name in names} | {"group heard": heard}


class _Groups:
    def __init__(self, pne: Pne) -> None:
        self._pne = pne
        self._groups: Groups = pne.groups

    async def _meant(self, given: dict[str, Any]) -> Named:
        """Return which group is meant. An ID is believed, as nobody finds a closed group.

        Raises:
            NotFound: ``unknown_group``.
            Conflict: ``ambiguous_group``.
        """
        wanted = str(given["group"])
        mine = [Named(view.sg_id, view.name, view.owner) for view in self._groups.views.values()]
        found = chosen(wanted, mine)
        if found is None and is_sg_id(wanted):
            return Named(SgId(wanted), None, None)
        if found is None and is_text(wanted):
            entries = await self._groups.discover(wanted)
            found = chosen(wanted, (), [Named(one.sg_id, one.name, one.owner) for one in entries])
        if found is None:
            raise NotFound("unknown_group", f"There is no group {wanted[:80]} to be found: see `cpns pne group find`.")
        return found

    async def _named(self, given: dict[str, Any]) -> SgId:
        return (await self._meant(given)).sg_id

    async def which(self, given: dict[str, Any]) -> dict[str, Any]:
        """Tell which group is meant."""
        return {"id": await self._named(given)}

    async def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make a group."""
        invite = devices_to_name(given["invite"]) if given["invite"] else []
        policy = JoinPolicy[Policy(given["policy"]).name]
        name, service = name_for_people(given["name"], "a group"), _service(given)
        made, results = await self._groups.create(
            *(name, policy, service, invite), vouched=given["vouched"], keep=given["keep"]
        )
        return {"id": made, "name": given["name"], "results": _names(results)}

    async def find(self, given: dict[str, Any]) -> dict[str, Any]:
        """Look for groups."""
        keyword = None if given["keyword"] is None else name_for_people(given["keyword"], "a group")
        found = await self._groups.discover(keyword, _service(given))
        rows = [
            {"id": one.sg_id, "name": one.name, "service": one.service, "owner": one.owner}
            | {"policy": JoinPolicy(one.policy).name.lower()}
            for one in found
        ]
        return {"items": rows}

    async def list(self, _: dict[str, Any]) -> dict[str, Any]:
        """Show the groups that it is in."""
        await self._groups.refresh()
        rows = [
            {"id": view.sg_id, "name": view.name, "owner": view.owner, "version": view.version}
            | {"devices": {pne: Place(place).name.lower() for pne, place in view.places.items()}}
            for view in self._groups.views.values()
        ]
        return {"items": rows}

    async def join(self, given: dict[str, Any]) -> dict[str, Any]:
        """Join one, and tell which that is, and whose: others may have made one of that name."""
        meant = await self._meant(given)
        result = await self._groups.join(meant.sg_id)
        view = self._groups.views.get(meant.sg_id)
        owner = meant.owner if view is None else view.owner
        return {"id": meant.sg_id, "owner": owner, "result": result.name.lower()}

    async def invite(self, given: dict[str, Any]) -> dict[str, Any]:
        """Invite others."""
        results = await self._groups.invite(await self._named(given), devices_to_name(given["devices"]))
        return {"results": _names(results)}

    async def leave(self, given: dict[str, Any]) -> dict[str, Any]:
        """Leave one."""
        await self._groups.leave(await self._named(given))
        return {"left": given["group"]}

    async def expel(self, given: dict[str, Any]) -> dict[str, Any]:
        """Put others out."""
        await self._groups.expel(await self._named(given), devices_to_name(given["devices"]))
        return {"expelled": given["devices"]}

    async def owner(self, given: dict[str, Any]) -> dict[str, Any]:
        """Pass one on."""
        to = None if given["to"] is None else entity_id(given["to"])
        return {"owner": await self._groups.pass_on(await self._named(given), to)}

    async def send(self, given: dict[str, Any]) -> dict[str, Any]:
        """Say something to one."""
        text = text_to_say(given["text"])
        try:
            async with asyncio.timeout(SEND_SECONDS):
                reached = await self._pne.messages.send(await self._named(given), text)
        except TimeoutError:
            raise Unavailable(
                "not_sent", "The way to the server is away: some members may have it. Try again when it is back."
            ) from None
        if reached is None:
            return {"sent": given["text"]}
        return {"sent": given["text"], "have": reached.have, "kept" if reached.kept else "missed": reached.missed}

    async def delete(self, given: dict[str, Any]) -> dict[str, Any]:
        """End one."""
        await self._groups.delete(await self._named(given))
        return {"deleted": given["group"]}


def _service(given: dict[str, Any]) -> str | None:
    return None if given["service"] is None else name_for_people(given["service"], "a service")


def _names(results: Any) -> dict[str, str]:  # noqa: ANN401  # by device
    return {name: result.name.lower() for name, result in results.items()}
