"""Where a PNE is at home: each event in each state, and what holds after any of them."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.ids import EntityId, PnId
from cpns.pne import home_states as s
from cpns.service.life import Life
from cpns.wire.application import Home

DEN, HUB, NEW_HUB = (PnId("den"), EntityId("gw-1")), (PnId("hub"), EntityId("gw-2")), (PnId("hub"), EntityId("gw-3"))
STATES: Final[dict[str, s.State]] = {
    "unknown": s.Unknown(False),
    "unknown-led": s.Unknown(True),
    "settled": s.Settled(False, DEN, 1.0),
    "settled-led": s.Settled(True, DEN, None),
    "guest": s.Guest(False, DEN, 1.0),
    "guest-led": s.Guest(True, DEN, None),
}
EVENTS: Final[dict[str, s.Event]] = {
    "came home": s.Came(DEN, 5.0, True),
    "came elsewhere": s.Came(HUB, 5.0, True),
    "came elsewhere for good": s.Came(HUB, 5.0, False),
    "is at home here": s.Named(None, HUB, False),
    "is at home there": s.Named(NEW_HUB, HUB, True),
    "is at home where no way leads": s.Named(NEW_HUB, HUB, False),
    "home ended": s.Ended(DEN[0]),
    "another ended": s.Ended(HUB[0]),
    "led": s.Led(HUB),
}
LEADS: Final[dict[str, dict[str, s.State]]] = {
    "came home": {
        "unknown": s.Settled(False, DEN, None),
        "unknown-led": s.Settled(True, DEN, None),
        "guest": s.Settled(False, DEN, 5.0),
        "guest-led": s.Settled(True, DEN, 5.0),
    },
    "came elsewhere": {
        "unknown": s.Settled(False, HUB, None),
        "unknown-led": s.Settled(True, HUB, None),
        "settled": s.Guest(False, DEN, 1.0),
        "settled-led": s.Guest(True, DEN, None),
    },
    "came elsewhere for good": {
        "unknown": s.Settled(False, HUB, None),
        "unknown-led": s.Settled(True, HUB, None),
    },
    "is at home here": {"unknown": s.Settled(False, HUB, None), "settled guest": s.Settled(False, HUB, 1.0)},
    "is at home there": {"unknown": s.Guest(False, NEW_HUB, None), "settled guest": s.Guest(False, NEW_HUB, 1.0)},
    "is at home where no way leads": {
        "unknown": s.Settled(False, NEW_HUB, None),
        "settled": s.Settled(False, NEW_HUB, 1.0),
        "guest": s.Guest(False, NEW_HUB, 1.0),
    },
    "home ended": {"settled settled-led guest guest-led": s.Unknown(False)},
    "led": {"unknown unknown-led settled settled-led guest guest-led": s.Settled(True, HUB, None)},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    life = Life(s.TRANSITIONS, STATES[state])
    found = [target for sources, target in LEADS.get(event, {}).items() if state in sources.split()]
    life.happens(EVENTS[event])
    assert life.state == (found[0] if found else STATES[state])


def test_there_is_a_case_for_each_row() -> None:
    assert {type(one) for one in EVENTS.values()} == set(s.TRANSITIONS.events)
    assert {type(one) for one in STATES.values()} == set(s.TRANSITIONS.states)


homes = st.sampled_from([DEN, HUB, NEW_HUB])
events = st.one_of(
    st.builds(s.Came, homes, st.just(0.0), st.booleans()),
    st.builds(s.Named, st.none() | homes, homes, st.booleans()),
    st.builds(s.Ended, st.sampled_from([DEN[0], HUB[0]])),
    st.builds(s.Led, homes),
)


@settings(max_examples=300)
@given(st.booleans(), st.lists(events, max_size=30))
def test_whatever_happens_in_whatever_order(led: bool, happened: list[s.Event]) -> None:
    life: Life[s.State, s.Event] = Life(s.TRANSITIONS, s.Unknown(led))
    told: set[Home] = set()
    for event in happened:
        before = life.state
        life.happens(event)
        if isinstance(event, s.Came | s.Led):
            told.add(event.here)
        elif isinstance(event, s.Named):
            told.update({event.here} | ({event.home} if event.home is not None else set()))
        if isinstance(life.state, s.Known):
            assert life.state.home in told  # no home is made up
        if before.led and not isinstance(event, s.Ended):
            assert life.state.led  # who was led somewhere is not called away by a word of the server
        if isinstance(event, s.Came) and isinstance(life.state, s.Guest):
            assert event.here[0] != life.state.home[0]  # nobody is a guest at home
        if isinstance(event, s.Led):
            assert life.state == s.Settled(True, event.here, None)
