"""Whatever can be refused, an operator is told of it in sentences; the code is walked for its reasons."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cpns
from cpns.cli.control import _code, _sentence
from cpns.cli.main import _told
from cpns.domain.reasons import WORDS, meaning, of_result
from cpns.errors import NoAnswer, Refused, Result
from cpns.transport.errors import Answer, Code, Hinted

PLACE = {
    "Refused": 1,
    "WireError": 0,
    "AuthenticationFailed": 0,
    "NoAnswer": 0,
    "Later": 0,
    "let_go": 0,
    "heard": 1,
    "SessionOver": 0,
}
"""Which argument of a call is a reason."""
ROOT = Path(cpns.__file__).parent


def calls() -> Iterator[ast.expr]:
    """Give the expression of each reason that the code has."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if called in PLACE and len(node.args) > PLACE[called]:
                    yield node.args[PLACE[called]]


def words_of(node: ast.expr) -> set[str]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def reasons() -> set[str]:
    """Return all that stand there as they are; a condition has both of its own."""
    return {word for node in calls() if not isinstance(node, ast.JoinedStr) for word in words_of(node)}


def made() -> set[str]:
    """Return what those begin with that have a number or a name in them."""
    return {sorted(words_of(node), key=len)[-1] for node in calls() if isinstance(node, ast.JoinedStr)}


def test_each_reason_has_a_sentence_and_each_sentence_a_reason() -> None:
    known = reasons()
    assert len(known) > 150
    assert known - WORDS.keys() == set()
    source = "".join(path.read_text() for path in ROOT.rglob("*.py") if path.name != "reasons.py")
    assert {word for word in WORDS if f'"{word}"' not in source} == set()


def test_reasons_with_a_number_or_a_name_have_one_too() -> None:
    families = made()
    assert {"refused_with_", "peer_answered_", "bad_value_label_", "missing_label_"} <= families
    for begins in families:
        ends = [result.name.lower() for result in Result] if begins == "peer_answered_" else ["0", "21", "999"]
        for end in ends:
            assert meaning(f"{begins}{end}"), (begins, end)
    for code in Code:
        assert meaning(Hinted(Answer(code)).reason)
    assert meaning("nobody_made_this_up") is None


@pytest.mark.parametrize("sentence", sorted({*WORDS.values(), *map(of_result, Result)}))
def test_sentences_are_for_people(sentence: str) -> None:
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert not re.search(r"[a-z]_[a-z]", sentence)
    assert all(len(part.split()) <= 20 for part in re.split(r"[.:;]", sentence))


def test_a_command_is_told_the_reason_and_its_sentence() -> None:
    """As between gateways, where this was a code alone."""
    for error in (NoAnswer("session_replaced"), Hinted(Answer(Code.UNAUTHORIZED))):
        assert _told(error) == (
            error.reason,
            "The device is on its way to another gateway, or is being brought back: try again in a moment.",
        )
        assert (_code(error), _sentence(error)) == _told(error)
    unknown = Refused(Result.POLICY, "of_a_later_version")
    assert _told(unknown)[1] == _sentence(unknown) == of_result(Result.POLICY)


@pytest.mark.parametrize("number", [21, 51])
def test_who_is_refused_without_a_session_is_told_who_knows_why(number: int) -> None:
    """Whatever the reason is, a device hears one of these: it may be revoked, or have another key."""
    assert meaning(f"refused_with_{number}") == of_result(Result.AUTHENTICATION_FAILED)
    assert "`cpns explain` at the server" in of_result(Result.AUTHENTICATION_FAILED)
