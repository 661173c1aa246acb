"""Many peers are asked at once, and waited for as long as they are there: who is silent holds up nobody twice."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, TypeVar

from cpns.ids import EntityId
from cpns.service.background import Background

T = TypeVar("T")

MAX_UNDER_WAY: Final = 8
"""Questions to one silent peer that wait for its answer; beyond these it is not asked."""
MAX_SILENT: Final = 4096
"""Silent peers that are known; beyond these the one that is known longest is waited for once more."""
_NONE_COUNTS: Final = object()


class Patience(Generic[T]):
    """Who of the peers of one party answers in time.

    A peer that once did not is asked on, and not waited for, until it does, or is heard in another way. That sign is
    believed once: who does not answer after it either is not waited for until it answers.

    Args:
        seconds: that a peer has to answer.
        sign_of: returns the last sign of life of a peer: another value than before is a new one.
    """

    def __init__(self, seconds: float, sign_of: Callable[[EntityId], object]) -> None:
        self._seconds = seconds
        self._sign_of = sign_of
        self._silent: dict[EntityId, object] = {}
        """Who did not answer in time, and its last sign of life by then, or `_NONE_COUNTS`."""
        self._under_way: Counter[EntityId] = Counter()
        self._work = Background()

    async def close(self) -> None:
        """Ask no more."""
        await self._work.close()

    async def ask(self, questions: Mapping[EntityId, Callable[[], Coroutine[Any, Any, T]]]) -> dict[EntityId, T]:
        """Ask each peer its question; return the answers of those that are there.

        Args:
            questions: each awaits the answer of one peer, and raises nothing.
        """
        asked = {
            peer: self._work.start(self._asked(peer, question))
            for peer, question in questions.items()
            if self._is_there(peer) or self._under_way[peer] < MAX_UNDER_WAY
        }
        awaited = {peer: task for peer, task in asked.items() if self._is_there(peer)}
        if awaited:
            await asyncio.wait(awaited.values(), timeout=self._seconds)
        for peer, task in awaited.items():
            if not task.done():
                self._is_silent(peer)
        return {peer: task.result() for peer, task in asked.items() if task.done() and not task.cancelled()}

    def _is_there(self, peer: EntityId) -> bool:
        return peer not in self._silent or self._silent[peer] not in (_NONE_COUNTS, self._sign_of(peer))

    def _is_silent(self, peer: EntityId) -> None:
        sign = self._sign_of(peer)
        heard_since = self._silent.get(peer, sign) != sign
        self._silent[peer] = _NONE_COUNTS if heard_since else sign
        if len(self._silent) > MAX_SILENT:
            del self._silent[next(iter(self._silent))]

    async def _asked(self, peer: EntityId, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        began = asyncio.get_running_loop().time()
        self._under_way[peer] += 1
        try:
            answer = await question()
        finally:
            self._under_way[peer] -= 1
            if not self._under_way[peer]:
                del self._under_way[peer]
        if asyncio.get_running_loop().time() - began < self._seconds:
            self._silent.pop(peer, None)
        return answer
