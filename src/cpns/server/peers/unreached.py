"""What an operator is told of a PNE that was sent something and did not answer: which hop, and what to do."""

from cpns.domain.inventory import Kind, State
from cpns.errors import NotFound, Unavailable
from cpns.ids import EntityId
from cpns.ports.entities import EntityStore
from cpns.server.peers.gateways import Gateways
from cpns.session.table import Sessions


class Unreached:
    """Tells it, of the sessions and the PN GWs of this process."""

    def __init__(self, store: EntityStore, sessions: Sessions, gateways: Gateways) -> None:
        self._store = store
        self._sessions = sessions
        self._gateways = gateways

    async def told(self, pne_id: EntityId, reason: str) -> NotFound | Unavailable:
        """Return what an operator is told of a PNE that did not answer."""
        if reason == "other_processes_away":
            return Unavailable(
                "other_processes_away",
                f"{pne_id} is not behind this process, and not all others can be asked: see `cpns server status`.",
            )
        if reason == "connection_gone":
            return Unavailable("gateway_away", f"The gateway of {pne_id} lost its uplink meanwhile: try again.")
        if reason != "no_session":
            return await self._silent(pne_id) or Unavailable("asleep", f"No answer from {pne_id} ({reason}).")
        session = self._sessions.with_peer(pne_id)
        if session is not None and session.via is not None:
            return Unavailable("gateway_away", f"The gateway {session.via} of {pne_id} is not connected.")
        return await self._not_established(pne_id)

    async def _silent(self, pne_id: EntityId) -> Unavailable | None:
        """Return what an operator is told where the uplink of a PNE's gateway is the hop that is silent."""
        entity = await self._store.entity(pne_id)
        via = None if entity is None else entity.last_via
        seconds = None if via is None else await self._gateways.silent(via)
        if seconds is None:
            return None
        said = f"The uplink of gateway {via} is silent for {seconds:.0f} s: it connects anew within half a minute"
        return Unavailable("uplink_silent", f"{said}, if it runs and can reach this server. See `cpns explain`.")

    async def _not_established(self, pne_id: EntityId) -> NotFound | Unavailable:
        entity = await self._store.entity(pne_id)
        if entity is None or entity.kind is not Kind.PNE:
            return NotFound("unknown_entity", f"There is no device {pne_id}: see `cpns device list`.")
        if entity.state is State.REVOKED:
            return Unavailable("not_established", f"{pne_id} is revoked: it has no session, and gets none.")
        why = f"last: {entity.last_reason or 'never seen'}"
        return Unavailable(
            "not_established", f"{pne_id} has no session with this server ({why}): start it, then try again."
        )
