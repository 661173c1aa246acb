"""A server that is one process, which has no siblings; and how many are asked about many."""

from collections.abc import Sequence
from typing import Any, Final

from cpns.ports import Answers, Handler, Siblings

VIEW_SECONDS: Final = 0.7
"""What other processes have to say what they see; without it a view shows what this one does."""
PART: Final = 5000
"""Names that one question holds, so that it is no longer than what may be said at once."""


class Alone:
    """`cpns.ports.Siblings` where there are none."""

    others = False

    def serve(self, what: str, handler: Handler) -> None:
        """Nobody will ask."""

    async def ask(self, what: str, argument: Any, seconds: float = 0.0) -> Answers:  # noqa: ANN401  # any CBOR
        """Return that all of them, that is none, have answered."""
        return Answers((), complete=True)

    def tell(self, what: str, argument: Any) -> None:  # noqa: ANN401
        """Tell nobody."""


async def ask_about(siblings: Siblings, what: str, names: Sequence[str]) -> list[Any]:
    """Ask what the other processes see of *names*, part by part; return what each of them answered."""
    answers: list[Any] = []
    for start in range(0, len(names), PART):
        answers += (await siblings.ask(what, list(names[start : start + PART]), VIEW_SECONDS)).values
    return [answer for answer in answers if answer is not None]
