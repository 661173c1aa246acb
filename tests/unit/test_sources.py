"""Readings from lines of JSON: what is one, what is told of one that is none, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.cli.events import Events
from cpns.cli.options import Output
from cpns.cli.readings import Readings
from cpns.errors import Refused, Result, Unavailable
from cpns.ids import EntityId
from cpns.pne.sources import parse
from tests.support.commands import full

PNE = EntityId("pne-1")
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4)
JSON = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may be equal."""

    def __str__(self) -> str:
        return "{" + ", ".join(f"{json.dumps(key)}: {written(value)}" for key, value in self) + "}"

    def has_one_twice(self) -> bool:
        keys = [key for key, _ in self]
        return len(set(keys)) < len(keys) or any(isinstance(one, Pairs) and one.has_one_twice() for _, one in self)


def written(value: Any) -> str:
    return str(value) if isinstance(value, Pairs) else json.dumps(value)


def an_object(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Pairs]:
    return st.lists(st.tuples(st.sampled_from(["a", "b", "ä", "\u2028", '"']), inner), max_size=4).map(Pairs)


@given(an_object(st.integers(0, 9) | an_object(st.integers(0, 9) | an_object(st.booleans()))))
def test_a_key_twice_is_no_reading_wherever_it_is(body: Pairs) -> None:
    line = str(body).encode()
    if body.has_one_twice():
        with pytest.raises(ValueError, match=r"^it has the key .* twice$"):
            parse(line)
    else:
        assert parse(line) == json.loads(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1, "a": 1}',
        '{"a": 1, "\\u0061": 2}',
        '{"b": [0, {"a": 1, "a": 2}]}',
        '{"": 1, "": 2}',
    ],
)
def test_keys_are_equal_as_they_are_read(line: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        parse(line.encode())


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_what_json_holds_is_taken_as_it_is(body: dict[str, Any]) -> None:
    line = json.dumps(body).encode()
    assert parse(line) == body


CASES = {
    '{"code": 840380235174088834}': True,
    '{"v": 123456789000000000000.0}': True,
    '{"v": 123456789012345678901234567890}': False,
    '{"v": 7e-06}': True,
    '{"v": -1e308}': True,
    '{"code": "000012300007"}': True,
    '{"v": true, "n": null}': True,
    '{"nested": {"a": [1,2,{"b": 1}]}}': True,
    '{"a": 1, "a": 2}': False,
    '{"": 1}': True,
    '{"v": -0.0}': True,
    '{"v": 5e-324}': True,
    '{"v": "caf\\u0065\\u0301"}': True,
    '{"v": "\\ud800"}': False,
    '{"v": "\\u0000"}': True,
}


@pytest.mark.parametrize("output", Output)
async def test_how_many_were_taken_is_told_in_the_end(
    tmp_path: Path, output: Output, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines"
    file.write_text("\n".join(CASES) + "\n\n")
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        readings = Readings("-", 1.0, Events(PNE, output))
        async for body in readings.bodies():
            readings.acknowledged(body)
        assert readings.end() == 1
    said = capsys.readouterr()
    refused = [number for number, good in enumerate(CASES.values(), start=1) if not good]
    assert [line.split(" is no")[0] for line in said.err.splitlines()] == [
        f"error[bad_line]: Line {number}" for number in refused
    ]
    *acknowledged, last = said.out.splitlines()
    assert len(acknowledged) == 12
    if output is Output.TABLE:
        assert last == "12 acknowledged, 3 refused"
    else:
        assert json.loads(last) == {"event": "ended", "device": "pne-1", "acknowledged": 12, "refused": 3}


@pytest.mark.parametrize(("source", "says"), [("-", "1 acknowledged, 0 refused"), ("host", "acknowledged {}")])
def test_what_was_taken_ends_well(source: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    readings = Readings(source, 1.0, Events(PNE, Output.TABLE))
    readings.acknowledged({})
    assert readings.end() == 0
    assert capsys.readouterr().out.splitlines()[-1] == says


def test_what_the_server_refuses_ends_badly(capsys: pytest.CaptureFixture[str]) -> None:
    readings = Readings("host", 1.0, Events(PNE, Output.TABLE))
    readings.refused({"n": 1}, Refused(Result.BAD_REQUEST, "server_refused_with_10"))
    assert readings.end() == 1
    assert capsys.readouterr() == ("", 'error[server_refused_with_10]: The server does not take {"n": 1}.\n')


def test_a_last_line_that_can_not_be_printed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with full() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        readings = Readings("-", 1.0, Events(PNE, Output.TABLE))
        with pytest.raises(Unavailable, match="can't be written"):
            readings.end()
