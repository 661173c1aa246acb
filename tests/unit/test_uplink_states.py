"""The life of an uplink: each event in each state, what holds after any of them, and how it runs in virtual time."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, NoAnswer
from cpns.gateway import uplink
from cpns.gateway import uplink_states as s
from cpns.gateway.config import GatewayConfig
from cpns.gateway.uplink import BACKOFF, LET_GO_SECONDS, LONGEST_REFUSED, PING_SECONDS, PINGS, RETURN_SECONDS, Uplink
from cpns.ids import EntityId
from cpns.service.life import Life
from cpns.session.table import Sessions
from cpns.transport.errors import Answer, Code
from tests.support.virtual import VirtualTime

FIRST, SECOND = cast(Any, "first"), cast(Any, "second")
STATES: Final[dict[str, s.State]] = {
    "connecting": s.Connecting(1.0),
    "outdated": s.Outdated(1.0),
    "pausing": s.Pausing(1.0),
    "stands": s.Stands(FIRST),
    "letting-go": s.LettingGo(FIRST),
}
EVENTS: Final[dict[str, s.Event]] = {
    "stood": s.Stood(SECOND),
    "failed": s.Failed(),
    "pause over": s.PauseOver(),
    "let go": s.LetGo(),
    "kept": s.Kept(FIRST),
    "kept another": s.Kept(SECOND),
    "lost": s.Lost(FIRST, 2.0),
    "lost another": s.Lost(SECOND, 2.0),
    "renewed": s.Renewed(2.0),
}
LEADS: Final[dict[str, dict[str, s.State]]] = {
    "stood": {"connecting pausing stands letting-go": s.Stands(SECOND), "outdated": s.Connecting(1.0)},
    "failed": {"connecting": s.Pausing(1.0), "outdated": s.Connecting(1.0)},
    "pause over": {"pausing": s.Connecting(1.0)},
    "let go": {"stands": s.LettingGo(FIRST)},
    "kept": {"letting-go": s.Stands(FIRST)},
    "lost": {"stands letting-go": s.Pausing(2.0)},
    "renewed": {
        "pausing": s.Connecting(1.0),
        "connecting": s.Outdated(1.0),
        "stands letting-go": s.Connecting(2.0),
    },
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    life = Life(s.TRANSITIONS, STATES[state])
    found = [target for sources, target in LEADS.get(event, {}).items() if state in sources.split()]
    assert life.happens(EVENTS[event]) is bool(found)
    assert life.state == (found[0] if found else STATES[state])


def test_there_is_a_case_for_each_row() -> None:
    assert {type(one) for one in EVENTS.values()} == set(s.TRANSITIONS.events)
    assert {type(one) for one in STATES.values()} == set(s.TRANSITIONS.states)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*EVENTS.values(), s.Stood(FIRST)]), max_size=40))
def test_whatever_happens_in_whatever_order(happened: list[s.Event]) -> None:
    life: Life[s.State, s.Event] = Life(s.TRANSITIONS, s.Connecting(0.0))
    stood: list[object] = []
    for event in happened:
        before = life.state
        life.happens(event)
        after = life.state
        if isinstance(event, s.Stood) and not isinstance(before, s.Outdated):
            assert after == s.Stands(event.standing)
            stood.append(event.standing)
        if isinstance(after, s.Up):
            assert after.standing is stood[-1]  # the newest, and none that was not proven
        if isinstance(before, s.Up) and isinstance(after, s.Down):
            assert isinstance(event, s.Lost | s.Renewed)
            assert after.since == event.since
        if isinstance(before, s.Down) and isinstance(after, s.Down):
            assert after.since == before.since  # it is away since it was lost, however often it is tried


# in virtual time


class FakeLink:
    """A connection to a server that answers or not, and closes when it is told to."""

    def __init__(self, site: "Site", server: tuple[str, int]) -> None:
        self.site, self.server = site, server
        self.closed = False
        self.heard_at = site.time.monotonic()

    @property
    def silence(self) -> float:
        return self.site.time.monotonic() - self.heard_at

    async def exchange(self, path: str, payload: bytes, *, timeout: float, session: Any) -> Answer:
        self.site.asked.append((self.site.time.monotonic(), path))
        if self.site.mute or self.closed:
            await self.site.time.sleep(timeout)
            raise NoAnswer("no_answer")
        self.heard_at = self.site.time.monotonic()
        return Answer(Code.CHANGED, b"")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.site.uplink.lost(cast(Any, self))


class Site:
    """One uplink, and the servers around it.

    Attributes:
        there: ports of servers that can be reached.
        refuses: what a server says to our proof.
        mute: whether the server answers nothing any more.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(uplink, "session_of", self._session)
        patch.setattr(uplink, "is_reachable", self._is_reachable)
        self.time = VirtualTime()
        self.config = GatewayConfig(
            EntityId("gw-1"),
            EntityId("server.example"),
            "one",
            1,
            pans=(),
            keepalive=20.0,
            session_age=3600.0,
            more_servers=(("two", 2),),
            server_order=True,
        )
        self.there = {1, 2}
        self.refuses: Exception | None = None
        self.mute = False
        self.proved: list[float] = []
        self.asked: list[tuple[float, str]] = []
        self.links: list[FakeLink] = []
        self.prepared: list[Any] = []
        endpoint = SimpleNamespace(connect=self._connect, name=lambda link, name: None)
        claim = SimpleNamespace(prove=self._prove, stands=self._stands, challenged=lambda challenge: None)
        self.sessions = Sessions()
        self.uplink = Uplink(
            self.config, cast(Any, endpoint), self.sessions, self.time, lambda size: bytes([1]), cast(Any, claim)
        )
        self.uplink.prepares(self._prepare)
        self.setups: list[int] = []
        self.uplink.carries(self.setups)
        self.runs: list[asyncio.Task[None]] = []

    async def _connect(self, host: str, port: int, tls: Any) -> FakeLink:
        if port not in self.there:
            raise ConnectionRefusedError
        self.links.append(FakeLink(self, (host, port)))
        return self.links[-1]

    async def _prove(self, link: Any, kid: bytes) -> Any:
        self.proved.append(self.time.monotonic())
        await self.time.sleep(0.5)
        if self.refuses is not None:
            raise self.refuses
        keys = SimpleNamespace(exporter=lambda: Secret(bytes(32)))
        return SimpleNamespace(keys=keys), Secret(bytes(32))

    def _session(self, established: Any, since: float) -> Any:
        return SimpleNamespace(since=since, until=0.0, protection=None, own_kid=b"k", peer_id="server.example")

    async def _is_reachable(self, host: str, port: int, seconds: float) -> bool:
        return port in self.there

    async def _stands(self) -> None:
        """Nothing is done once it stands."""

    async def _prepare(self, standing: Any) -> None:
        self.prepared.append(standing)

    def begin(self, *more: Any) -> None:
        self.runs = [asyncio.create_task(one) for one in (self.uplink.stay(), *more)]

    async def close(self) -> None:
        for one in self.runs:
            one.cancel()
        await asyncio.gather(*self.runs, return_exceptions=True)

    @property
    def port(self) -> int | None:
        standing = self.uplink.standing
        return None if standing is None else cast(Any, standing.link).server[1]


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    one = Site(monkeypatch)
    yield one
    await one.close()


