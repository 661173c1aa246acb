"""What the processes of one server need of each other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answers:
    """What other processes answered, in no order; `complete` where all that are known to be there did.

    Attributes:
        who: the names of those that answered.
    """

    values: tuple[Any, ...]
    complete: bool
    who: frozenset[str] = frozenset()

    def first(self) -> Any:  # noqa: ANN401  # any CBOR
        """Return the answer of the one that had one; None where none did."""
        return next((value for value in self.values if value is not None), None)


Handler = Callable[[Any], Awaitable[Any]]
"""Takes what another process asks, and returns the answer; both as CBOR has them. None: it is not ours to answer."""


class Bus(Protocol):
    """What carries that which the processes of one server say to each other."""

    @property
    def name(self) -> str:
        """This process, as the others call it; empty where there is no bus."""
        ...

    @property
    def url(self) -> str | None:
        """Where the bus is; None where there is none."""
        ...

    @property
    def connected(self) -> bool:
        """Whether it is there."""
        ...

    @property
    def heard(self) -> frozenset[str]:
        """The names of the other processes that are heard now."""
        ...

    def serve(self, what: str, handler: Handler) -> None:
        """Answer questions of that name with *handler*."""
        ...

    async def ask(self, what: str, argument: Any, seconds: float = 2.0) -> Answers:  # noqa: ANN401
        """Ask all of them; return when all have answered, or after that many seconds."""
        ...

    def tell(self, what: str, argument: Any) -> None:  # noqa: ANN401
        """As `ask`, soon, and whatever they answer."""
        ...


class Siblings(Protocol):
    """The other processes of the same server, over the same store.

    Attributes:
        others: whether there may be any.
    """

    others: bool

    def serve(self, what: str, handler: Handler) -> None:
        """As `Bus.serve`."""
        ...

    async def ask(self, what: str, argument: Any, seconds: float = 2.0) -> Answers:  # noqa: ANN401
        """As `Bus.ask`; the answers are complete where all that are there have answered."""
        ...

    def tell(self, what: str, argument: Any) -> None:  # noqa: ANN401
        """As `Bus.tell`."""
        ...

    async def all_have(self, answers: Answers) -> tuple[str, ...]:
        """Wait until those that did not answer have heeded what was committed; return who has not, in words."""
        ...
