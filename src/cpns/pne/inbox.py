"""Texts that the server pushed: each is given to the application once."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cpns.wire.application import Push

REMEMBERED: Final = 64
"""Pushes whose answers are kept, in case the server did not get one and sends the push again."""

Take = Callable[[str], str]
"""Takes a text; returns the text of the answer. Raises `NoAnswer` where it could not be taken."""


class Inbox:
    """The pushes of one PNE."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._answers: OrderedDict[bytes, str] = OrderedDict()

    def receive(self, push: Push) -> str:
        """Return the application's answer to *push*; one that came before is only answered again."""
        if push.push_id not in self._answers:
            self._answers[push.push_id] = self._take(push.text)
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return self._answers[push.push_id]
