"""The readings of a device that runs: where they come from, what became of each, and how many were taken."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator

from cpns.cli.events import Events
from cpns.cli.streams import Lines
from cpns.errors import NoAnswer, Refused
from cpns.pne import sources
from cpns.pne.sources import Body


class Readings:
    """The readings of one device.

    Args:
        source: ``host``, ``-`` for lines of JSON from stdin, or ``none``.
        interval: seconds between readings of this machine.
        events: prints what was acknowledged.
    """

    def __init__(self, source: str, interval: float, events: Events) -> None:
        self._source = source
        self._interval = interval
        self._events = events
        self._errors = Lines(sys.stderr)
        self._acknowledged = 0
        self._refused = 0

    @property
    def wanted(self) -> bool:
        """Whether there is a source at all."""
        return self._source != "none"

    def bodies(self) -> AsyncIterator[Body]:
        """Return the readings as they come; a line that is none is refused."""
        if self._source == "host":
            return sources.host(self._interval)
        return sources.lines(sys.stdin.fileno(), self._bad_line)

    def acknowledged(self, body: Body, **fields: object) -> None:
        """The server has committed a reading."""
        self._acknowledged += 1
        text = json.dumps(body, ensure_ascii=False)
        self._events.tell(f"acknowledged {text}", "acknowledged", **fields, body=body)

    def refused(self, body: Body, error: Refused) -> None:
        """The server does not take a reading, and never will."""
        self._refused += 1
        self._errors.say(f"error[{error.reason}]: The server does not take {json.dumps(body)}.")

    def _bad_line(self, number: int, why: str) -> None:
        self._refused += 1
        self._errors.say(f"error[bad_line]: Line {number} is no reading: {why}.")

    def end(self) -> int:
        """Tell how many readings of standard input were taken; return the exit code: 1 where one was refused."""
        if self._source == "-":
            counts = {"acknowledged": self._acknowledged, "refused": self._refused}
            with contextlib.suppress(NoAnswer):
                self._events.keep(", ".join(f"{count} {what}" for what, count in counts.items()), "ended", **counts)
            self._events.check()
        return 1 if self._refused else 0
