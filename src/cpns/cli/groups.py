"""What the control socket of a running device offers about service groups."""

from typing import Any

from cpns.cli.control import Action
from cpns.domain.network import Policy
from cpns.errors import NotFound
from cpns.ids import SgId, entity_id
from cpns.pne.app import Pne
from cpns.pne.groups import Groups
from cpns.wire.registry import JoinPolicy, Place


def of_pne(pne: Pne) -> dict[str, Action]:
    """Return what a device offers; all of it goes to the server, end to end."""
    own = _Groups(pne.groups)
    actions: dict[str, Action] = {"create": own.create, "find": own.find, "list": own.list_all, "join": own.join}
    actions |= {"invite": own.invite, "leave": own.leave, "expel": own.expel, "owner": own.owner, "delete": own.delete}
    return {f"group {name}": action for name, action in actions.items()}


class _Groups:
    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def _named(self, given: dict[str, Any]) -> SgId:
        wanted = str(given["group"])
        found = [view.sg_id for view in self._groups.views.values() if wanted in (view.sg_id, view.name)]
        found = found or [one.sg_id for one in await self._groups.discover(wanted) if wanted in (one.sg_id, one.alias)]
        if not found and wanted.startswith("sg-"):
            found = [SgId(wanted)]
        if not found:
            raise NotFound("unknown_group", f"There is no group {wanted[:80]} to be found: see `cpns pne group find`.")
        return found[0]

    async def create(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make a group."""
        invite = [entity_id(name) for name in given["invite"]]
        policy = JoinPolicy[Policy(given["policy"]).name]
        made, results = await self._groups.create(given["name"], policy, given["service"], invite)
        return {"id": made, "name": given["name"], "results": _names(results)}

    async def find(self, given: dict[str, Any]) -> dict[str, Any]:
        """Look for groups."""
        found = await self._groups.discover(given["keyword"], given["service"])
        rows = [
            {"id": one.sg_id, "name": one.alias, "service": one.service, "owner": one.owner}
            | {"policy": JoinPolicy(one.policy).name.lower()}
            for one in found
        ]
        return {"items": rows}

    async def list_all(self, _: dict[str, Any]) -> dict[str, Any]:
        """Show the groups that it is in."""
        await self._groups.refresh()
        rows = [
            {"id": view.sg_id, "name": view.name, "owner": view.owner, "version": view.version}
            | {"devices": {pne: Place(place).name.lower() for pne, place in view.places.items()}}
            for view in self._groups.views.values()
        ]
        return {"items": rows}

    async def join(self, given: dict[str, Any]) -> dict[str, Any]:
        """Join one."""
        return {"result": (await self._groups.join(await self._named(given))).name.lower()}

    async def invite(self, given: dict[str, Any]) -> dict[str, Any]:
        """Invite others."""
        results = await self._groups.invite(await self._named(given), [entity_id(name) for name in given["devices"]])
        return {"results": _names(results)}

    async def leave(self, given: dict[str, Any]) -> dict[str, Any]:
        """Leave one."""
        await self._groups.leave(await self._named(given))
        return {"left": given["group"]}

    async def expel(self, given: dict[str, Any]) -> dict[str, Any]:
        """Put others out."""
        await self._groups.expel(await self._named(given), [entity_id(name) for name in given["devices"]])
        return {"expelled": given["devices"]}

    async def owner(self, given: dict[str, Any]) -> dict[str, Any]:
        """Pass one on."""
        to = None if given["to"] is None else entity_id(given["to"])
        return {"owner": await self._groups.pass_on(await self._named(given), to)}

    async def delete(self, given: dict[str, Any]) -> dict[str, Any]:
        """End one."""
        await self._groups.delete(await self._named(given))
        return {"deleted": given["group"]}


def _names(results: Any) -> dict[str, str]:  # noqa: ANN401  # by device
    return {name: result.name.lower() for name, result in results.items()}
