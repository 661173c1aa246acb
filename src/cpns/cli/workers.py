"""Several server processes at one address: ``cpns server run --workers``."""

import dataclasses
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from cpns.cli.run import say
from cpns.server.config import ServerConfig
from cpns.transport.address import not_had

_log = logging.getLogger("cpns.server")

PAUSE: Final = 1.0
"""Seconds before a worker that ended by itself is started again."""

Serve = Callable[[ServerConfig, Callable[[str], None]], int]
"""Serves in a process of its own, and says when it is ready; returns its exit code."""


def run(config: ServerConfig, serve: Serve) -> int:
    """Fork the workers, keep them running, and end them at SIGTERM or SIGINT; return the exit code.

    The kernel spreads connections over those that listen at the same address. The first has the admin socket.

    Raises:
        Unavailable: ``address_taken``, ``bad_address``.
    """
    with _reserved(config) as place:
        config = dataclasses.replace(config, port=place.getsockname()[1])
        return _Workers(config, serve).run()


def _reserved(config: ServerConfig) -> socket.socket:
    """Return a socket that holds the address without listening, so that it stays ours while workers come and go."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((config.host, config.port))
    except OSError as error:
        place.close()
        raise not_had(config.host, config.port, error, "--listen") from error
    return place


class _Workers:
    def __init__(self, config: ServerConfig, serve: Serve) -> None:
        self._config = config
        self._serve = serve
        self._numbers: dict[int, int] = {}
        self._ending = False
        self._ready = False
        self._parent_lives, self._lives = os.pipe()
        """What the workers read from, and what the parent alone holds open: its end is theirs, also after a SIGKILL."""

    def run(self) -> int:
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, self._end)
        signal.signal(signal.SIGHUP, self._hung_up)
        ready, told = os.pipe()
        for number in range(self._config.workers):
            self._fork(number, told)
        os.close(told)
        if not self._all_ready(ready):
            self._end()
        while self._numbers:
            process, status = self._next()
            number = self._numbers.pop(process)
            if not self._ending:
                _log.error("worker %d ended (%d); starting another", number, os.waitstatus_to_exitcode(status))
                time.sleep(PAUSE)
                self._fork(number, None)
        return 0 if self._ready else 1

    def _all_ready(self, ready: int) -> bool:
        """Wait until all workers serve; False where one ended before."""
        with os.fdopen(ready) as lines:
            addresses = [line.strip() for line in lines]  # until each has closed its end
        self._ready = len(addresses) == self._config.workers
        if self._ready and not self._ending:
            own, count = self._config.server_id, self._config.workers
            say(f"cpns server {own} listening at {addresses[0]}, {count} workers")
        return self._ready

    def _next(self) -> tuple[int, int]:
        while True:
            try:
                return os.wait()
            except InterruptedError:
                continue

    def _end(self, *_: object) -> None:
        self._ending = True
        for process in self._numbers:
            os.kill(process, signal.SIGTERM)

    def _end_with_parent(self) -> None:
        os.read(self._parent_lives, 1)  # nobody writes: it returns when the parent is gone
        os.kill(os.getpid(), signal.SIGTERM)

    def _hung_up(self, *_: object) -> None:
        for process in self._numbers:
            os.kill(process, signal.SIGHUP)

    def _fork(self, number: int, told: int | None) -> None:
        process = os.fork()
        if process:
            self._numbers[process] = number
            if self._ending:  # asked to in this moment
                os.kill(process, signal.SIGTERM)
            return
        code = 1
        try:
            for caught in (signal.SIGTERM, signal.SIGINT):
                signal.signal(caught, signal.SIG_DFL)
            os.close(self._lives)
            threading.Thread(target=self._end_with_parent, daemon=True).start()

            def ready(address: str) -> None:
                if told is not None:
                    os.write(told, f"{address}\n".encode())
                    os.close(told)

            code = self._serve(dataclasses.replace(self._config, first=number == 0), ready)
        except BaseException as error:
            _log.error("worker %d: %s", number, error)
        finally:
            os._exit(code)
