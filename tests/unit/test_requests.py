"""What a PNE makes of the server's answers about its PN."""

import pytest

from cpns.errors import Result
from cpns.ids import EntityId, PnId
from cpns.pne.requests import Requests
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

    results = await Requests(exchange, lambda: PnId("pn-1")).invite([lamp])
    assert results == {lamp: read}
