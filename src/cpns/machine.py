"""State machines: each has one table that says where which event leads from which state.

A state is a frozen type that holds only what exists then; so is an event. Base classes group states: a row for one of
these holds for all of that group.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S")
E = TypeVar("E")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        source: the state, or a group of them.
        event: what happens.
        target: the state after it, or the group of that.
        step: makes the state after it, of state and event; None: this one changes nothing.
    """

    source: type[Any]
    event: type[Any]
    target: type[Any]
    step: Callable[[Any, Any], Any]

    @property
    def stays(self) -> bool:
        """Whether it changes nothing of the state: the event is only heeded in it."""
        return self.step is _same


def _same(state: S, _: object) -> S:
    return state


def on(source: type[S], event: type[E], target: type[T], step: Callable[[S, E], T | None]) -> Row:
    """Return a row: in *source*, *event* leads to *target*."""
    return Row(source, event, target, step)


def stays(source: type[S], event: type[Any]) -> Row:
    """Return a row: *event* is heeded in *source*, and changes nothing of it."""
    return Row(source, event, source, _same)


def leaves(group: type[Any]) -> tuple[type[Any], ...]:
    """Return the states of a group, in the order in which they are written down; of a state, itself."""
    below = group.__subclasses__()
    return tuple(leaf for one in below for leaf in leaves(one)) or (group,)


class Transitions(Generic[S, E]):
    """The table of one machine. What is not in it changes nothing: it comes too late, or too early.

    Args:
        states: the group of all states.
        rows: a row for a state goes before one for its group, if it stands before that.

    Raises:
        TypeError: a row is hidden by those before it.
    """

    def __init__(self, states: type[S], *rows: Row) -> None:
        self.root: type[Any] = states
        self.states = leaves(states)
        self._rows: dict[tuple[type[Any], type[Any]], Row] = {}
        for row in rows:
            free = [leaf for leaf in leaves(row.source) if (leaf, row.event) not in self._rows]
            if not free:
                raise TypeError(f"a row that is never used: {row.source.__name__}, {row.event.__name__}")
            for leaf in free:
                to = leaf if row.target is row.source else row.target
                self._rows[leaf, row.event] = Row(leaf, row.event, to, row.step)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    @property
    def events(self) -> tuple[type[Any], ...]:
        """The events, in the order of the table."""
        return tuple(dict.fromkeys(row.event for row in self))

    def after(self, state: S, event: E) -> S | None:
        """Return the state after *event*; None where it changes nothing."""
        row = self._rows.get((type(state), type(event)))
        return None if row is None else row.step(state, event)
