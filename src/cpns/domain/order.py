"""What is newer of what arrives about one thing: for a copy of something whose truth is another's, who counts versions.

The other one tells of changes, and answers when we ask; on the way an answer may be overtaken by the news of a change.
So what counts is the version, and not what arrives last. One thing stands above it: whose truth it is may name a lower
version (its store was set back), and is believed where we asked after all that we know: then nothing was overtaken.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A request, as it leaves.

    Attributes:
        known: how many times we had learned of something new by then.
    """

    known: int


class Order:
    """The order of what we learn about one thing. Each method says whether to take up what arrived, or to drop it."""

    def __init__(self) -> None:
        self._newest: float = 0
        """Its version; infinite where we know that the thing is none of ours any more, and of no version."""
        self._known = 0

    def ask(self) -> Question:
        """Note that a request leaves now."""
        return Question(self._known)

    def is_last(self, question: Question) -> bool:
        """Whether we learned of nothing since a request left: then its answer is newer than all that we know."""
        return question.known == self._known

    def told(self, version: int, *, again: bool = False) -> bool:
        """Take up a change that we are told of unasked, with the version that it made.

        Args:
            version: of the thing after it.
            again: that version may be told of in parts.
        """
        return (version > self._newest or (again and version == self._newest)) and self._learn(version)

    def answered(self, question: Question, version: int) -> bool:
        """Take up the answer to a request: the thing as it is in *version*."""
        return (version > self._newest or self.is_last(question)) and self._learn(version)

    def refused(self, question: Question) -> bool:
        """Take up that it is none of ours, as the answer to a request."""
        return self.is_last(question) and self._learn(math.inf)

    def left(self) -> None:
        """It is none of ours from now on, whatever was asked before: we gave it up ourselves."""
        self._learn(math.inf)

    def _learn(self, version: float) -> bool:
        self._newest = version
        self._known += 1
        return True
