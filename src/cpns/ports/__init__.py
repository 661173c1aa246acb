"""What the services need of the world: one contract per door, in the docstrings.

`store` and `transport` implement these; tests may bring their own. Nothing here does anything. The store is a port for
each feature: who needs one asks for that.
"""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cpns.crypto.secret import Secret
from cpns.domain.inventory import Outcome
from cpns.ports.cm import CmDeviceStore
from cpns.ports.entities import EntityStore
from cpns.ports.events import EventStore
from cpns.ports.groups import GroupStore
from cpns.ports.messages import MessageStore
from cpns.ports.networks import NetworkStore
from cpns.ports.processes import ProcessStore
from cpns.ports.readings import ReadingStore

P = ParamSpec("P")
R = TypeVar("R")
Query = Callable[Concatenate[Any, P], R]
"""What is done in one transaction; it is given the connection first."""


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC; for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; for ages and timers."""
        ...


class Time(Clock, Protocol):
    """The time, and waiting for it: who knows neither in another way runs in virtual time, too."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds; of none, or fewer, when others had their turn."""
        ...


class Randomness(Protocol):
    """The system's random bytes."""

    def __call__(self, size: int) -> bytes:
        """Return *size* bytes that nobody can guess."""
        ...


class Vault(Protocol):
    """Secure Storage (DEF-8): the only place where a key at rest is opened.

    A sealed key is bound to its purpose and owner: moved to another row, it does not open.
    """

    def seal(self, purpose: str, owner: str, key: Secret) -> bytes:
        """Return *key* sealed for rest."""
        ...

    def open(self, purpose: str, owner: str, sealed: bytes) -> Secret:
        """Return the key in *sealed*.

        Raises:
            AuthenticationFailed: another purpose, owner or vault, or changed bytes.
        """
        ...


class Store(
    EntityStore,
    NetworkStore,
    CmDeviceStore,
    GroupStore,
    MessageStore,
    ReadingStore,
    EventStore,
    ProcessStore,
    Protocol,
):
    """The server's truth. Every method that writes returns after its commit is durable, or raises and wrote nothing.

    One exception: where PostgreSQL is lost in the middle of a commit, nobody knows. That is told as a failure too; who
    then repeats it finds what was written, if it was.

    Attributes:
        name: what it is called.
        shared: whether several processes of the server may work on it.
    """

    name: str
    shared: bool

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def do(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a query that a feature has beside it, in one transaction, and return what it returns."""
        ...

    async def set_back(self, outcome: Outcome) -> int:
        """Go on with numbers that no life of this store has given, *outcome* the first row of the audit log.

        Returns:
            The number that those of readings are over from now on.

        Raises:
            BadInput: ``bad_time``: the store has newer rows.
            Conflict: ``server_running``: another process has it open.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""
        ...
