"""What we say by elective labels where we can't know yet whether the peer knows them (docs/protocol.md section 3)."""

from cpns.wire.declare import Electives


class ByTurns:
    """What M1 says by elective labels: an M1 with some that failed is followed by one without, by turns.

    A peer of a version before electives refuses such an M1. Before a session stands nobody vouches for a refusal, so
    whoever drops messages can have M1 come without: nothing that protects anybody may hang on an elective.

    Args:
        electives: what we have to say.
    """

    def __init__(self, electives: Electives) -> None:
        self._electives = electives
        self._plain = False

    def now(self) -> Electives:
        """Return what the next M1 says."""
        return () if self._plain else self._electives

    def failed(self) -> None:
        """The last M1 led to no session."""
        self._plain = bool(self._electives) and not self._plain
