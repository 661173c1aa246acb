"""Under load an M1 has to show that it comes from where it says: it comes again with the cookie that was sent there.

The cookie is an Echo option (RFC 9175 2.4): the number of a key of ours, and what that key makes of the M1 and its
address. So nothing is kept of who asks.
"""

from typing import Final, NamedTuple

from cpns.crypto.cookie import CookieKey
from cpns.crypto.secret import Secret
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness
from cpns.wire.registry import KEY_BYTES

KEY_SECONDS: Final = 60.0
"""After so long there is a new key; the one before is good for as long again."""
NUMBERS: Final = 256


class Asker(NamedTuple):
    """What a cookie is for: an M1, and the address that it names as its own."""

    host: str
    port: int
    entity: EntityId
    rand: bytes


class _Key(NamedTuple):
    number: int
    key: CookieKey
    since: float


class Cookies:
    """Those of one PN GW."""

    def __init__(self, clock: Clock, random: Randomness) -> None:
        self._clock = clock
        self._random = random
        self._keys: tuple[_Key, ...] = ()
        """The newest and the one before, of those that were needed."""

    def made_for(self, asker: Asker) -> bytes:
        """Return the cookie that is sent to *asker*, 9 bytes."""
        now = self._clock.monotonic()
        if not self._keys or now >= self._keys[0].since + KEY_SECONDS:
            number = (self._keys[0].number + 1) % NUMBERS if self._keys else 0
            drawn = _Key(number, CookieKey(Secret(self._random(KEY_BYTES))), now)
            self._keys = (drawn, *self._keys[:1])
        number, key, _ = self._keys[0]
        return bytes((number,)) + key.tag(*asker)

    def fits(self, cookie: bytes | None, asker: Asker) -> bool:
        """Return whether *cookie* was made for *asker*, not long ago; another one is as good as none."""
        if not cookie:
            return False
        now = self._clock.monotonic()
        good = [one for one in self._keys if one.number == cookie[0] and now < one.since + 2 * KEY_SECONDS]
        return bool(good) and good[0].key.is_tag(cookie[1:], *asker)
