"""An exchange with a peer of another process of the server: how its end travels between the processes."""

from collections.abc import Awaitable
from typing import Final

from cpns.errors import NoAnswer
from cpns.ports.siblings import Answers
from cpns.transport.errors import Answer, Hinted

ELSEWHERE_SECONDS: Final = 1.0
"""What another process has besides the time that its peer has."""


async def told(exchange: Awaitable[Answer]) -> list[object]:
    """Return how *exchange* ended: code, body, and whether that is a hint; empty where no answer came."""
    try:
        answer = await exchange
    except Hinted as hint:
        return [hint.answer.code, hint.answer.payload, True]
    except NoAnswer:
        return []
    return [answer.code, answer.payload, False]


def heard(answers: Answers, away: str) -> Answer:
    """Return the answer in what other processes have `told`.

    Raises:
        NoAnswer: *away*: the peer is at none of them; ``other_processes_away``: not all could be asked; or no answer
            came; `Hinted`, as there.
    """
    found = answers.first()
    if found is None:
        raise NoAnswer(away if answers.complete else "other_processes_away")
    if not found:
        raise NoAnswer
    code, body, hinted = found
    if hinted:
        raise Hinted(Answer(code, body))
    return Answer(code, body)
