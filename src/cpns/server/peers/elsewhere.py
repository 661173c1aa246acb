"""An exchange with a peer of another process of the server: how its end travels between the processes."""

from collections.abc import Awaitable
from typing import Final

from cpns.errors import NoAnswer
from cpns.ports.cluster import Answers
from cpns.ports.topics import Exchanged
from cpns.transport.errors import Answer, Code, Hinted

ELSEWHERE_SECONDS: Final = 1.0
"""What another process has besides the time that its peer has."""


async def told(exchange: Awaitable[Answer]) -> Exchanged:
    """Return how *exchange* ended."""
    try:
        answer = await exchange
    except Hinted as hint:
        return Exchanged(int(hint.answer.code), hint.answer.payload, hint=True)
    except NoAnswer:
        return Exchanged()
    return Exchanged(int(answer.code), answer.payload)


def heard(answers: Answers[Exchanged], away: str) -> Answer:
    """Return the answer in what other processes have `told`.

    Raises:
        NoAnswer: *away*: the peer is at none of them; ``other_processes_away``: not all could be asked; or no answer
            came; `Hinted`, as there.
    """
    found = answers.first()
    if found is None:
        raise NoAnswer(away if answers.complete else "other_processes_away")
    if found.code is None:
        raise NoAnswer
    answer = Answer(Code(found.code), found.payload)
    if found.hint:
        raise Hinted(answer)
    return answer
