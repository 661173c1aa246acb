"""What a PNE makes of the server's answers about its PN."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cpns.errors import Result
from cpns.ids import EntityId, PnId
from cpns.pne.life import PneLife
from cpns.pne.requests import Requests
from cpns.pne.states import TakenUp
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire.messages import OutcomeEntry
from cpns.wire.pn_messages import InviteResponse

UNKNOWN = 199
"""No result that this version knows."""


@pytest.mark.parametrize(
    ("told", "read"), [(Result.SUCCESS, Result.SUCCESS), (Result.POLICY, Result.POLICY), (UNKNOWN, Result.SERVER_ERROR)]
)
async def test_an_invitation_ends_with_a_result_whatever_number_the_server_gives(told: int, read: Result) -> None:
    lamp = EntityId("lamp")

    async def exchange(path: str, payload: bytes, timeout: float | None = None) -> Answer:
        return Answer(Code.CHANGED, codec.encode(InviteResponse(Result.SUCCESS, (OutcomeEntry(lamp, told),))))

    way, life = cast(Any, SimpleNamespace(exchange=exchange)), PneLife()
    life.happens(TakenUp(cast(Any, SimpleNamespace(joined=SimpleNamespace(pn_id=PnId("pn-1"))))))
    results = await Requests(way, life).invite([lamp])
    assert results == {lamp: read}