def between(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in itertools.pairwise(times)]


async def test_it_stands_and_is_asked_for_a_sign_of_life_when_it_is_silent(site: Site) -> None:
    site.begin()
    await site.time.passes(1000)
    assert site.port == 1
    assert len(site.proved) == 1
    assert [path for _, path in site.asked] == ["ping"] * len(site.asked)
    assert len(site.asked) > 1000 / (site.config.keepalive + 1) - 2
    assert all(20.0 - 1e-6 <= one <= 20.0 + 1e-6 for one in between([at for at, _ in site.asked]))


async def test_one_that_is_silent_is_given_up(site: Site) -> None:
    site.begin()
    await site.time.passes(1.0)
    site.mute = True
    silent_at = site.links[0].heard_at
    await site.time.passes(site.config.keepalive + PINGS * PING_SECONDS - 1.0)
    assert site.links[0].closed
    assert isinstance(site.uplink.life.state, s.Pausing)
    assert site.uplink.life.state.since == silent_at  # it is away since then, and not since that was noticed
    assert site.uplink.away == site.time.monotonic() - silent_at
    site.mute = False
    await site.time.passes(BACKOFF[0] + 1.0)
    assert site.port is not None
    assert site.uplink.away == 0.0


async def test_it_proves_itself_anew_when_its_session_is_old(site: Site) -> None:
    site.begin()
    await site.time.passes(2 * 3600)
    assert len(site.proved) == 2
    assert [one.closed for one in site.links] == [True, False]
    assert all(3600 <= age < 3600 + site.config.keepalive + 1 for age in between(site.proved))


@pytest.mark.parametrize("how", ["away", "refused"])
async def test_it_tries_on_after_longer_and_longer_pauses(site: Site, how: str) -> None:
    if how == "away":
        site.there.clear()
    else:
        site.refuses = AuthenticationFailed("refused_with_21")
    site.begin()
    await site.time.passes(5400)
    assert site.uplink.last_refusal
    assert site.uplink.away == 5400
    if how == "refused":
        pauses = [one - 0.5 for one in between(site.proved)]
        assert max(pauses) > LONGEST_REFUSED / 2
        assert len(pauses) < 5400 / (LONGEST_REFUSED / 2) + 12
    site.there, site.refuses = {1, 2}, None
    await site.time.passes(LONGEST_REFUSED + 1)
    assert site.port is not None
    assert site.uplink.last_refusal == ""


async def test_who_waits_for_it_waits_as_long_as_it_may(site: Site) -> None:
    site.there.clear()
    site.begin()
    waits = asyncio.create_task(site.uplink.wait(60))
    await site.time.passes(59)
    assert not waits.done()
    await site.time.passes(1)
    with pytest.raises(NoAnswer, match="uplink_away"):
        await waits
    waits = asyncio.create_task(site.uplink.wait(60))
    site.there = {1}
    await site.time.passes(30)
    assert (await waits) is site.prepared[0]


