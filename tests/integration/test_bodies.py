"""How long a body may be, over sockets: what fits is carried, sealed or not; what does not is said at once, and why."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cpns.crypto.aead import MAX_PLAINTEXT
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain.reasons import meaning
from cpns.errors import NoAnswer, Result
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.transport.coap import request_of, response_of
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import Answer, Code
from cpns.transport.uplink import MAX_FRAME
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire.registry import MAX_BODY
from tests.support.raw import result_of

HERE, THERE = EntityId("here"), EntityId("t" * 64)


class Keys:
    def oscore_master_secret(self) -> Secret:
        return Secret(bytes(32))

    def oscore_master_salt(self) -> bytes:
        return bytes(16)


def session(own: EntityId) -> Session:
    keys: Any = Keys()
    kids = {HERE: b"own kid", THERE: b"another"}
    (peer,) = kids.keys() - {own}
    return Session(Profile.GW_SERVER, own, peer, kids[own], kids[peer], keys, 0.0)


async def as_long(inbound: Inbound) -> Answer:
    """Answer with as many bytes as the path says."""
    return Answer(Code.CHANGED, bytes(int(inbound.path)))


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    sessions = Sessions()
    sessions.add(session(THERE))
    there = Endpoint(THERE, sessions, as_long)
    here = Endpoint(HERE, Sessions(), as_long)
    yield await here.connect(*await there.listen("127.0.0.1", 0))
    for one in (here, there):
        await one.close()


@pytest.mark.parametrize("sealed", [False, True])
async def test_the_longest_body_is_carried_both_ways(link: Link, sealed: bool) -> None:
    under = session(HERE) if sealed else None
    answer = await link.exchange(str(MAX_BODY), bytes(MAX_BODY), timeout=40, session=under)
    assert answer == Answer(Code.CHANGED, bytes(MAX_BODY))


@pytest.mark.parametrize("size", [MAX_BODY + 1, MAX_PLAINTEXT, 2**16, MAX_FRAME, 2**20])
@pytest.mark.parametrize("sealed", [False, True])
async def test_a_longer_one_is_not_sent_and_the_reason_has_a_sentence(link: Link, sealed: bool, size: int) -> None:
    with pytest.raises(NoAnswer) as refused:
        await link.exchange("0", bytes(size), timeout=40, session=session(HERE) if sealed else None)
    assert meaning(refused.value.reason) == "That is longer than one message may be: say less at once."


@pytest.mark.parametrize("size", [MAX_BODY + 1, MAX_PLAINTEXT, 2**16, MAX_FRAME, 2**20])
async def test_who_would_get_a_longer_answer_is_told_at_once(
    link: Link, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await link.exchange(str(size), b"", timeout=40, session=session(HERE))
    assert result_of(answer) == ("5.00", Result.SERVER_ERROR)
    assert "a handler failed" in caplog.text


def test_a_frame_holds_the_longest_body_with_its_options() -> None:
    under = session(HERE)
    message, asked = request_of(under, "x" * 200, bytes(MAX_BODY))
    assert asked is not None
    answer = response_of(Answer(Code.CHANGED, bytes(MAX_BODY), 2**32 - 1), under, asked)
    for one in (message, answer):
        assert len(one.payload) + sum(len(value) + 5 for _, value in one.options) + 15 <= MAX_FRAME


def test_a_batch_of_suite_3_with_the_longest_names_is_a_body_both_ways() -> None:
    many: Any = [EntityId(str(number).ljust(64, "a")) for number in range(40)]
    asked = [m.SetupEntry(3, one, bytes(16), bytes(7), True, False, 3, bytes(1216)) for one in many]
    told = [m.ChallengeEntry(one, bytes(7), bytes(1120), bytes(40), bytes(40)) for one in many]
    longest: Any = "p" * 64
    for message in (
        m.GatewaySetupRequest(bytes(8), False, tuple(asked), longest, 3, longest),
        m.GatewayChallenge(bytes(8), longest, bytes(16), tuple(told), longest),
    ):
        assert len(codec.encode(message)) <= MAX_BODY
