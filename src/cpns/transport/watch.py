"""What an endpoint sent, for whoever watches: the ladder of the demo, the tests."""

from collections.abc import Callable
from dataclasses import dataclass

from cpns.ids import EntityId


@dataclass(frozen=True, slots=True)
class Passed:
    """One message that an endpoint sent.

    Attributes:
        peer: the entity it went to, as far as this end knows; else its address.
        what: the name of the CPNS message, or code or path of an application message.
        session: the profile that protected it, or ``-``.
    """

    sender: EntityId
    peer: str
    what: str
    session: str


Watch = Callable[[Passed], None]
