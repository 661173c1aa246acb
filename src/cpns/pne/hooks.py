"""What a PNE asks and tells whoever runs it, and what it does where nobody says anything."""

from collections.abc import Awaitable, Callable

from cpns.errors import Result
from cpns.pne.group_messages import GroupText
from cpns.pne.groups import Asked
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg

Consent = Callable[[m.Invitation | Asked], Awaitable[bool]]
"""Whether the PNE comes where it is invited, or takes ownership of a group; may ask a person."""
Told = Callable[[pm.PnChangeNotify | sg.SgChangeNotify | GroupText], None]
"""Is told of what changes, and of what others say to a group; may raise `NoAnswer` of the latter, which comes again."""
Becomes = Callable[[pm.GatewayChangeRequest, bool], Awaitable[pm.GatewayChangeResponse]]
"""Takes a request to become a PN GW, and whether our own PN GW made it; returns the answer."""


async def never(asked: m.Invitation | Asked) -> bool:
    """Go nowhere."""
    return False


async def is_no_gateway(request: pm.GatewayChangeRequest, by_own_gateway: bool) -> pm.GatewayChangeResponse:
    """Be a PNE and nothing else."""
    return pm.GatewayChangeResponse(Result.MODE_NOT_SUPPORTED)
