"""What is written of lines that others can cause."""

import logging

import pytest

from cpns.cli.run import MAX_TEXT, NotedHandler
from cpns.shares import noted
from cpns.shares.noted import Line, Noted, by
from cpns.shares.party import Party


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Kept(logging.Handler):
    """Keeps what it is given, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def written() -> list[Line[str]]:
    return []


@pytest.fixture
def one(time: Time, written: list[Line[str]]) -> Noted[str]:
    return Noted(written.append, time, party_lines=(0.5, 10.0), strangers_lines=(1.0, 20.0))


def test_what_is_new_is_written_at_once(one: Noted[str], written: list[Line[str]]) -> None:
    one.note("lamp", "status", "idle")
    one.note("lamp", "status", "asleep")
    one.note("lamp", "door", "asleep")
    assert [(line.what, line.times) for line in written] == [("idle", 1), ("asleep", 1), ("asleep", 1)]


def test_what_is_said_again_is_counted_and_told_once_a_minute(
    one: Noted[str], time: Time, written: list[Line[str]]
) -> None:
    for _ in range(1024):
        one.note("lamp", "status", "idle")
        one.due()
        time.now += 0.25
    assert [line.times for line in written] == [1, 240, 240, 240, 240]
    assert {round(line.seconds) for line in written[1:]} == {60}


def test_the_count_is_told_before_the_next_news(one: Noted[str], written: list[Line[str]]) -> None:
    for _ in range(5):
        one.note("lamp", "status", "idle")
    one.note("lamp", "status", "asleep")
    assert [(line.what, line.times) for line in written] == [("idle", 1), ("idle", 4), ("asleep", 1)]


def test_who_says_something_else_each_time_has_its_pace(one: Noted[str], time: Time, written: list[Line[str]]) -> None:
    """The newest is written as soon as the pace lets it; what is lost is counted. Others have theirs."""
    for number in range(10_000):
        one.note("lamp", "status", f"state {number}")
        time.now += 0.01
        one.due()
    assert len(written) <= 10 + 50 + 1
    one.note("door", "status", "open")
    assert written[-1].what == "open"
    time.now += 2
    one.due()
    assert written[-1].what == "state 9999"
    assert sum(line.times + line.lost for line in written) == 10_001


def test_strangers_share_a_pace_and_take_nothing_of_who_is_proven(one: Noted[str], written: list[Line[str]]) -> None:
    for host in range(500):
        for topic in range(5):
            one.note(f"192.0.2.{host}", topic, "refused", proven=False)
    assert len(written) == 20
    one.note("lamp", "status", "idle")
    assert written[-1].what == "idle"


def test_what_is_over_is_news_again(one: Noted[str], written: list[Line[str]]) -> None:
    one.note("gw", "lamp", "wrong_hash")
    one.note("gw", "lamp", "wrong_hash")
    one.over("gw", "lamp")
    one.over("nobody", "lamp")
    one.note("gw", "lamp", "wrong_hash")
    assert [line.times for line in written] == [1, 1, 1]


def test_memory_is_bounded_and_nothing_is_lost_uncounted(
    one: Noted[str], time: Time, written: list[Line[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noted, "MAX_PARTIES", 3)
    monkeypatch.setattr(noted, "MAX_TOPICS", 4)
    for topic in range(100):
        one.note("lamp", topic, "x")
    time.now += 10
    one.note("lamp", 100, "x")
    assert sum(line.times + line.lost for line in written) + 4 >= 101
    for party in range(1000):
        one.note(f"p{party}", "a", "x")
        one.note(f"p{party}", "a", "x")
    assert len(one._parties) == 3
    assert len(one._unwritten) <= 12
    one.due()


def test_a_look_for_what_is_due_takes_no_longer_the_more_there_is(
    one: Noted[str], time: Time, written: list[Line[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And comes to all of them."""
    monkeypatch.setattr(noted, "MAX_LOOKED_AT", 10)
    for party in range(100):
        for _ in range(2):
            one.note(f"p{party}", "a", "x")
    assert len(written) == 100
    time.now += 61
    one.due()
    assert len(written) == 110
    for _ in range(9):
        one.due()
    assert len(written) == 200


# in the log


@pytest.fixture
def log(time: Time) -> tuple[logging.Logger, list[str]]:
    kept = Kept()
    logger = logging.Logger("cpns.test")
    logger.addHandler(NotedHandler(kept, time))
    return logger, kept.lines


def test_a_line_of_the_log_is_cut_and_has_no_control_characters(log: tuple[logging.Logger, list[str]]) -> None:
    logger, lines = log
    logger.info("PNE %s says it is %s", "lamp", "\x1b[2J\nERROR all is lost" + "\u202e" * 5000, extra=by("lamp"))
    assert lines[0].startswith("PNE lamp says it is \\x1b[2J\\nERROR all is lost\\u202e")
    assert lines[0].endswith("...")
    assert len(lines[0]) < 7 * MAX_TEXT
    assert lines[0].isprintable()


def test_a_repetition_in_the_log_says_how_often(log: tuple[logging.Logger, list[str]], time: Time) -> None:
    logger, lines = log
    for _ in range(8100):
        logger.info("PNE %s says it is %s", "lamp", "idle", extra=by("lamp"))
        time.now += 0.0078125
    assert lines == ["PNE lamp says it is idle", "PNE lamp says it is idle (7680 times in 60 s)"]


def test_two_topics_of_one_wording(log: tuple[logging.Logger, list[str]]) -> None:
    logger, lines = log
    for _ in range(3):
        for pne in ("lamp", "door"):
            logger.warning("PNE %s refused", pne, extra=by("gw", pne))
    assert lines == ["PNE lamp refused", "PNE door refused"]


def test_of_an_error_kind_and_place_alone_are_written(log: tuple[logging.Logger, list[str]]) -> None:
    logger, lines = log
    for _ in range(3):
        try:
            raise ValueError("4242")
        except ValueError:
            logger.error("a handler failed", exc_info=True, extra=by(Party("192.0.2.1", 5683)))
    assert len(lines) == 1
    assert lines[0].startswith("a handler failed ValueError at test_noted.py:")
    assert "4242" not in lines[0]


def test_a_library_can_t_flood_it_either(log: tuple[logging.Logger, list[str]]) -> None:
    logger, lines = log
    for number in range(1000):
        logger.error("socket.send() raised %d", number)
    assert len(lines) < 100


def test_closing_tells_what_was_counted(time: Time) -> None:
    kept = Kept()
    handler = NotedHandler(kept, time)
    logger = logging.Logger("cpns.test")
    logger.addHandler(handler)
    for _ in range(3):
        logger.info("again", extra=by("lamp"))
    time.now += 6
    handler.close()
    assert kept.lines == ["again", "again (2 times in 6 s)"]


def test_each_change_of_a_state_is_written(log: tuple[logging.Logger, list[str]]) -> None:
    """Who looks at the log sees that an uplink is back, though the same line stood there a moment ago."""
    logger, lines = log
    uplink = by("server.example", state="uplink")
    for _ in range(2):
        logger.info("uplink stands", extra=uplink)
        logger.info("no uplink", extra=uplink)
    logger.info("no uplink", extra=uplink)
    assert lines == ["uplink stands", "no uplink", "uplink stands", "no uplink"]
