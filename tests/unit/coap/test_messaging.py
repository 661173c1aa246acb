"""The message layer, one rule at a time, in virtual time; the flows of RFC 7252, appendix A, among them."""

import pytest

from cpns.coap import datagram
from cpns.coap.confirmable import TRANSITIONS, Input, Sending, State
from cpns.coap.errors import CannotSend
from cpns.coap.events import Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message
from cpns.coap.messaging import MessageLayer
from cpns.coap.numbers import Type
from cpns.coap.tuning import Tuning
from tests.support.links import CHANGED, FORMS, POST, Ends

ASKED = Message(POST, b"\x42", ((11, b"temperature"),), b"?")
SAID = Message(CHANGED, b"", (), b"22.3 C")
CON, NON, ACK, RST = Type


def shapes(ends: Ends) -> list[tuple[str, str, int]]:
    """Return what was sent: from whom, of which type, with which code."""
    found = []
    for _, source, _, data, _ in ends.passed:
        type_, _, message = datagram.decode(data)
        found.append((source, type_.name, message.code))
    return found


def answers(ends: Ends, name: str = "c") -> list[bytes]:
    return [event.message.payload for event in ends.events[name] if isinstance(event, ResponseArrived)]


def ask(ends: Ends, message: Message = ASKED, *, confirmable: bool = True) -> Exchange:
    exchange = ends.layers["c"].request("s", message, ends.now, 0.5, confirmable=confirmable)
    ends.flush()
    return exchange


def saying(ends: Ends, *after: float) -> None:
    """Let the server answer each request so many seconds later."""

    def answer(name: str, request: RequestArrived) -> None:
        for seconds in after:
            ends.later(seconds, lambda: ends.layers[name].respond(request, SAID, ends.now, 0.5))

    ends.answer = answer


def test_figure_17_a_piggybacked_response() -> None:
    ends = Ends("cs")
    exchange = ask(ends)
    ends.run(1)
    assert shapes(ends) == [("c", "CON", POST), ("s", "ACK", CHANGED)]
    assert [one[3][2:4] for one in ends.passed] == [ends.passed[0][3][2:4]] * 2  # the same message ID
    assert answers(ends) == [b"?"]
    ends.layers["c"].close(exchange, ends.now)
    ends.run(1000)
    assert len(ends.passed) == 2
    assert ends.layers["c"].next_timeout() is None


def test_figure_18_a_request_that_is_lost_is_sent_again() -> None:
    ends = Ends("cs")
    lost = iter([[]])  # type: ignore[var-annotated]
    ends.fate = lambda data: next(lost, [0.0])
    ask(ends)
    ends.run(60)
    assert shapes(ends) == [("c", "CON", POST), ("c", "CON", POST), ("s", "ACK", CHANGED)]
    assert ends.passed[1][0] == 2.0 * 1.25
    assert answers(ends) == [b"?"]


def test_figure_19_a_response_that_is_lost_is_said_again_and_nothing_is_done_twice() -> None:
    ends = Ends("cs")
    fates = iter([[0.0], []])
    ends.fate = lambda data: next(fates, [0.0])
    ask(ends)
    ends.run(60)
    assert [one[1] for one in shapes(ends)] == ["CON", "ACK", "CON", "ACK"]
    assert ends.passed[1][3] == ends.passed[3][3]
    assert len([one for one in ends.events["s"] if isinstance(one, RequestArrived)]) == 1
    assert answers(ends) == [b"?"]


def test_figure_20_a_separate_response() -> None:
    ends = Ends("cs")
    saying(ends, 5)
    ask(ends)
    ends.run(60)
    assert shapes(ends) == [("c", "CON", POST), ("s", "ACK", 0), ("s", "CON", CHANGED), ("c", "ACK", 0)]
    assert ends.passed[1][0] == pytest.approx(0.1)
    assert ends.passed[2][3][2:4] != ends.passed[0][3][2:4]
    assert answers(ends) == [SAID.payload]


def test_an_answer_that_is_not_worth_a_repetition_goes_once() -> None:
    """With the acknowledgement where that is not said yet; else by itself, non-confirmable (RFC 7252 5.2.2)."""
    for after, kinds in ((0.0, ["CON", "ACK"]), (5.0, ["CON", "ACK", "NON"])):
        ends = Ends("cs")

        def answer(name: str, request: RequestArrived, after: float = after, ends: Ends = ends) -> None:
            ends.later(after, lambda: ends.layers[name].respond(request, SAID, ends.now, 0.5, confirmable=False))

        ends.answer = answer
        ask(ends)
        ends.run(60)
        assert [kind for _, kind, _ in shapes(ends)] == kinds
        assert answers(ends) == [SAID.payload]


