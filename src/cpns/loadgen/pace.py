"""When readings are due: at even distances, whatever became of those before (an open loop)."""


class Pace:
    """Moments, *rate* a second, from *start* on.

    A sender that waits for an answer before it asks again slows down with the server, and so measures least when it
    matters most. Here a reading that is sent late counts from when it was due.

    Args:
        rate: moments a second.
        start: seconds, by some clock.
        count: how many there are.
    """

    def __init__(self, rate: float, start: float, count: int) -> None:
        self._rate = rate
        self._start = start
        self._count = count
        self._taken = 0

    @property
    def next(self) -> float | None:
        """The moment that is to be taken next; None after the last."""
        return None if self._taken == self._count else self._start + self._taken / self._rate

    def take(self, now: float) -> list[float]:
        """Return the moments that have come, each once."""
        taken = []
        while (moment := self.next) is not None and moment <= now:
            taken.append(moment)
            self._taken += 1
        return taken
