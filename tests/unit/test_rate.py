"""Rates: what a party may do, how often, and what is left for others."""

from cpns.shares.rate import RateLimit


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    time = Time()
    rate = RateLimit(10.0, 3.0, time)
    assert [rate.allows("a") for _ in range(4)] == [True, True, True, False]
    assert rate.allows("b")
    time.now = 0.1
    assert [rate.allows("a") for _ in range(2)] == [True, False]


def test_many_times_at_once_are_all_or_none() -> None:
    rate = RateLimit(1.0, 10.0, Time())
    assert not rate.allows("a", times=11)
    assert rate.allows("a", times=8)
    assert not rate.allows("a", times=3)
    assert rate.allows("a", times=2)


def test_what_must_be_left_is_left() -> None:
    rate = RateLimit(1.0, 10.0, Time())
    assert [rate.allows("all", leaving=8) for _ in range(3)] == [True, True, False]
    assert rate.allows("all")


def test_what_is_given_back_never_passes_the_burst() -> None:
    rate = RateLimit(1.0, 10.0, Time())
    assert rate.allows("a", times=6)
    rate.give_back("a", 100)
    rate.give_back("nobody", 100)
    assert rate.allows("a", times=10)
    assert not rate.allows("a")
