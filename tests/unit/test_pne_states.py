"""The life of a PNE: each event in each state, and what holds after any of them."""

from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.ids import EntityId, PnId
from cpns.pne import states as s
from cpns.pne.life import PneLife

FIRST, SECOND = (cast(Any, SimpleNamespace(link=n, session=n, joined=SimpleNamespace(pn_id=n))) for n in "12")
STATES: Final[dict[str, s.State]] = {
    "seeking": s.Seeking(),
    "sought": s.Seeking(FIRST),
    "arriving": s.Arriving(FIRST),
    "attached": s.Attached(FIRST),
    "doubted": s.Doubted(FIRST),
    "put out": s.PutOut(FIRST),
    "left": s.Left(FIRST),
}
HOME = PnId("pn"), EntityId("gw")
EVENTS: Final[dict[str, s.Event]] = {
    "taken up": s.TakenUp(SECOND),
    "welcomed": s.Welcomed(SECOND, 0),
    "turned away": s.TurnedAway(),
    "suspected": s.Suspected(),
    "held": s.Held(),
    "looked": s.Looked(0),
    "home named": s.HomeNamed(HOME),
    "lost": s.Lost(),
    "worn out": s.WornOut(),
    "failed": s.Failed(),
    "expelled": s.Expelled(FIRST),
    "rested": s.Rested(),
    "fell asleep": s.FellAsleep(),
    "woke up": s.WokeUp(),
    "went away": s.WentAway(),
}

# Where each event leads: from all states that are named before the colon. What is not here changes nothing.
LEADS: Final[dict[str, dict[str, s.State]]] = {
    "taken up": {"seeking sought arriving put-out": s.Arriving(SECOND), "attached doubted": s.Attached(SECOND)},
    "welcomed": {"seeking sought arriving attached doubted put-out": s.Attached(SECOND)},
    "turned away": {"arriving": s.Seeking(FIRST)},
    "suspected": {"attached": s.Doubted(FIRST)},
    "held": {"attached": s.Doubted(FIRST)},
    "looked": {"doubted": s.Attached(FIRST)},
    "lost": {"attached doubted": s.Seeking(FIRST)},
    "worn out": {"attached doubted": s.Seeking(FIRST)},
    "failed": {"attached doubted": s.Seeking(FIRST)},
    "expelled": {"seeking sought arriving attached doubted put-out": s.PutOut(FIRST)},
    "rested": {"put-out": s.Seeking(FIRST)},
    "went away": {"seeking": s.Left(None), "sought arriving attached doubted put-out": s.Left(FIRST)},
}


def led(state: str, event: str) -> s.State:
    """Return where *event* leads from *state*, awake."""
    if event == "fell asleep":
        before = STATES[state]
        return s.Asleep(before) if isinstance(before, s.Awake) else before
    for sources, target in LEADS.get(event, {}).items():
        if state.replace(" ", "-") in sources.split():
            return target
    return STATES[state]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    life = PneLife()
    life.state = STATES[state]
    happened = life.happens(EVENTS[event])
    assert life.state == led(state, event)
    assert happened or life.state == STATES[state]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", [one for one in STATES if one != "left"])
def test_each_event_asleep(state: str, event: str) -> None:
    """What happens to its sessions, happens; it wakes as what it would be by then."""
    life = PneLife()
    awake = STATES[state]
    assert isinstance(awake, s.Awake)
    life.state = s.Asleep(awake)
    life.happens(EVENTS[event])
    after = led(state, event)
    if event == "woke up":
        assert isinstance(life.state, s.Awake)
        assert life.state == awake
    elif event in ("went away", "fell asleep"):
        assert life.state == (after if event == "went away" else s.Asleep(awake))
    else:
        assert life.state == s.Asleep(cast(s.Awake, after))


def test_there_is_a_case_for_each_row() -> None:
    assert {type(one) for one in EVENTS.values()} == set(s.TRANSITIONS.events)
    assert {type(one) for one in STATES.values()} | {s.Asleep} == set(s.TRANSITIONS.states)


def test_its_parts_read_of_it_what_exists() -> None:
    life = PneLife()
    assert (life.last, life.joined, life.link, life.session, life.stands) == (None,) * 5
    life.happens(s.TakenUp(FIRST))
    assert (life.last, life.stands) == (FIRST, None)
    life.happens(s.Welcomed(FIRST, 0))
    assert (life.stands, life.link, life.session) == (FIRST, FIRST.link, FIRST.session)
    life.happens(s.FellAsleep())
    assert (life.stands, life.is_asleep) == (FIRST, True)
    life.happens(s.WentAway())
    assert (life.stands, life.last, life.has_left, life.is_asleep) == (None, FIRST, True, False)


def test_what_failed_under_an_older_session_means_nothing() -> None:
    life = PneLife()
    life.happens(s.Welcomed(SECOND, 0))
    found: list[s.State] = []
    for session, lost in ((FIRST.session, True), (SECOND.session, False), (SECOND.session, True)):
        life.suspect(session, lost=lost)
        found.append(life.state)
    assert found == [s.Attached(SECOND), s.Doubted(SECOND), s.Seeking(SECOND)]


attachments = st.sampled_from([FIRST, SECOND])
events = st.one_of(
    st.builds(s.TakenUp, attachments),
    st.builds(s.Welcomed, attachments, st.integers(0, 9)),
    st.builds(s.Expelled, attachments),
    st.sampled_from([one for one in EVENTS.values() if type(one) not in (s.TakenUp, s.Welcomed, s.Expelled)]),
)


@settings(max_examples=400)
@given(st.lists(events, max_size=40))
def test_whatever_happens_in_whatever_order(happened: list[s.Event]) -> None:
    life, awake = PneLife(), PneLife()
    known: set[Any] = set()
    for event in happened:
        before = life.state
        if isinstance(event, s.TakenUp | s.Welcomed | s.Expelled):
            known.add(event.at.session)
        moved = life.happens(event)
        if not isinstance(event, s.FellAsleep | s.WokeUp):
            awake.happens(event)
        assert moved or life.state is before
        assert life.last is None or life.last.session in known  # nothing is made up
        assert (life.stands is None) == (awake.stands is None)  # sleep changes nothing of what stands
        assert life.last == awake.last
        if life.stands is not None and life.stands is not _stands_in(before):
            assert isinstance(event, s.TakenUp | s.Welcomed)
        if isinstance(before, s.Left):
            assert life.state is before
        if isinstance(life.state, s.Asleep):
            assert life.state.of == awake.state
        else:
            assert life.state == awake.state


def _stands_in(state: s.State) -> s.Attachment | None:
    life = PneLife()
    life.state = state
    return life.stands
