"""Presence: what PNEs say of themselves, and PN GWs of them (FN-4)."""

import logging
from collections.abc import Iterable, Mapping

from cpns.ids import EntityId
from cpns.server.feature import Feature, Take
from cpns.server.peers.gateways import FromGateway
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.dispatch import TAKEN, Row, on
from cpns.transport.errors import Answer, Code
from cpns.wire import application, registry
from cpns.wire import pn_messages as pm

_log = logging.getLogger("cpns.server")


class Presence(Feature):
    """The presence of the PNEs of one server process."""

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """See `Feature`; so all of these."""
        return (on(pm.PnStatusNotify, self._reported),)

    def resources(self) -> Mapping[str, Take]:
        """See `Feature`."""
        return {application.STATUS_PATH: self._status}

    async def _reported(self, asker: FromGateway, notice: pm.PnStatusNotify) -> Answer:
        """Take a PN GW's word for how it finds its PNEs; for those behind it, and no others."""
        for entry in notice.entries:
            session = self.here.sessions.with_peer(entry.entity_id)
            if session is not None and session.via == asker.peer.gateway_id:
                self.here.presences.reported(entry.entity_id, registry.Presence(entry.presence))
                if entry.presence != registry.Presence.ASLEEP:
                    self.here.features.heard(entry.entity_id)
        return TAKEN

    async def _status(self, source: Session, payload: bytes) -> Answer:
        said = self._said(source.peer_id, application.decode_text(payload))
        if said is not registry.Presence.CONNECTED:
            return Answer(Code.CHANGED)  # a sign of life does not wait for the store
        return Answer(Code.CHANGED, application.encode_home(await self.here.store.home(source.peer_id)))

    def _said(self, pne: EntityId, status: str) -> registry.Presence:
        resting = (registry.Presence.IDLE, registry.Presence.ASLEEP)
        said = {one.name.lower(): one for one in resting}.get(status, registry.Presence.CONNECTED)
        routine = said is registry.Presence.IDLE  # each device says so every few minutes
        _log.log(logging.DEBUG if routine else logging.INFO, "PNE %s says it is %r", pne, status, extra=by(pne))
        self.here.presences.said(pne, said)
        if said is not registry.Presence.ASLEEP:
            self.here.features.heard(pne)
            self.here.features.says_it_is_there(pne)
        return said
