"""One thread that does one thing after the other for an event loop.

An executor does as much, and more: for one commit it costs as much as the store takes for three readings.
"""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Worker:
    """See the module. It begins at once, and ends with `close`, or with the process.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[tuple[asyncio.Future[None], Callable[..., None], tuple[Any, ...]] | None]
        self._given = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, function: Callable[..., None], *arguments: Any) -> asyncio.Future[None]:  # noqa: ANN401
        """Call *function* when all that was given before is done; the future has what it raises."""
        future = asyncio.get_running_loop().create_future()
        self._given.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Finish what was given."""
        self._given.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            future, function, arguments = given
            failed: BaseException | None = None
            try:
                function(*arguments)
            except BaseException as error:
                failed = error
            try:
                future.get_loop().call_soon_threadsafe(_tell, future, failed)
            except RuntimeError:  # the loop is closed: nobody waits
                continue


def _tell(future: asyncio.Future[None], failed: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if failed is None:
        future.set_result(None)
    else:
        future.set_exception(failed)