def test_figure_21_a_separate_response_that_nobody_waits_for_is_reset() -> None:
    ends = Ends("cs")
    saying(ends, 5)
    exchange = ask(ends)
    ends.run(1)
    ends.layers["c"].close(exchange, ends.now)
    ends.run(100)
    assert shapes(ends) == [("c", "CON", POST), ("s", "ACK", 0), ("s", "CON", CHANGED), ("c", "RST", 0)]
    assert answers(ends) == []
    assert len(ends.layers["s"]._confirmables) == 0


def test_figure_22_non_confirmable_both_ways() -> None:
    ends = Ends("cs")
    saying(ends, 5)
    ask(ends, confirmable=False)
    ends.run(60)
    assert shapes(ends) == [("c", "NON", POST), ("s", "NON", CHANGED)]
    assert answers(ends) == [SAID.payload]


def test_a_duplicate_hears_the_acknowledgement_until_there_is_an_answer() -> None:
    ends = Ends("cs")
    saying(ends, 5)
    ask(ends)
    ends.run(1)
    ends.inject("c", "s", ends.passed[0][3])
    assert [one[1] for one in shapes(ends)] == ["CON", "ACK", "ACK"]
    ends.run(0.01 + ends.now)
    other = datagram.encode(CON, 7, ASKED, b"other")
    ends.inject("c", "s", other)
    ends.inject("c", "s", other)  # nothing is said yet, and the acknowledgement comes in time
    assert [one[1] for one in shapes(ends)] == ["CON", "ACK", "ACK"]


def test_the_same_message_id_of_another_message_is_no_duplicate() -> None:
    """A peer that began anew, or somebody with its address, does not make us deaf for it."""
    ends = Ends("cs")
    for token in (b"1", b"2"):
        ends.inject("c", "s", datagram.encode(CON, 7, ASKED, token))
    assert len(ends.events["s"]) == 2
    tokens = [datagram.decode(one[3]).message.token for one in ends.passed if one[1] == "s"]
    assert tokens == [b"1", b"2"]


def test_a_message_is_a_duplicate_for_a_lifetime_and_not_longer() -> None:
    ends = Ends("cs")
    data = datagram.encode(NON, 7, ASKED, b"t")
    ends.inject("c", "s", data)
    for now, count in ((246.9, 1), (247.1, 2)):  # EXCHANGE_LIFETIME is 247 s, RFC 7252 4.8.2
        ends.run(now)
        ends.inject("c", "s", data)
        assert len(ends.events["s"]) == count


def test_one_request_gets_several_answers() -> None:
    """The first goes with the acknowledgement; those after it are messages of their own."""
    ends = Ends("cs")
    saying(ends, 0.0, 0.05, 3.0)
    ask(ends)
    ends.run(60)
    assert [one[:2] for one in shapes(ends)] == [
        ("c", "CON"),
        ("s", "ACK"),
        ("s", "CON"),
        ("c", "ACK"),
        ("s", "CON"),
        ("c", "ACK"),
    ]
    assert answers(ends) == [SAID.payload] * 3


def test_a_separate_answer_that_comes_again_is_acknowledged_again_and_told_once() -> None:
    """RFC 7252 4.5, 5.2.2: its first acknowledgement may be lost."""
    ends = Ends("c")
    exchange = ask(ends)
    answer = datagram.encode(CON, 77, SAID, ASKED.token)
    for _ in range(3):
        ends.inject("s", "c", answer)
    assert ends.events["c"] == [ResponseArrived(exchange, SAID._replace(token=ASKED.token))]
    assert [one[3] for one in ends.passed[1:]] == [datagram.empty(ACK, 77)] * 3
    unconfirmed = datagram.encode(NON, 78, SAID, ASKED.token)
    for _ in range(3):
        ends.inject("s", "c", unconfirmed)
    assert len(ends.events["c"]) == 2
    assert len(ends.passed) == 4


def test_a_forged_answer_does_not_end_the_exchange() -> None:
    """Whoever knows token and message ID gets one in; the peer's comes behind it."""
    ends = Ends("cs")
    saying(ends, 5)
    exchange = ask(ends)
    mid = datagram.decode(ends.passed[0][3]).mid
    ends.inject("s", "c", datagram.encode(ACK, mid, Message(0x81), ASKED.token))
    ends.inject("s", "c", datagram.encode(NON, 99, Message(0x81), ASKED.token))
    ends.run(60)
    assert answers(ends) == [b"", b"", SAID.payload]
    ends.layers["c"].close(exchange, ends.now)
    ends.inject("s", "c", datagram.encode(NON, 100, SAID, ASKED.token))
    assert len(answers(ends)) == 3


