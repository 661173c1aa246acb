"""The time of tests whose parties are all in one process: nobody waits for a timer.

Their clock runs while this process computes, and stands while others have the cores: so nothing comes too late because
a machine is busy. When no socket is ready, it is set to the next timer. Sockets are real ones of the loopback.

Where something else goes on meanwhile, the clock runs as all do: while a thread works for the loop; and, once a test
has started another process, to its end.
"""

import asyncio
import selectors
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from cpns.store.worker import Worker
from cpns.transport import oscore

FOLDERS = ("integration", "hostile")
"""Those whose tests have such a clock, but for those that are marked ``real_time``."""

_monotonic, _day = time.monotonic, time.time


class Clock:
    """Gives the time of `time.monotonic`, and runs on from that of now.

    Attributes:
        along: whether it runs as that of the machine does.
    """

    def __init__(self) -> None:
        self.along = False
        self._runs: Callable[[], float] = time.process_time
        self._more = _monotonic() - self._runs()

    def now(self) -> float:
        """Return seconds that never go back."""
        return self._runs() + self._more

    def skip(self, seconds: float) -> None:
        """Be *seconds* later."""
        self._more += seconds

    def run_along(self) -> None:
        """Run as that of the machine from now on."""
        now = self.now()
        self.along, self._runs, self._more = True, _monotonic, now - _monotonic()


_clocks: list[Clock] = []
"""Those of the loops that are not closed."""


def run_along() -> None:
    """Have all clocks run as that of the machine from now on: another process is about to begin."""
    for clock in _clocks:
        clock.run_along()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with such a clock; until it is closed, that is the clock of the whole process."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.under_way = 0
        super().__init__(_Skipping(self))
        _clocks.append(self.clock)

    def noted(self, future: Any) -> Any:
        """Return *future*, which a thread works on."""
        self.under_way += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, future: object) -> None:
        self.under_way -= 1

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        return self.noted(super().run_in_executor(executor, func, *args))

    def close(self) -> None:
        if self.clock in _clocks:
            _clocks.remove(self.clock)
        super().close()


class _Skipping(selectors.DefaultSelector):
    """Waits for sockets; when none is ready, the loop's clock is set to the end of the wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._last = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._last.bind(("127.0.0.1", 0))
        self._last.connect(self._last.getsockname())
        self._last.settimeout(1.0)

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if ready or timeout == 0:
            return ready
        clock = self._loop.clock
        if timeout is None or self._loop.under_way or clock.along:
            return self._wait(timeout)
        self._arrive()
        ready = super().select(0)
        if not ready:
            clock.skip(timeout)
        return ready

    def _arrive(self) -> None:
        """Return when all has arrived that was sent: what the loopback takes in is given out in that order."""
        self._last.send(b"last")
        self._last.recv(4)

    def _wait(self, timeout: float | None) -> list[Any]:
        clock = self._loop.clock
        began, before = _monotonic(), clock.now()
        ready: list[Any] = super().select(timeout)
        clock.skip(max(0.0, _monotonic() - began - (clock.now() - before)))
        return ready

    def close(self) -> None:
        self._last.close()
        super().close()


def pytest_configure() -> None:
    """Have all that asks for the time ask the clock of the loop, where it has one."""
    begin, run = subprocess.Popen.__init__, Worker.run

    def monotonic() -> float:
        return _clocks[-1].now() if _clocks else _monotonic()

    def day() -> float:
        return _day() + monotonic() - _monotonic()

    def begins(process: Any, *arguments: Any, **options: Any) -> None:
        run_along()
        begin(process, *arguments, **options)

    def runs(worker: Worker, function: Callable[..., None], *arguments: Any) -> asyncio.Future[None]:
        future = run(worker, function, *arguments)
        loop = future.get_loop()
        return loop.noted(future) if isinstance(loop, VirtualLoop) else future

    patches = pytest.MonkeyPatch()
    patches.setattr(time, "monotonic", monotonic)
    patches.setattr(time, "time", day)
    patches.setattr(oscore, "monotonic", monotonic)
    patches.setattr(subprocess.Popen, "__init__", begins)
    patches.setattr(Worker, "run", runs)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop of a test."""
    virtual = item.path.parent.name in FOLDERS and item.get_closest_marker("real_time") is None
    return {"loop": VirtualLoop if virtual else asyncio.new_event_loop}
