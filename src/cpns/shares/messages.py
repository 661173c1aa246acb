"""What is finite in the CoAP engine: the messages of one socket, and of one connection. Rows of `shares.table`."""

from typing import Final

from cpns.shares.held import ASKED, Bound

_MEMORY: Final = "unit/coap/test_memory.py::"
_LAYER: Final = "unit/coap/test_messaging.py::"
_STREAM: Final = "unit/coap/test_connection.py::"
_TAKEN: Final = "none is left after a look at the socket: whoever uses it sends them"

MESSAGES: Final = (
    Bound(
        "bytes of messages remembered on a socket, to know a repetition",
        "as the others have: the oldest of a host with more than its share goes",
        "coap.messaging.MAX_REMEMBERED",
        (
            "coap.duplicates.Duplicates._held",
            "coap.duplicates._Generation.entries",
            "coap.duplicates._Generation.shares",
        ),
        (
            _MEMORY + "test_a_flood_of_one_host_makes_it_forget_its_own",
            _MEMORY + "test_what_is_remembered_takes_no_more_than_its_bound",
        ),
    ),
    Bound(
        "peers of a socket whose message IDs are counted",
        "one, and 16 times at which it went on",
        "coap.mids.MAX_PEERS",
        ("coap.mids.MessageIds._counters", "coap.mids._Counter.left"),
        (_MEMORY + "test_peers_that_are_forgotten_begin_elsewhere",),
    ),
    Bound(
        "confirmable messages to a peer that wait for those before them",
        "coap.confirmable.MAX_IN_LINE",
        "one line for each peer that we say something to",
        (
            "coap.confirmable.Confirmables._lines",
            "coap.confirmable.Confirmables._timers",
            "coap.confirmable.Confirmables._under_way",
            "coap.confirmable._Line.under_way",
            "coap.confirmable._Line.waiting",
        ),
        (_LAYER + "test_a_line_is_bounded",),
    ),
    Bound(
        "bytes of answers on a socket that are repeated until they are acknowledged; more go once",
        "coap.confirmable.MAX_ANSWERS_EACH",
        "coap.confirmable.MAX_ANSWERS",
        ("coap.confirmable.Confirmables._answers",),
        (_MEMORY + "test_late_answers_to_one_host_are_repeated_within_its_share_whatever_the_ports",),
    ),
    Bound(
        "confirmable requests that nothing was said to yet",
        "those of a tenth of a second, at the rate of its host",
        "those of a tenth of a second",
        ("coap.messaging.MessageLayer._acks", "coap.messaging.MessageLayer._unacknowledged"),
        (_LAYER + "test_a_duplicate_hears_the_acknowledgement_until_there_is_an_answer",),
    ),
    Bound(
        "requests of ours that are open",
        ASKED,
        ASKED,
        ("coap.connection.Connection._open", "coap.messaging.MessageLayer._open"),
    ),
    Bound(
        "messages that are to be sent",
        _TAKEN,
        _TAKEN,
        ("coap.connection.Connection._out", "coap.messaging.MessageLayer._out"),
    ),
    Bound(
        "frames a second of connections that proved nothing",
        "transport.budget.STRANGER_FRAMES",
        "that, for each host",
        (),
        ("hostile/test_hostile_budgets.py::test_a_flood_of_pings_is_read_as_fast_as_its_share_and_then_ended",),
    ),
    Bound(
        "bytes a second of connections that proved nothing",
        "transport.budget.STRANGER_BYTES",
        "that, for each host",
        (),
        ("hostile/test_hostile_budgets.py::test_bytes_count_too",),
    ),
    Bound("frames a second of connections that proved themselves", "transport.budget.FRAMES", "that, for each host"),
    Bound("bytes a second of connections that proved themselves", "transport.budget.BYTES", "that, for each host"),
    Bound(
        "connections over their budget that wait to be read again",
        "transport.door.MAX_CONNECTIONS",
        "transport.door.MAX_CONNECTIONS",
        ("transport.budget.Budget._waiting",),
        ("hostile/test_hostile_budgets.py::test_connections_of_one_host_that_wait_wake_no_more_often_than_one",),
    ),
    Bound(
        "bytes that connections over their budget hold meanwhile",
        "transport.budget.STRANGER_HELD",
        "that, divided by how many connections of its host wait, for each; proven ones: transport.budget.HELD",
        (),
        ("hostile/test_hostile_budgets.py::test_connections_of_one_host_that_wait_hold_little",),
    ),
    Bound(
        "bytes of a frame that came in part",
        "the Max-Message-Size that its end says",
        "that, for each connection",
        ("coap.connection.Connection._spool",),
        (_STREAM + "test_what_came_in_part_is_held_once_and_within_its_bound",),
    ),
)
