"""The life of a connection of an uplink: each event in each state, and what holds after any of them."""

from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.transport import budget
from cpns.transport import uplink_states as s

WIRE, SHARE, TIMER, END = (cast(Any, name) for name in ("wire", "share", "timer", "end"))
STATES: Final[dict[str, s.State]] = {
    "made": s.Made(),
    "reading": s.Reading(WIRE),
    "strained": s.Strained(WIRE, 1.0, 2.0),
    "paused": s.Paused(WIRE, 1.0, SHARE, TIMER),
    "leaving": s.Leaving(WIRE, END),
    "gone": s.Gone(),
}
EVENTS: Final[dict[str, s.Event]] = {
    "opened": s.Opened(WIRE),
    "exceeded": s.Exceeded(3.0, SHARE, TIMER),
    "resumed": s.Resumed(4.0),
    "heeded": s.Heeded(),
    "said last": s.SaidLast(END),
    "closed": s.Closed(),
}
LEADS: Final[dict[str, dict[str, s.State]]] = {
    "opened": {"made": s.Reading(WIRE)},
    "exceeded": {"reading strained": s.Paused(WIRE, 3.0, SHARE, TIMER)},
    "resumed": {"paused": s.Strained(WIRE, 1.0, 4.0)},
    "heeded": {"strained": s.Reading(WIRE)},
    "said last": {"reading strained": s.Leaving(WIRE, END)},
    "closed": {"made reading strained paused leaving gone": s.Gone()},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    found = [target for sources, target in LEADS.get(event, {}).items() if state in sources.split()]
    assert s.TRANSITIONS.after(STATES[state], EVENTS[event]) == (found[0] if found else None)


def test_there_is_a_case_for_each_row() -> None:
    assert {type(one) for one in EVENTS.values()} == set(s.TRANSITIONS.events)
    assert {type(one) for one in STATES.values()} == set(s.TRANSITIONS.states)


def test_a_respite_ends_what_a_peer_was_over_its_budget() -> None:
    strained = s.Strained(WIRE, 1.0, 2.0)
    assert s.over_since(strained, 2.0 + budget.RESPITE) == 1.0
    assert s.over_since(strained, 2.1 + budget.RESPITE) == 2.1 + budget.RESPITE
    assert s.over_since(s.Reading(WIRE), 5.0) == 5.0


@given(st.lists(st.tuples(st.sampled_from(list(EVENTS)), st.floats(0, 3)), max_size=40))
def test_whatever_happens_in_whatever_order(happened: list[tuple[str, float]]) -> None:
    """A peer is over its budget since it first was, until it was not for a while; what is closed stays so."""
    state: s.State = s.Made()
    now, strained_since = 0.0, None
    for name, seconds in happened:
        now += seconds
        before, event = state, EVENTS[name]
        if name == "exceeded":
            event = s.Exceeded(s.over_since(state, now), SHARE, TIMER)
        elif name == "resumed":
            event = s.Resumed(now)
        state = s.TRANSITIONS.after(state, event) or state
        if isinstance(state, s.Paused | s.Strained):
            if not isinstance(before, s.Paused | s.Strained) or state.over_since == now:
                strained_since = state.over_since
            assert state.over_since == strained_since
            assert state.over_since <= now
        if isinstance(before, s.Gone):
            assert isinstance(state, s.Gone)
        if isinstance(before, s.Leaving):
            assert isinstance(state, s.Leaving | s.Gone)
