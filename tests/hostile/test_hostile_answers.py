"""Answers on an open PAN that no session protects: forged ones end nothing, and strangers get few."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cpns.coap import datagram
from cpns.coap.message import Message
from cpns.coap.numbers import Code as Method
from cpns.coap.numbers import Option, Type
from cpns.errors import NoAnswer
from cpns.transport.address import split_address
from cpns.transport.carried import MAX_MORE, first_answer
from cpns.transport.coap import request_of
from cpns.transport.dispatch import TAKEN
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import HELD, UNIFORM_REFUSAL, Answer, Code
from cpns.transport.relay import Sealed
from cpns.transport.waiting import Waiting
from tests.support.lossy import Datagram, Fates, UdpProxy, honest
from tests.support.raw import RawUdp, Scripted
from tests.support.tap import settled
from tests.support.world import push_of, until, world


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(UNIFORM_REFUSAL, Type.NON), (HELD, Type.NON), (Answer(Code.TOO_MANY_REQUESTS), Type.NON), (TAKEN, Type.CON)],
    ids=["4.01", "5.03", "4.29", "2.04"],
)
async def test_a_late_refusal_to_whoever_has_no_session_goes_once(answer: Answer, kind: Type) -> None:
    """It is worth no repetition (RFC 7252 5.2.3): so a stranger with many ports, or forged ones, makes us keep none."""
    late = asyncio.Event()

    async def script(inbound: Inbound, body: Any) -> Answer:
        await late.wait()
        return answer

    peer = Scripted("gw-1", script)
    stranger = await RawUdp.open(split_address(await peer.endpoint.open_pan("127.0.0.1", 0)))
    request, _ = request_of(None, "anything", b"")
    stranger.send(datagram.encode(Type.CON, 1, request, b"t"))
    await until(lambda: stranger.got)
    late.set()
    await until(lambda: len(stranger.got) > 1)
    heads = [datagram.head(one) for one in stranger.got[:2]]
    assert [head and head.type for head in heads] == [Type.ACK, kind]
    stranger.close()
    await peer.close()


SEALED = Message(Code.CHANGED, options=((Option.OSCORE, b""),), payload=b"sealed")
HINT = Message(Code.UNAUTHORIZED)


def asked(*answers: Message) -> tuple[Waiting, list[str]]:
    """Return a request of ours that got *answers*, and what tells that it was closed."""
    waiting, closed = Waiting(), list[str]()
    waiting.opened(lambda: closed.append("closed"))
    for one in answers:
        waiting.offer(one)
    return waiting, closed


async def test_of_what_is_carried_a_sealed_answer_is_taken_and_few_more_are_handed_on() -> None:
    waiting, closed = asked(HINT, SEALED, SEALED, HINT)
    answer = await first_answer(waiting, 40.0, final=False)
    assert answer == Sealed(Code.CHANGED, b"", b"sealed")
    assert answer.more is not None
    more: list[Sealed] = []
    answer.more(more.append)
    for _ in range(2 * MAX_MORE):
        waiting.offer(SEALED)
    assert more == [answer] * MAX_MORE
    await until(lambda: closed)


async def test_an_answer_that_is_not_sealed_is_taken_where_no_other_comes() -> None:
    waiting, closed = asked(HINT, HINT)
    assert await first_answer(waiting, 40.0, final=False) == Sealed(Code.UNAUTHORIZED, None, b"")
    assert closed


async def test_where_nobody_else_can_answer_the_first_is_taken_at_once() -> None:
    waiting, closed = asked(HINT, SEALED)
    answer = await first_answer(waiting, 40.0, final=True)
    assert (answer, answer.more) == (Sealed(Code.UNAUTHORIZED, None, b""), None)
    assert closed


async def test_what_nobody_answers_ends() -> None:
    waiting, closed = asked()
    with pytest.raises(NoAnswer, match="relayed_without_answer"):
        await first_answer(waiting, 0.01, final=False)
    waiting.fail("closed")
    with pytest.raises(NoAnswer, match="relayed_without_answer"):
        await first_answer(waiting, 40.0, final=False)
    assert len(closed) == 2


@pytest.mark.req("SES-3")
@pytest.mark.parametrize(
    "forged",
    [
        Message(UNIFORM_REFUSAL.code, payload=UNIFORM_REFUSAL.payload),
        Message(Code.CHANGED, payload=b"done"),
        Message(Code.CHANGED, options=((Option.OSCORE, b""),), payload=bytes(20)),
    ],
    ids=["4.01", "2.04", "as if it were sealed"],
)
async def test_a_forged_answer_ends_nothing_that_is_carried(tmp_path: Path, forged: Message) -> None:
    """The gateway opens none, and can't tell which is the device's: the server, which can, gets to see that too."""
    async with world(tmp_path) as here:
        server = await here.start_server()
        gateway = await here.start_gateway()
        forgeries: list[int] = []

        def answers_first(one: Datagram) -> Fates:
            _, mid, message = datagram.decode(one.data)
            if pushing and not one.up and message.code == Method.POST and message.value(Option.OSCORE) is not None:
                forgeries.append(mid)
                proxy.send(one.pne, True, datagram.encode(Type.ACK, mid, forged, message.token))
            return honest(one)

        proxy, pushing = UdpProxy(here.pan(gateway), answers_first), False
        here.closes(proxy)
        pne = await here.start_pne("pne-1", proxy.address)
        await settled(pne)
        pushing = True
        assert await server.sending.send(pne.config.pne_id, "inbox", push_of("hi")) == "pne-1 got hi"
        assert here.inboxes["pne-1"] == ["hi"]
        assert forgeries