@pytest.mark.parametrize(
    ("type_", "mid", "token", "remote"),
    [
        (ACK, 1, ASKED.token, "s"),  # RFC 7252 5.3.2: both fit, or it is none
        (ACK, 0, b"other", "s"),
        (NON, 0, b"other", "s"),
        (NON, 0, ASKED.token, "x"),
        (RST, 0, ASKED.token, "s"),
    ],
)
def test_an_answer_that_does_not_fit_is_ignored(type_: Type, mid: int, token: bytes, remote: str) -> None:
    ends = Ends("c")
    ask(ends)
    ends.inject(remote, "c", datagram.encode(type_, mid, SAID, token))
    assert ends.events["c"] == []
    assert len(ends.passed) == 1
    ends.run(2.5)
    assert len(ends.passed) == 2  # it is sent again, as before


def test_a_confirmable_answer_that_does_not_fit_is_reset() -> None:
    ends = Ends("c")
    ends.inject("s", "c", datagram.encode(CON, 5, SAID, b"nobody's"))
    assert ends.passed[-1][3] == datagram.empty(RST, 5)
    ask(ends)
    ends.inject("s", "c", datagram.encode(CON, 6, Message(CHANGED, b"", ((9 + 2 * 7, b""),)), ASKED.token))
    assert ends.passed[-1][3] == datagram.empty(RST, 6)  # RFC 7252 5.4.1
    assert ends.events["c"] == []


def test_a_reset_is_told_and_ends_the_repetition() -> None:
    ends = Ends("c")
    exchange = ask(ends)
    ends.inject("s", "c", datagram.empty(RST, datagram.decode(ends.passed[0][3]).mid))
    assert ends.events["c"] == [ExchangeFailed(exchange, "reset")]
    ends.run(100)
    assert len(ends.passed) == 1
    ends.inject("s", "c", datagram.encode(NON, 1, SAID, ASKED.token))  # the reset may have been forged
    assert answers(ends) == [SAID.payload]


@pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
def test_repetition_is_by_the_book(jitter: float) -> None:
    """RFC 7252 4.2, 4.8.2: four more times, the timeout doubled each time, then given up."""
    ends = Ends("c")
    exchange = ends.layers["c"].request("s", ASKED, 0.0, jitter)
    ends.run(200)
    first = 2.0 * (1 + jitter / 2)
    assert [one[0] for one in ends.passed] == pytest.approx([0, first, 3 * first, 7 * first, 15 * first])
    assert len({one[3] for one in ends.passed}) == 1
    assert ends.events["c"] == [ExchangeFailed(exchange, "unacknowledged")]
    assert ends.passed[-1][0] <= ends.tuning.max_transmit_span == 45
    assert ends.tuning.max_transmit_wait == 93
    assert ends.tuning.exchange_lifetime == 247


def test_who_looks_too_late_does_not_send_again() -> None:
    """RFC 7252 4.2: all transmissions stay within MAX_TRANSMIT_SPAN."""
    layer = MessageLayer(Tuning(), FORMS, 0, str)
    exchange = layer.request("s", ASKED, 0.0, 0.0)
    layer.take()
    assert layer.handle_timeout(46.0) == [ExchangeFailed(exchange, "unacknowledged")]
    assert layer.take() == []


def test_one_confirmable_message_to_one_peer_at_a_time() -> None:
    """NSTART, RFC 7252 4.7; other peers do not wait for it."""
    ends = Ends("c")
    first = ask(ends)
    for index in range(3):
        ask(ends, ASKED._replace(token=bytes((index,))))
    ends.layers["c"].request("x", ASKED, 0.0, 0.0)
    ends.flush()
    assert [one[2] for one in ends.passed] == ["s", "x"]
    ends.inject("s", "c", datagram.empty(ACK, datagram.decode(ends.passed[0][3]).mid))
    assert [one[2] for one in ends.passed] == ["s", "x", "s"]
    ends.layers["c"].close(first, 0.0)  # it is acknowledged: that lets nobody else begin
    ends.flush()
    assert len(ends.passed) == 3


def test_something_new_for_a_silent_peer_lets_what_it_waits_for_be_sent_again() -> None:
    """The peer may be back: its answer to the older message lets the new one go, long before that is due again."""
    layer = MessageLayer(Tuning(), FORMS, 0, str)
    new = [ASKED._replace(token=bytes((index,))) for index in range(3)]
    layer.request("s", ASKED, 0.0, 0.0)
    for at in (2.0, 6.0, 14.0):
        layer.handle_timeout(at)
    ((_, older), *again) = layer.take()
    assert [data for _, data in again] == [older] * 3
    layer.request("s", new[0], 15.9, 0.0)
    assert layer.take() == []  # it was sent less than ACK_TIMEOUT ago
    layer.close(layer._open["s", new[0].token][0], 15.9)
    layer.request("s", new[1], 16.1, 0.0)
    assert layer.take() == [("s", older)]
    layer.request("s", new[2], 20.0, 0.0)
    assert layer.take() == []  # there is something in line already
    layer.receive("s", datagram.empty(ACK, datagram.decode(older).mid), 20.1)
    ((_, data),) = layer.take()
    assert datagram.decode(data).message.token == new[1].token


