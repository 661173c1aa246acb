"""Draws the state machines from their tables, for docs/states.md (``make tables``)."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from cpns.gateway import uplink_states
from cpns.machine import Transitions, leaves
from cpns.node import states as node_states
from cpns.pne import home_states
from cpns.pne import states as pne_states
from cpns.transport import uplink_states as connection_states

MACHINES: Final[dict[str, Transitions[Any, Any]]] = {
    "pne": pne_states.TRANSITIONS,
    "home": home_states.TRANSITIONS,
    "uplink": uplink_states.TRANSITIONS,
    "connection": connection_states.TRANSITIONS,
    "device": node_states.TRANSITIONS,
}


def words(kind: type[Any]) -> str:
    """Return the name of a state or event as words."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()


def meaning(kind: type[Any]) -> str:
    """Return what the code says of a state or event."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


def boxes(table: Transitions[Any, Any]) -> list[type[Any]]:
    """Return the groups that are drawn as one: whoever comes or goes there comes to all of it, or from all of it."""
    found = [one for one in table.root.__subclasses__() if len(leaves(one)) > 1]
    while True:
        ends = arrows(table, found)
        whole = [
            box for box in found if all((source in leaves(box)) == (target in leaves(box)) for source, target in ends)
        ]
        if whole == found:
            return found
        found = whole


def arrows(
    table: Transitions[Any, Any], boxed: Sequence[type[Any]]
) -> dict[tuple[type[Any], type[Any]], list[type[Any]]]:
    """Return the events that lead from one state, or from all of a box, to another.

    An event that changes nothing of a state is not drawn.
    """
    found: dict[tuple[type[Any], type[Any]], list[type[Any]]] = {}
    for row in (one for one in table if not one.stays):
        box = next((one for one in boxed if row.source in leaves(one)), row.source)
        rows = [one for one in table if one.event is row.event and one.source in leaves(box)]
        as_one = {one.target for one in rows} == {row.target} and len(rows) == len(leaves(box))
        source = box if as_one and row.target not in leaves(box) else row.source
        for target in (row.target,) if row.target in boxed else leaves(row.target):
            events = found.setdefault((source, target), [])
            if row.event not in events:
                events.append(row.event)
    return found


def drawing(name: str) -> Iterator[str]:
    """Yield one machine: a drawing, and what its states and events mean."""
    table = MACHINES[name]
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {table.states[0].__name__}"
    boxed = boxes(table)
    for box in boxed:
        yield f"    state {box.__name__} {{"
        yield from (f"        {leaf.__name__}" for leaf in leaves(box))
        yield "    }"
    for (source, target), events in arrows(table, boxed).items():
        yield f"    {source.__name__} --> {target.__name__} : {', '.join(map(words, events))}"
    yield "```"
    yield ""
    yield "| state | |"
    yield "|---|---|"
    yield from (f"| {words(state)} | {meaning(state)} |" for state in table.states)
    yield ""
    yield "| event | |"
    yield "|---|---|"
    yield from (f"| {words(event)} | {meaning(event)} |" for event in table.events)
