"""What a PN GW tells the server of itself: that its store fails, so that `explain` can say so."""

import contextlib

from cpns.errors import Refused
from cpns.gateway.config import GatewayConfig
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ports.gateway import GatewayStore
from cpns.wire import application
from cpns.wire.registry import GatewayStatus


class Trouble:
    """Tells the server once of each change.

    Args:
        store: None: nothing is kept, so nothing can fail.
    """

    def __init__(self, config: GatewayConfig, uplink: Uplink, store: GatewayStore | None) -> None:
        self._config = config
        self._uplink = uplink
        self._store = store
        self._told: tuple[Standing | None, GatewayStatus] = None, GatewayStatus.WELL

    async def tell(self) -> None:
        """Tell what the server does not know in this session; a server of an older cpns refuses it."""
        standing = self._uplink.standing
        failing = self._store is not None and self._store.trouble
        status = GatewayStatus.STORE_FAILS if failing else GatewayStatus.WELL
        known = self._told[1] if self._told[0] is standing else GatewayStatus.WELL
        if standing is None or status is known:
            return
        with contextlib.suppress(Refused):
            await standing.link.exchange(
                application.STATUS_PATH,
                application.encode_text(status),
                timeout=self._config.answer_timeout,
                session=standing.session,
            )
            self._told = standing, status
