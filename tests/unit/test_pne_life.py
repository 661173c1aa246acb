"""How a PNE stays joined, in virtual time: its pauses, its signs of life, its renewals, over hours and years."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.crypto.secret import Secret
from cpns.errors import NoAnswer
from cpns.ids import EntityId
from cpns.pne import loyalty, outbox
from cpns.pne import states as s
from cpns.pne.config import PneConfig, Where
from cpns.pne.life import PneLife
from cpns.pne.loyalty import LOYALTY_SECONDS, SIGN_SECONDS, Loyalty
from cpns.pne.outbox import Outbox
from cpns.pne.staying import BACKOFF, FOUND_SECONDS, Staying
from cpns.pne.way import ToServer
from cpns.transport.errors import Answer, Code
from tests.support.virtual import VirtualTime

CONFIG = PneConfig(EntityId("watch"), EntityId("server.example"), Secret(bytes(32)), session_age=3600.0)


class Stage:
    """What surrounds the life of one PNE, played: a PN GW that lets it in, or does not.

    Attributes:
        tried: when it set up.
        looked: when it looked after the PN GW.
        lets_in, answers: what the PN GW does.
    """

    def __init__(self, config: PneConfig = CONFIG) -> None:
        self.time = VirtualTime()
        self.life = PneLife()
        self.tried: list[float] = []
        self.looked: list[float] = []
        self.found: list[float] = []
        self.lets_in = self.answers = True
        self.turn = asyncio.Lock()
        self.link = cast(Any, SimpleNamespace(request=self._request))
        self.serves: Callable[[str], Answer | None] = lambda path: Answer(Code.CHANGED, b"")
        finder = SimpleNamespace(
            where=Where(),
            preferred=None,
            patience=1.0,
            has_choice=True,
            link=self._link,
            failed=lambda: False,
            told=str,
            say_we_wait=self._say_we_wait,
        )
        self.way = ToServer(6.0, self.life, self.time)
        self.parts: dict[str, Any] = {
            "config": config,
            "life": self.life,
            "finder": finder,
            "join": SimpleNamespace(turn=self.turn),
            "presence": SimpleNamespace(look=self._look),
            "time": self.time,
        }
        endpoint: Any = SimpleNamespace(name=lambda link, name: None)
        self.staying = Staying(**self.parts, endpoint=endpoint, arrival=cast(Any, SimpleNamespace(through=self.comes)))
        self.runs: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.runs = asyncio.create_task(self.staying.stay_joined())

    @property
    def is_done(self) -> bool:
        return self.runs is not None and self.runs.done()

    async def close(self) -> None:
        if self.runs is not None:
            self.runs.cancel()
            await asyncio.gather(self.runs, return_exceptions=True)

    async def _link(self) -> Any:
        return self.link

    async def _say_we_wait(self, link: Any) -> None:
        self.found.append(self.time.monotonic())

    async def comes(self, link: Any, wanted: Any, patience: float | None = None) -> None:
        self.tried.append(self.time.monotonic())
        if not self.lets_in:
            await self.time.sleep(1.0)
            raise NoAnswer("no_answer")
        session = SimpleNamespace(since=self.time.monotonic(), protection=None)
        joined = SimpleNamespace(pn_id="pn", gateway_id="gw")
        at = s.Attachment(self.link, cast(Any, joined), cast(Any, session))
        self.life.happens(s.TakenUp(at))
        self.life.happens(s.Welcomed(at, 0))

    async def _look(self) -> None:
        self.looked.append(self.time.monotonic())
        if not self.answers:
            raise NoAnswer("no_answer")
        self.life.happens(s.Looked(0))

    async def _request(self, path: str, payload: bytes, **_: Any) -> Answer:
        answer = self.serves(path)
        if answer is None:
            await self.time.sleep(6.0)
            raise NoAnswer("no_answer")
        return answer


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    one = Stage()
    yield one
    await one.close()


def between(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in itertools.pairwise(times)]


async def test_it_tries_on_after_longer_and_longer_pauses(stage: Stage) -> None:
    stage.lets_in = False
    stage.begin()
    await stage.time.passes(1200)
    pauses = between(stage.tried)
    assert 1200 / (BACKOFF[1] + 1) < len(pauses) < 1200 / (BACKOFF[1] / 2)
    longest = BACKOFF[0]
    for pause in pauses:
        assert longest / 2 <= pause - 1.0 <= longest + 1e-6
        longest = min(2 * longest, BACKOFF[1])
    stage.lets_in = True
    await stage.time.passes(BACKOFF[1] + 1.0)
    assert stage.life.stands is not None


async def test_it_gives_signs_of_life_and_renews_its_sessions_for_hours(stage: Stage) -> None:
    """Nothing is left behind by a renewal, and no pause grows."""
    stage.begin()
    await stage.time.passes(3 * 3600)
    assert len(stage.tried) == 3
    assert all(3600 <= age <= 3600 + CONFIG.presence + BACKOFF[0] for age in between(stage.tried))
    assert all(one >= CONFIG.presence - 1e-6 for one in between(stage.looked))
    assert len(stage.looked) > 3 * (3600 / CONFIG.presence - 3)


async def test_a_doubt_is_looked_into_at_once(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    stage.life.suspect(stage.life.session, lost=False)
    await stage.time.settle()
    assert stage.looked == [1.0]
    assert isinstance(stage.life.state, s.Attached)


async def test_who_sets_up_at_this_moment_is_not_looked_after(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    async with stage.turn:
        stage.life.suspect(stage.life.session, lost=False)
        await stage.time.passes(100.0)
        assert stage.looked == []
        assert isinstance(stage.life.state, s.Attached)
    await stage.time.passes(CONFIG.presence)
    assert len(stage.looked) == 1


@pytest.mark.parametrize("how", ["lost", "silent"])
async def test_what_is_lost_is_set_up_anew_soon(stage: Stage, how: str) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    if how == "lost":
        stage.life.suspect(stage.life.session, lost=True)
    else:
        stage.answers = False
        await stage.time.passes(CONFIG.presence - 1.0)
    assert stage.life.stands is None
    stage.answers = True
    await stage.time.passes(BACKOFF[0])
    assert stage.life.stands is not None
    assert len(stage.tried) == 2


async def test_who_is_put_out_is_in_no_hurry(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    assert stage.life.last is not None
    stage.life.happens(s.Expelled(stage.life.last))
    await stage.time.passes(BACKOFF[1] / 2 - 0.01)
    assert isinstance(stage.life.state, s.PutOut)
    assert len(stage.tried) == 1
    await stage.time.passes(BACKOFF[1])
    assert len(stage.tried) == 2


async def test_it_does_nothing_while_it_sleeps(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    stage.life.happens(s.FellAsleep())
    stage.life.suspect(stage.life.session, lost=True)
    await stage.time.passes(24 * 3600)
    assert (stage.looked, len(stage.tried)) == ([], 1)
    stage.life.happens(s.WokeUp())
    await stage.time.passes(BACKOFF[0])
    assert len(stage.tried) == 2


async def test_it_looks_after_its_gateway_when_it_wakes_after_long(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    stage.life.happens(s.FellAsleep())
    await stage.time.passes(600)
    stage.life.happens(s.WokeUp())
    await stage.time.settle()
    assert len(stage.looked) == 1


async def test_who_leaves_is_done(stage: Stage) -> None:
    stage.begin()
    await stage.time.passes(1.0)
    stage.life.happens(s.WentAway())
    await stage.time.settle()
    assert stage.is_done


async def test_who_goes_elsewhere_waits_for_no_attempt(stage: Stage) -> None:
    stage.lets_in = False
    stage.begin()
    await stage.time.settle()
    assert stage.turn.locked()
    stage.staying.interrupt()
    await stage.time.settle()
    assert not stage.turn.locked()


async def test_who_waits_to_be_invited_says_that_it_is_there() -> None:
    stage = Stage(PneConfig(EntityId("watch"), EntityId("server.example"), Secret(bytes(32)), waits=True))
    stage.begin()
    await stage.time.passes(10 * FOUND_SECONDS)
    assert between(stage.found) == [FOUND_SECONDS] * 10
    await stage.comes(stage.link, None)  # somebody invited it
    await stage.time.passes(10 * FOUND_SECONDS)
    assert len(stage.found) == 11
    await stage.close()


@pytest.mark.parametrize("how", ["says that it has no uplink", "carries nothing"])
async def test_it_leaves_a_gateway_that_does_not_carry_it(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float] = []

    async def elsewhere() -> None:
        left.append(stage.time.monotonic())

    async def says_nothing() -> None:
        """It says on that it has none."""

    roaming: Any = SimpleNamespace(elsewhere=elsewhere)
    watch = Loyalty(**stage.parts, way=stage.way, roaming=roaming)
    watching = asyncio.ensure_future(watch.watch())
    stage.begin()
    await stage.time.passes(1.0)
    began = stage.time.monotonic()
    if how == "carries nothing":
        stage.serves = lambda path: None
        began += CONFIG.sign_of_life * 0.9 + SIGN_SECONDS
    else:
        stage.parts["presence"].look = says_nothing
        assert stage.life.last is not None
        stage.life.happens(s.Welcomed(stage.life.last, 60))
    assert watch.is_carried is (how == "carries nothing")
    await stage.time.passes(900)
    assert not watch.is_carried
    assert left[0] - began >= LOYALTY_SECONDS
    assert all(LOYALTY_SECONDS * 2 <= one <= 2 * loyalty.LONGEST_LOYALTY for one in between(left))
    watching.cancel()
    await watch.close()


async def test_a_reading_is_sent_until_it_is_acknowledged_whatever_is_lost(stage: Stage) -> None:
    sent: list[float] = []

    async def exchange(path: str, payload: bytes) -> Answer:
        sent.append(stage.time.monotonic())
        return await stage.way.exchange(path, payload)

    out = Outbox(bytes(8), stage.life, exchange, stage.time)
    stage.begin()
    stage.serves = lambda path: None
    sending = asyncio.ensure_future(out.send(out.reading({"n": 1})))
    await stage.time.passes(600)
    assert not sending.done()
    assert len(stage.tried) >= len(sent) // outbox.SILENCES  # it joins anew each third time
    stage.serves = lambda path: Answer(Code.CHANGED, b"")
    await stage.time.passes(7.0)
    await sending


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["lost", "doubt", "sleep", "wake", "out", "no way", "a way", ""]), st.floats(0, 40)),
        max_size=12,
    )
)
def test_whatever_happens_it_is_back_in_the_end(happened: list[tuple[str, float]]) -> None:
    """Awake, and with a PN GW that lets it in, it stands again within its longest pause and an attempt."""

    async def run() -> None:
        stage = Stage()
        stage.begin()
        for what, seconds in happened:
            last = stage.life.last
            if what == "lost":
                stage.life.happens(s.Lost())
            elif what == "doubt":
                stage.life.happens(s.Suspected())
            elif what == "sleep":
                stage.life.happens(s.FellAsleep())
            elif what == "wake":
                stage.life.happens(s.WokeUp())
            elif what == "out" and last is not None:
                stage.life.happens(s.Expelled(last))
            elif what in ("no way", "a way"):
                stage.lets_in = what == "a way"
            await stage.time.passes(seconds)
            assert not stage.is_done
        stage.life.happens(s.WokeUp())
        stage.lets_in = True
        await stage.time.passes(BACKOFF[1] + 1.0)
        assert stage.life.stands is not None
        stage.life.happens(s.WentAway())
        await stage.time.passes(BACKOFF[1])
        assert stage.is_done

    asyncio.run(run())
