"""A device that hosts a PNE and a PN GW, in a `World`; a CM Device where its PN GW is not provisioned."""

import dataclasses
from typing import Any

from cpns.gateway.app import Gateway
from cpns.gateway.claim import CmClaim, EukeyClaim
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.node.cm import Keys
from cpns.node.config import NodeConfig
from cpns.node.modes import Rotate
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.pne.hooks import Becomes
from cpns.pne.inbox import Inbox
from cpns.service.system import random_bytes
from cpns.store.gateway_store import GatewayStore
from cpns.store.vault import FileVault
from cpns.wire.registry import Mode
from tests.support.world import CLOCK, FAST, World


async def device(
    here: World,
    *externals: Gateway | tuple[str, int],
    name: str = "tablet",
    provisioned: str | None = None,
    kept: bool = False,
    server: tuple[str, int] | None = None,
    gateway: dict[str, Any] | None = None,
    pne: dict[str, Any] | None = None,
    **options: Any,
) -> Node:
    """Return a started device; it is closed with the world.

    Args:
        here: the world.
        externals: the PN GWs that its PNE may go through, or their addresses.
        name: of its PNE; what is pushed to it is in ``here.inboxes[name]``.
        provisioned: ID of its PN GW, which has an EUKey; None: it is a CM Device.
        kept: whether its keys outlive a restart.
        server: where it finds the server over its own broadband.
        gateway: settings of its PN GW.
        pne: settings of its PNE.
        options: of `NodeConfig`.
    """
    ways = tuple(here.pan(one) if isinstance(one, Gateway) else one for one in externals)
    base = await here.pne_config(name, ways[0], gateways=ways, **{**FAST, **(pne or {})})
    host, port = server or here.address
    template = await here.gateway_config(provisioned or "gw-1", mode=Mode.BOTH, **(gateway or {}))
    template = dataclasses.replace(template, server_host=host, server_port=port)
    got = here.inboxes.setdefault(name, [])

    def take(text: str) -> str:
        got.append(text)
        return f"{name} got {text}"

    inbox = Inbox(take)
    store = GatewayStore.open(here.folder / f"{name}.db") if kept else None
    vault = FileVault(base.eukey, random_bytes)
    keys = None if provisioned is not None else Keys(store, vault)

    def make_pne(settings: PneConfig, becomes: Becomes, rotate: Rotate) -> Pne:
        return Pne(
            *(settings, CLOCK, random_bytes, inbox, here.passed.append),
            becomes=becomes,
            rotate=rotate,
        )

    def make_gateway(cm_device_id: EntityId | None) -> Gateway:
        own = template if cm_device_id is None else dataclasses.replace(template, gateway_id=cm_device_id)
        claim: CmClaim | EukeyClaim
        if keys is not None:
            claim = CmClaim(own, keys, random_bytes)
        else:
            claim = EukeyClaim(own, here.keys[own.gateway_id], random_bytes)
        return Gateway(own, claim, store, vault, CLOCK, random_bytes, here.passed.append)

    made = Node(NodeConfig(base, (host, port), **options), make_pne, make_gateway, CLOCK, keys)
    if store is not None:
        here.closes_with(made, store.close)
    here.closes(made)
    await made.start()
    return made
