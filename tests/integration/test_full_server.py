"""A server that has no place for a SETUP just now: its PN GW waits and sends again, and its PNEs hear nothing of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import Result
from cpns.server.access.authentication import Authentication
from cpns.shares.room import NoPlace
from cpns.wire import messages as m
from tests.support.tap import Scene, scene
from tests.support.world import World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


class Full:
    """A server without a place for the first *times* SETUPs; *late*: it says so once their PNEs have answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, *, late: bool = False) -> None:
        self.asked = 0
        admits = Authentication.pnes

        async def pnes(own: Authentication, request: Any, gateway: Any, ask: Any, half_open: Any) -> Any:
            self.asked += 1
            if self.asked > times:
                return await admits(own, request, gateway, ask, half_open)
            if late:

                async def refused(challenge: m.GatewayChallenge) -> m.GatewayProofs:
                    await ask(challenge)
                    raise NoPlace("gave_way")

                return await admits(own, request, gateway, refused, half_open)
            raise NoPlace("room_full")

        monkeypatch.setattr(Authentication, "pnes", pnes)


def setup_outcomes(on: Scene) -> list[Any]:
    """Return what PNEs were told of their SETUPs, error bodies too."""
    return [one.body for one in on.on_pan() if not one.up and isinstance(one.body, m.SetupResponse | m.ErrorBody)]


async def test_a_setup_waits_for_a_place_at_the_server(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    on = await scene(here)
    full = Full(monkeypatch, times=3)
    started = here.now()
    await here.joined_pne("pne-1", on.pan.address)
    assert full.asked == 4
    assert here.now() - started < 9.0, "it waited out a timer"
    assert [type(one) for one in setup_outcomes(on)] == [m.SetupResponse]


async def test_a_setup_whose_pnes_have_answered_is_not_sent_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNE answers once for its rand, so it begins anew by itself."""
    on = await scene(here)
    full = Full(monkeypatch, times=1, late=True)
    await here.start_pne("pne-1", on.pan.address, timer=1.0)
    await until(lambda: full.asked == 2)
    await until(lambda: here.server.sessions.with_peer("pne-1"))  # type: ignore[arg-type]
    told = [one for one in setup_outcomes(on) if isinstance(one, m.ErrorBody)]
    assert {one.result for one in told} <= {Result.NO_ANSWER}


async def test_a_pne_is_told_after_a_while_and_not_of_fullness(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.gateway.setup.FULL_PATIENCE", 0.5)
    on = await scene(here)
    Full(monkeypatch, times=10**6)
    await here.start_pne("pne-1", on.pan.address)
    await until(lambda: setup_outcomes(on))
    assert setup_outcomes(on)[0] == m.ErrorBody(Result.NO_ANSWER)
