"""What a user is told where an address can't be had: the cause, whichever event loop it is, over UDP and TCP."""

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cpns.cli import workers
from cpns.errors import Unavailable
from cpns.transport.address import not_had, resolve
from cpns.transport.endpoint import Endpoint
from tests.support.world import SERVER, World, world

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
NOT_HAD = {
    "192.0.2.7": ("bad_address", "192.0.2.7:5: this machine does not have it"),
    "2001:db8::7": ("bad_address", "[2001:db8::7]:5: this machine "),
    "256.0.0.1": ("bad_address", "256.0.0.1:5: there is no such host ("),
}


def told(kind: str, loop: str, host: str, port: int) -> Unavailable:
    """Return what is said where we can't be at an address."""

    async def attempt() -> None:
        endpoint = Endpoint(SERVER, None, None)  # type: ignore[arg-type]  # nothing comes in
        try:
            await (endpoint.open_pan(host, port) if kind == "udp" else endpoint.listen(host, port))
        finally:
            await endpoint.close()

    with pytest.raises(OSError, match=r"\S") as error, asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(attempt())
    return not_had(host, port, error.value, "--here")


@pytest.mark.parametrize("host", NOT_HAD)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_an_address_that_is_not_there(kind: str, loop: str, host: str) -> None:
    code, says = NOT_HAD[host]
    error = told(kind, loop, host, 5)
    assert error.code == code
    assert says in error.sentence
    assert error.sentence.endswith("Give another --here.")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_an_address_that_another_has(kind: str, loop: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        if kind == "tcp":
            other.listen()
        port = other.getsockname()[1]
        error = told(kind, loop, "127.0.0.1", port)
    assert error.code == "address_taken"
    assert error.sentence == f"127.0.0.1:{port} is taken by another process: stop that, or give another --here."


async def at_the_server(here: World, host: str) -> None:
    await here.start_server(host=host, port=5)


async def at_a_gateway(here: World, host: str) -> None:
    await here.start_server()
    config = (await here.gateway_config("gw-1")).pans[0]
    await here.start_gateway(pans=(dataclasses.replace(config, host=host, port=5),))


async def at_the_workers(here: World, host: str) -> None:
    await here.start_server()
    workers.run(dataclasses.replace(here.server.config, host=host, port=5), lambda config, ready: 0)


@pytest.mark.parametrize("host", NOT_HAD)
@pytest.mark.parametrize("role", [at_the_server, at_a_gateway, at_the_workers])
async def test_each_role_says_so(
    role: Callable[[World, str], Coroutine[Any, Any, None]], host: str, tmp_path: Path
) -> None:
    async with world(tmp_path) as here:
        with pytest.raises(Unavailable) as error:
            await role(here, host)
    assert error.value.code == NOT_HAD[host][0]
    assert NOT_HAD[host][1] in error.value.sentence
    assert "None" not in error.value.sentence


@pytest.mark.parametrize("loop", LOOPS)
def test_an_address_keeps_its_zone(loop: str) -> None:
    name = socket.if_indextoname(1)
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(resolve(f"fe80::1%{name}", 5, [socket.AF_INET6])) == [("fe80::1", 5, 0, 1)]
        with pytest.raises(OSError, match=r"\S"):
            runner.run(resolve("fe80::1%nowhere", 5, [socket.AF_INET6]))
        with pytest.raises(OSError, match="no address of a kind that we have"):
            runner.run(resolve("::1", 5, [socket.AF_INET]))
