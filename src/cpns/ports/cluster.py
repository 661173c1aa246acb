"""What the processes of one server need of each other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cpns.ports.topics import Topic

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Answers(Generic[A]):
    """What other processes answered, in no order; `complete` where all that are known to be there did.

    Attributes:
        who: the names of those that answered.
    """

    values: tuple[A | None, ...]
    complete: bool
    who: frozenset[str] = frozenset()

    def first(self) -> A | None:
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

    async def ask(self, what: str, argument: Any, seconds: float = 2.0) -> Answers[Any]:  # noqa: ANN401
        """Ask all of them; return when all have answered, or after that many seconds."""
        ...

    def tell(self, what: str, argument: Any) -> None:  # noqa: ANN401
        """As `ask`, soon, and whatever they answer."""
        ...


class Cluster(Protocol):
    """The other processes of the same server, over the same store.

    Attributes:
        others: whether there may be any.
    """

    others: bool

    def serve(self, topic: Topic[Q, A], handler: Callable[[Q], Awaitable[A | None]]) -> None:
        """Answer what is asked on a topic with *handler*; None: it is not ours to answer."""
        ...

    async def ask(self, topic: Topic[Q, A], question: Q, seconds: float = 2.0) -> Answers[A]:
        """As `Bus.ask`; the answers are complete where all that are there have answered."""
        ...

    def tell(self, topic: Topic[Q, A], question: Q) -> None:
        """As `Bus.tell`."""
        ...

    async def all_have(self, answers: Answers[A]) -> tuple[str, ...]:
        """Wait until those that did not answer have heeded what was committed; return who has not, in words."""
        ...
