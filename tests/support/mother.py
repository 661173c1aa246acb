"""A process that has imported all of `cpns`, and forks one for each command: run by `tests.support.forked`.

It uses nothing but Python's own library, as `cpns` may be of another version.

    python -P mother.py DESCRIPTOR

The descriptor is that of a socket. What comes on it is one command: a JSON object, with the three standard streams and
a pipe. What goes back is the number of the process; its exit status comes through the pipe.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any


def load() -> None:
    """Import all modules of `cpns`, but for those that do something as they are imported."""
    package = importlib.import_module("cpns")
    for one in pkgutil.walk_packages(package.__path__, "cpns."):
        if not one.name.startswith("cpns.store.migrations.") and not one.name.endswith(".__main__"):
            importlib.import_module(one.name)
    for name in MORE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


MORE = ("anyio._core._sockets", "cryptography.hazmat.backends.openssl.backend", "httpcore", "pydantic.v1", "uvloop")
"""What is imported late."""
CLONE_NEWNET = 0x40000000
"""``linux/sched.h``."""


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each command; return in the new process, with its command. Ends with the tests."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then end it
    told: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap(told)
        if control.fileno() in ready:
            said, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not said:
                sys.exit()
            *streams, status = descriptors
            process = os.fork()
            if not process:
                control.detach()
                become(streams)
                command: dict[str, Any] = json.loads(said)
                return command
            told[process] = status
            for one in streams:
                os.close(one)
            control.send(str(process).encode())


def reap(told: dict[int, int]) -> None:
    """Tell how those ended that did."""
    for process in list(told):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            pipe = told.pop(process)
            os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(pipe)


def become(streams: Sequence[int]) -> None:
    """Have the signals and descriptors of a process that was just started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def enter(namespace: str) -> None:
    """Go into a network namespace, as ``ip netns exec`` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def main() -> None:
    load()
    gc.freeze()
    command = serve(socket.socket(fileno=int(sys.argv[1])))
    if command["namespace"]:
        enter(command["namespace"])
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    sys.path.insert(0, command["folder"])  # as `-m` does
    sys.argv = ["", *command["arguments"]]
    module = command["module"]
    if not hasattr(sys.modules.get(module), "__path__"):  # a package has another module for that
        sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