async def test_another_key_is_proven_at_once(site: Site) -> None:
    site.begin()
    await site.time.passes(10)
    site.uplink.renew()
    assert site.uplink.standing is None
    assert site.links[0].closed
    await site.time.settle()
    assert site.proved == [0.0, 10.0]
    await site.time.passes(1.0)
    assert site.port == 1


async def test_an_uplink_that_is_proven_with_an_older_key_is_not_taken_up(site: Site) -> None:
    site.begin()
    await site.time.passes(0.25)
    site.uplink.renew()
    await site.time.passes(0.25)
    assert site.uplink.standing is None
    assert site.links[0].closed
    await site.time.passes(0.5)
    assert site.proved == [0.0, 0.5]
    assert site.uplink.standing is not None
    assert len(site.sessions) == 1


async def test_another_key_ends_a_pause(site: Site) -> None:
    site.refuses = AuthenticationFailed("refused_with_21")
    site.begin()
    await site.time.passes(3600)
    tried = len(site.proved)
    await site.time.until(lambda: isinstance(site.uplink.life.state, s.Pausing))
    site.refuses = None
    site.uplink.renew()
    await site.time.passes(0.5)
    assert len(site.proved) == tried + 1
    assert site.port is not None


async def test_it_goes_back_to_the_server_that_it_prefers_before_it_lets_go(site: Site) -> None:
    site.there = {2}
    site.begin(site.uplink.come_back())
    await site.time.passes(30)
    assert site.port == 2
    older = site.links[0]
    site.there = {1, 2}
    await site.time.until(lambda: len(site.proved) == 2)
    assert site.port == 2
    await site.time.passes(0.5)
    assert site.port == 1
    assert not older.closed  # what is under way there comes to its end
    await site.time.passes(LET_GO_SECONDS)
    assert older.closed
    assert site.port == 1


@pytest.mark.parametrize("why", ["a setup runs", "it is refused there"])
async def test_it_stays_where_it_is(site: Site, why: str) -> None:
    site.there = {2}
    site.begin(site.uplink.come_back())
    await site.time.passes(30)
    before = site.uplink.standing
    site.there = {1, 2}
    if why == "a setup runs":
        site.setups.append(1)
    else:
        site.refuses = AuthenticationFailed("refused_with_21")
    await site.time.passes(4 * RETURN_SECONDS)
    assert site.uplink.standing is before
    assert isinstance(site.uplink.life.state, s.Stands)
    assert (len(site.proved) > 1) is (why == "it is refused there")


async def test_between_the_proof_and_its_end_it_is_at_neither(site: Site) -> None:
    """Another server may have taken our proof: so nobody is told that we are at the older one."""
    site.there = {2}
    site.begin(site.uplink.come_back())
    await site.time.passes(30)
    (older,) = site.links
    asked: Any = SimpleNamespace(link=older)
    assert site.uplink.pinged(asked) == Answer(Code.CHANGED)
    site.there = {1, 2}
    await site.time.until(lambda: len(site.links) == 2)
    await site.uplink.challenged(cast(Any, SimpleNamespace(link=site.links[1])), cast(Any, "challenge"))
    assert isinstance(site.uplink.life.state, s.LettingGo)
    assert site.uplink.pinged(asked) is None
    assert site.port == 2
    await site.time.passes(0.5)
    assert site.port == 1
    assert site.uplink.pinged(asked) == Answer(Code.CHANGED)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one away", "both away", "there", "mute", "speaks", "closed", "renew", "setup", ""]),
            st.floats(0, 100),
        ),
        max_size=8,
    )
)
def test_whatever_happens_it_stands_in_the_end(happened: list[tuple[str, float]]) -> None:
    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            site = Site(patch)
            site.begin(site.uplink.come_back())
            for what, seconds in happened:
                if what in ("one away", "both away", "there"):
                    site.there = {"one away": {2}, "both away": set(), "there": {1, 2}}[what]
                elif what in ("mute", "speaks"):
                    site.mute = what == "mute"
                elif what == "closed" and site.uplink.standing is not None:
                    site.uplink.standing.link.close()
                elif what == "renew":
                    site.uplink.renew()
                elif what == "setup":
                    site.setups[:] = [] if site.setups else [1]
                await site.time.passes(seconds)
                standing = [one for one in site.links if not one.closed]
                assert len(standing) <= 2  # that which serves, and one that is tried or let go
                assert (site.uplink.standing is None) is isinstance(site.uplink.life.state, s.Down)
            site.there, site.mute = {1, 2}, False
            site.setups.clear()
            await site.time.passes(site.config.keepalive + PINGS * PING_SECONDS + BACKOFF[1] + 2)
            assert site.uplink.standing is not None
            await site.time.passes(5 * RETURN_SECONDS)
            assert site.port == 1
            assert [one.server[1] for one in site.links if not one.closed] == [1]
            await site.close()
            assert site.uplink.standing is None

    asyncio.run(run())
