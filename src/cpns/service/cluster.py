"""A server that is one process, without cluster peers; how many are asked about many; what an asker is warned of."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

from cpns.ids import EntityId
from cpns.ports.cluster import A, Answers, Cluster
from cpns.ports.topics import Entities, Topic

VIEW_SECONDS: Final = 0.7
"""What other processes have to say what they see; without it a view shows what this one does."""
PART: Final = 5000
"""Names that one question holds, so that it is no longer than what may be said at once."""

_warnings: ContextVar[dict[str, None] | None] = ContextVar("warnings", default=None)


class Alone:
    """`cpns.ports.cluster.Cluster` where there are none, and `cpns.ports.cluster.Bus` where there is none."""

    others = False
    name = ""
    url = None
    connected = False
    heard: frozenset[str] = frozenset()

    def serve(self, what: object, handler: object) -> None:
        """Nobody will ask."""

    async def ask(self, what: object, argument: object, seconds: float = 0.0) -> Answers[Any]:
        """Return that all of them, that is none, have answered."""
        return Answers((), complete=True)

    def tell(self, what: object, argument: object) -> None:
        """Tell nobody."""

    async def all_have(self, answers: Answers[Any]) -> tuple[str, ...]:
        """Return at once."""
        return ()


async def ask_about(cluster: Cluster, topic: Topic[Entities, A], entities: Sequence[EntityId]) -> list[A]:
    """Ask what the other processes see of *entities*, part by part; return what each of them answered."""
    answers: list[A | None] = []
    for start in range(0, len(entities), PART):
        some = Entities(tuple(entities[start : start + PART]))
        answers += (await cluster.ask(topic, some, VIEW_SECONDS)).values
    return [answer for answer in answers if answer is not None]


@contextlib.contextmanager
def collecting_warnings() -> Iterator[dict[str, None]]:
    """Give what who asks is to be warned of, besides the answer to what runs inside; outer ones get it in the end."""
    found: dict[str, None] = {}
    outer = _warnings.get()
    before = _warnings.set(found)
    try:
        yield found
    finally:
        _warnings.reset(before)
        if outer is not None:
            outer.update(found)


def warn(sentence: str) -> None:
    """Warn who asks, if somebody does."""
    found = _warnings.get()
    if found is not None:
        found[sentence] = None
