"""The replay window (RFC 8613 7.4): which numbers of the peer were used."""


class ReplayWindow:
    """Numbers up to *size* below the highest are remembered one by one; all below those count as used."""

    __slots__ = ("_above", "_seen", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._above = 0
        """One more than the highest."""
        self._seen = 0
        """Bit n: the number n + 1 below `_above`."""

    def is_fresh(self, number: int) -> bool:
        """Whether *number* may come."""
        back = self._above - 1 - number
        return back < 0 or (back < self._size and not self._seen >> back & 1)

    def strike_out(self, number: int) -> None:
        """*number* was used; only after what carries it has opened."""
        ahead = number + 1 - self._above
        if ahead > 0:
            self._seen = (self._seen << min(ahead, self._size) | 1) & ((1 << self._size) - 1)
            self._above = number + 1
        else:
            self._seen |= 1 << -ahead
