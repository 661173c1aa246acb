"""Sheets of devices: no row is lost, none is invented, and what is unclear is named by its line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.domain.sheet import COLUMNS, SEPARATORS, Row, Sheet, read_sheet, write_csv
from cpns.errors import BadInput
from cpns.ids import is_name, sameness, spelled, spellings


def bad(text: str) -> list[tuple[int, str]]:
    return [(row.line, row.code) for row in read_sheet(text).bad]


def refused(text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_sheet(text)
    return caught.value


KITCHEN = Row(2, "lamp-1", note="Kitchen")


@pytest.mark.parametrize(
    "text",
    [
        "id,note\nlamp-1,Kitchen\n",
        "id,note\r\nlamp-1,Kitchen",
        "id,note\rlamp-1,Kitchen\r",
        "\ufeffid,note\nlamp-1,Kitchen\n",
        "ID;Note\r\nlamp-1;Kitchen\r\n",
        "Id\tNOTE\nlamp-1\tKitchen\n",
        "id,note,,\nlamp-1,Kitchen,,\n",
        "id;note;;\nlamp-1;Kitchen;;\n;;;\n",
        'id , "note"\n"lamp-1" , "Kitchen"\n'.replace(' , "', ',"'),
        "note,id\nKitchen, lamp-1 \n",
        "id,note\nlamp-1,Kitchen\n\n  \n",
    ],
)
def test_what_spreadsheets_write_is_understood(text: str) -> None:
    sheet = read_sheet(text)
    assert (sheet.rows, sheet.bad) == ((KITCHEN,), ())
    assert sheet.separator in text


@pytest.mark.parametrize("separator", [*SEPARATORS, "|"])
def test_a_file_may_say_how_it_is_separated(separator: str) -> None:
    text = separator.join(("id", "note")) + "\n" + separator.join(("lamp-1", "Kitchen"))
    assert read_sheet(f"sep={separator}\n{text}").rows == (Row(3, "lamp-1", note="Kitchen"),)
    assert read_sheet(f"SEP={separator}\r\n\r\n{text}").rows[0].line == 4
    other = ";" if separator == "," else ","
    assert repr(other) in refused(f"sep={other}\n{text}").sentence


def test_an_open_quote_is_an_error_where_it_opens() -> None:
    assert bad('id,note,gateway,key\nlamp-1,"Kitchen,,\nlamp-2,Hall,,\nlamp-3,Attic,,\n') == [(2, "open_quote")]
    sheet = read_sheet('id,note\nlamp-1,"Kitchen\nlamp-2,Hall"\nlamp-3,"A "" B"\n')
    assert [(row.line, row.code) for row in sheet.bad] == [(2, "open_quote")]
    assert "line 2" in sheet.bad[0].sentence
    assert [row.note for row in sheet.rows] == ['Hall"', 'A " B']
    assert bad('id,note\nlamp-1,"Kit"chen\n') == [(2, "bad_csv")]


def test_a_row_has_as_many_cells_as_the_header() -> None:
    text = "id,note,gateway,key\nlamp-11,Kitchen, left,\nlamp-12,Hall,,\nlamp-13,a,b,,\nlamp-14,a\n"
    sheet = read_sheet(text)
    assert [(row.line, row.code) for row in sheet.bad] == [(4, "bad_row"), (5, "bad_row")]
    assert "5 cells, the header 4" in sheet.bad[0].sentence
    assert bad("id,note,,\nlamp-1,Kitchen,,\nlamp-2,Hall,left,\nlamp-3,Hall\n") == [(3, "bad_row"), (4, "bad_row")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name\nx\n", "'name'"),
        ("name;note\nx;y\n", "semicolons"),
        ("id,color\nx,red\n", "'color'"),
        ("id;note,gateway\nx;y\n", "'note,gateway'"),
        ("id,,note\nx,,y\n", "''"),
        ("id,Note,note\nx,a,b\n", "twice"),
        ("lamp-1,Kitchen\n", "'lamp-1,Kitchen'"),
        ('"id,note\nx,y\n', "header"),
    ],
)
def test_a_header_that_is_none_is_told_with_what_was_seen(text: str, said: str) -> None:
    error = refused(text)
    assert error.code == "bad_csv"
    assert said in error.sentence


@pytest.mark.parametrize("text", ["", "\n\n", "id,note\n", "id", "sep=;\n", "sep=;\nid;note\n\n", "id,note\n,\n"])
def test_a_file_without_rows_says_so(text: str) -> None:
    assert refused(text).code == "no_rows"


CELL = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=8).map(str.strip)


@given(
    st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9._:-]{1,9}", fullmatch=True), CELL, CELL), min_size=1, max_size=5),
    st.sampled_from(list(SEPARATORS)),
    st.integers(0, 2),
)
def test_whatever_a_spreadsheet_quotes_comes_back_row_by_row(
    rows: list[tuple[str, str, str]], separator: str, empty: int
) -> None:
    text = io.StringIO()
    trailing = [""] * empty
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(["id", "gateway", "note", *trailing])
    writer.writerows([*row, *trailing] for row in rows)
    expected = tuple(Row(line, *row) for line, row in enumerate(rows, 2))
    assert read_sheet(text.getvalue()) == Sheet(separator, expected, ())


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])), max_size=5))
def test_every_line_is_a_row_or_an_error(lines: list[str]) -> None:
    sheet = read_sheet("\n".join(["id,note", "lamp-1,Kitchen", *lines]))
    filled = [number for number, line in enumerate(lines, 3) if not all(c.isspace() or c in ',"' for c in line)]
    told = [2, *filled]
    assert set(told) <= {*(row.line for row in sheet.rows), *(row.line for row in sheet.bad)} <= set(range(2, 8))
    assert len(sheet.rows) + len(sheet.bad) == sheet.size


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=4))
def test_a_csv_of_ours_runs_nothing_in_a_spreadsheet(rows: list[list[str]]) -> None:
    written = list(csv.reader(io.StringIO(write_csv(("id", "note"), rows), newline="")))
    assert written[0] == ["id", "note"]
    for row, back in zip(rows, written[1:], strict=True):
        for value, cell in zip(row, back, strict=True):
            assert not cell.startswith(("=", "+", "-", "@"))
            assert cell in (value, f"'{value}")
    assert write_csv(("id",), [["=1"], ["-x"], ["+1"], ["@a"], ["a=1"]]) == "id\n'=1\n'-x\n'+1\n'@a\na=1\n"
    assert set(COLUMNS) >= {"id", "gateway", "note", "key"}


@pytest.mark.parametrize(
    ("given_as", "becomes"),
    [
        ("AA-BB-CC-DD-EE-01", "aa:bb:cc:dd:ee:01"),
        ("aa.bb.cc.dd.ee.01", "aa:bb:cc:dd:ee:01"),
        ("AABB.CCDD.EE01", "aa:bb:cc:dd:ee:01"),
        ("aabb-ccdd-ee01", "aa:bb:cc:dd:ee:01"),
        ("0011-2233-4455-6677", "00:11:22:33:44:55:66:77"),
        ("AABBCCDDEE01", "AABBCCDDEE01"),
        ("202611290001", "202611290001"),
        ("0011223344556677", "0011223344556677"),
        ("aa:bb-cc:dd:ee:01", "aa:bb-cc:dd:ee:01"),
        ("aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee"),
        ("a:abb:cc:dd:ee:01", "a:abb:cc:dd:ee:01"),
        ("aabbcc-ddee01", "aabbcc-ddee01"),
        ("gg:bb:cc:dd:ee:01", "gg:bb:cc:dd:ee:01"),
        ("pne-1", "pne-1"),
    ],
)
def test_mac_addresses_with_separators_get_one_spelling(given_as: str, becomes: str) -> None:
    assert spelled(given_as) == becomes
    assert spelled(becomes) == becomes
    assert sameness(given_as) == sameness(becomes)


@given(
    st.sampled_from([12, 16]), st.data(), st.sampled_from([(2, ":"), (2, "-"), (2, "."), (4, "."), (4, "-"), (4, ":")])
)
def test_every_usual_spelling_of_a_mac_address_finds_the_others(
    size: int, data: st.DataObject, how: tuple[int, str]
) -> None:
    digits = data.draw(st.text("0123456789abcdef", min_size=size, max_size=size))
    name = how[1].join(digits[at : at + how[0]] for at in range(0, size, how[0]))
    for one in (name, name.upper()):
        assert {digits, digits.upper(), spelled(name), name, name.upper()} <= set(spellings(one))
        assert {sameness(other) for other in spellings(one)} == {digits}
        assert all(map(is_name, spellings(one)))
        assert spellings(one)[0] == one
