"""A server's TLS certificate: read anew when its files change, and named before it ends."""

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cpns.crypto.certificate import not_after

_log = logging.getLogger("cpns.server")

WARNED_SECONDS: Final = 14 * 86400.0
"""How long before its end a certificate is warned of."""


def day(at: float) -> str:
    """Return the day of *at*, seconds since the epoch, in UTC."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


class Certificate:
    """The certificate in *chain* with its *key*, both PEM files; `context` serves connections with the newest one.

    Raises:
        OSError: they can't be read, or do not belong together.
    """

    def __init__(self, chain: Path, key: Path | None) -> None:
        self._chain = chain
        self._key = key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._stamp = self._stamped()
        self._ends = self._load()

    def look(self, now: float) -> None:
        """Read it anew where its files changed, and warn where it has ended or soon will.

        Args:
            now: seconds since the epoch.
        """
        try:
            if (stamp := self._stamped()) != self._stamp:
                self._ends = self._load()
                self._stamp = stamp
                _log.info("the certificate %s was read anew; it ends on %s", self._chain, day(self._ends))
        except (OSError, ValueError) as error:  # it is just being written, or is no good: the older one serves on
            _log.warning("the certificate %s can't be read anew (%s): the older one serves on", self._chain, error)
        if self._ends <= now:
            _log.warning("the certificate %s ended on %s: no gateway takes it", self._chain, day(self._ends))
        elif self._ends - now < WARNED_SECONDS:
            _log.warning("the certificate %s ends on %s: write a new one there", self._chain, day(self._ends))

    def _load(self) -> float:
        self.context.load_cert_chain(self._chain, self._key)
        return not_after(self._chain.read_bytes())

    def _stamped(self) -> tuple[tuple[int, int, int], ...]:
        """Return what tells whether the files are others than before."""
        found = [path.stat() for path in (self._chain, self._key) if path is not None]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)
