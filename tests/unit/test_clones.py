"""One credential in two places: what is certain, and how long the next one waits."""

from hypothesis import given
from hypothesis import strategies as st

from cpns.domain.clones import LONGEST_WAIT, TIMES, WITHIN_SECONDS, Clones, again, is_certain, is_over, wait

PLACES = ("den", "hub")


def seen(*at: float) -> Clones | None:
    """Return what is known after two have answered at these times."""
    found = None
    for one in at:
        found = again(found, one, PLACES)
    return found


def test_once_is_not_certain() -> None:
    assert not is_certain(None, 0.0)
    assert not is_certain(seen(10.0), 10.0)
    assert wait(seen(10.0), 10.0) == 0.0
    assert is_certain(seen(10.0, 11.0), 11.0)


def test_the_wait_grows_and_has_an_end() -> None:
    times = [float(number) for number in range(20)]
    waits = [wait(seen(*times[: count + 1]), times[count]) for count in range(20)]
    assert waits[:8] == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_WAIT, LONGEST_WAIT]
    assert set(waits[8:]) == {LONGEST_WAIT}


def test_twice_is_within_an_hour() -> None:
    assert not is_certain(seen(0.0, WITHIN_SECONDS), WITHIN_SECONDS)
    assert is_certain(seen(0.0, WITHIN_SECONDS - 1), WITHIN_SECONDS)


def test_what_is_over_counts_no_more() -> None:
    found = seen(*(float(one) for one in range(10)))
    assert found is not None
    later = 9.0 + WITHIN_SECONDS
    assert is_over(found, later)
    assert not is_certain(found, later)
    assert again(found, later, PLACES).times == 1


def test_places_are_named_once_and_in_order() -> None:
    assert again(None, 0.0, ("hub", "den")).places == ("den", "hub")
    assert again(None, 0.0, ("hub", "hub")).places == ("hub",)


@given(st.lists(st.floats(0, 3 * WITHIN_SECONDS), max_size=30), st.floats(0, 5 * WITHIN_SECONDS))
def test_nobody_waits_longer_than_a_minute_after_the_newest(gaps: list[float], later: float) -> None:
    at, found = 0.0, None
    for gap in gaps:
        at += gap
        found = again(found, at, PLACES)
    assert 0.0 <= wait(found, at + later) <= max(0.0, LONGEST_WAIT - later)
    if found is not None and found.times < TIMES:
        assert wait(found, at) == 0.0
