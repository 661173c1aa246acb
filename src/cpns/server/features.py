"""The features of the server, one a line: each class that is imported here is made with each server process."""

from typing import Final

from cpns.server.access import Access as Access
from cpns.server.changing import Changing as Changing
from cpns.server.feature import Feature
from cpns.server.groups import Groups as Groups
from cpns.server.messages import Messages as Messages
from cpns.server.networks import Networks as Networks
from cpns.server.presence import Presence as Presence
from cpns.server.pushes import Pushes as Pushes
from cpns.server.readings import Readings as Readings

FEATURES: Final[tuple[type[Feature], ...]] = tuple(
    one for one in list(globals().values()) if isinstance(one, type) and issubclass(one, Feature) and one is not Feature
)
