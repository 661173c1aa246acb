"""What an answer of the server cost before it left: primitives, SQL statements, commits."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from types import FunctionType
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, event

from cpns.crypto import primitives
from cpns.transport.watch import Passed
from tests.support.world import SERVER

T = TypeVar("T")


class Costs(list[Passed]):
    """Counts from `begin` on; takes the place of `World.passed`, and so sees each answer leave.

    Attributes:
        spent: what was run.
        answers: what had been run when each answer of the server left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spent: Counter[str] = Counter()
        self.answers: list[Counter[str]] = []

    def append(self, passed: Passed) -> None:
        super().append(passed)
        if passed.sender == SERVER and passed.what.endswith(("Response", "Error")):
            self.answers.append(Counter(self.spent))

    def begin(self) -> None:
        self.spent.clear()
        self.answers.clear()

    async def least(self, ask: Callable[[], Awaitable[T]]) -> tuple[T, Counter[str]]:
        """Return what *ask* returns, and what its one answer cost.

        What the server does besides only adds to it: so of several times the least is told.
        """
        counted: list[Counter[str]] = []
        while len(counted) < 3:
            self.begin()
            said = await ask()
            if len(self.answers) == 1:
                counted.append(self.answers[0])
        return said, min(counted, key=lambda one: one.total())


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """Count primitives, and what stores run that are opened in here."""
    costs = Costs()

    def ran(statement: str) -> None:
        costs.spent[f"SQL {statement.split()[0]}"] += 1

    def opened(raw: sqlite3.Connection, _record: object) -> None:
        raw.set_trace_callback(ran)

    event.listen(Engine, "connect", opened)
    count_primitives(monkeypatch, costs.spent)
    try:
        yield costs
    finally:
        event.remove(Engine, "connect", opened)


def count_primitives(monkeypatch: pytest.MonkeyPatch, calls: Counter[str]) -> None:
    """Count every call of a primitive from now on."""

    def counts(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return call

    for name, function in list(vars(primitives).items()):
        if isinstance(function, FunctionType) and getattr(function, "__module__", "") == primitives.__name__:
            monkeypatch.setattr(primitives, name, counts(name, function))
    for kind, names in (
        (primitives.Keyed, ("__init__", "mac", "expand")),
        (primitives.Box, ("__init__", "seal", "unseal")),
    ):
        for name in names:
            monkeypatch.setattr(kind, name, counts(f"{kind.__name__}.{name}", vars(kind)[name]))