def test_what_is_withdrawn_makes_room_for_the_next() -> None:
    ends = Ends("c")
    exchanges = [ask(ends, ASKED._replace(token=bytes((index,)))) for index in range(3)]
    ends.layers["c"].close(exchanges[1], 0.0)  # it waits
    ends.layers["c"].close(exchanges[0], 0.0)  # it is under way
    ends.flush()
    assert [datagram.decode(one[3]).message.token for one in ends.passed] == [b"\0", b"\2"]
    ends.layers["c"].close(exchanges[2], 0.0)
    ends.layers["c"].close(exchanges[2], 0.0)
    ends.run(500)
    assert len(ends.passed) == 2
    assert len(ends.layers["c"]._confirmables) == 0


def test_those_behind_one_that_is_given_up_are_given_up_too() -> None:
    ends = Ends("c")
    exchanges = [ask(ends, ASKED._replace(token=bytes((index,)))) for index in range(3)]
    ends.run(100)
    assert ends.events["c"] == [ExchangeFailed(one, "unacknowledged") for one in exchanges]
    ask(ends)
    assert len(ends.passed) == 6  # five times the first, and now this


def test_a_line_is_bounded() -> None:
    ends = Ends("c")
    for index in range(257):
        ask(ends, ASKED._replace(token=index.to_bytes(2, "big")))
    with pytest.raises(CannotSend, match="too_many_wait"):
        ask(ends, ASKED._replace(token=b"more"))
    ends.layers["c"].request("x", ASKED, 0.0, 0.0)


def test_a_token_is_in_one_open_exchange_with_a_peer() -> None:
    ends = Ends("c")
    exchange = ask(ends)
    with pytest.raises(CannotSend, match="token_in_use"):
        ask(ends)
    ends.layers["c"].request("x", ASKED, 0.0, 0.0)
    ends.layers["c"].close(exchange, 0.0)
    other = ask(ends)
    ends.layers["c"].close(exchange, 0.0)  # again: that is not the one that is open now
    with pytest.raises(CannotSend, match="token_in_use"):
        ask(ends)
    ends.layers["c"].close(other, 0.0)
    ask(ends)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("40000001", "70000001"),  # a ping, RFC 7252 4.3
        ("40200001", "70000001"),  # reserved codes, 4.2: 1.00, 6.00, 7.01
        ("40c00001", "70000001"),
        ("40e10001", "70000001"),
        ("40020001ff", "70000001"),  # format errors
        ("49020001", "70000001"),
        ("40020001" + "00" * 40, "70000001"),
        ("50000001", None),  # NON, ACK and RST that are not used are ignored, 4.2 and 4.3
        ("50200001", None),
        ("50020001ff", None),
        ("60020001", None),
        ("60200001", None),
        ("70020001", None),
        ("70440001", None),
        ("60000001", None),
        ("70000001", None),
        ("c0020001", None),  # another version, RFC 7252 3
        ("4002", None),
        ("", None),
        # a critical option that is not understood, RFC 7252 5.4.1
        ("4102000174d10a06", "61820001"),
        ("5102000174d10a06", None),
    ],
)
def test_what_is_not_taken(data: str, said: str | None) -> None:
    ends = Ends("s")
    ends.inject("x", "s", bytes.fromhex(data))
    assert ends.events["s"] == []
    sent = [one[3] for one in ends.passed]
    if said is None:
        assert sent == []
    else:
        assert len(sent) == 1
        assert sent[0].startswith(bytes.fromhex(said)[:4])


def test_a_critical_option_that_is_not_understood_is_named() -> None:
    ends = Ends("s")
    data = datagram.encode(CON, 9, Message(POST, b"", ((23, b"\x06"),)), b"tok")
    ends.inject("x", "s", data)
    type_, mid, message = datagram.decode(ends.passed[0][3])
    assert (type_, mid, message) == (ACK, 9, Message(0x82, b"tok", (), b"option 23"))
    ends.inject("x", "s", data)
    assert ends.passed[1][3] == ends.passed[0][3]


def test_every_input_in_every_state_of_a_confirmable_message() -> None:
    """What is not in the table changes nothing."""
    for state in State:
        for happened in Input:
            sending = Sending("s", 1, b"", 1.0, 4)
            sending.state = state
            expected = TRANSITIONS.get((state, happened))
            assert sending.step(happened) is (expected is not None)
            assert sending.state is (state if expected is None else expected)
    ends = {state for state in State if not any(source is state for source, _ in TRANSITIONS)}
    assert ends == {State.ACKNOWLEDGED, State.RESET, State.GIVEN_UP, State.WITHDRAWN}
