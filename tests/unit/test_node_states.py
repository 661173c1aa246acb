"""The life of a device with a PNE and a PN GW: each event in each state, and its changes of mode, in virtual time."""

import asyncio
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.node import modes, ways
from cpns.node import states as s
from cpns.node.app import Node
from cpns.node.cm import Keys
from cpns.node.config import NodeConfig, Prefer
from cpns.node.keying import PAUSES
from cpns.node.ways import GRACE, LONGEST_PAUSE
from cpns.pne.config import PneConfig, Where
from cpns.service.life import Life
from cpns.wire.pn_messages import GatewayChangeRequest
from cpns.wire.registry import Mode
from tests.support.virtual import VirtualTime

OWN, OTHER = (cast(Any, SimpleNamespace(pne=name, runs=None)) for name in ("own", "other"))
GATEWAY, ANOTHER = cast(Any, "gateway"), cast(Any, "another")
STATES: Final[dict[str, s.State]] = {
    "off": s.Off(),
    "opening": s.Opening(GATEWAY),
    "behind": s.Behind(OWN),
    "prepared": s.Prepared(OWN, GATEWAY),
    "both": s.Both(OWN, GATEWAY),
    "alone": s.Alone(GATEWAY),
}
EVENTS: Final[dict[str, s.Event]] = {
    "opened": s.Opened(ANOTHER),
    "went direct": s.WentDirect(OTHER),
    "went behind": s.WentBehind(OTHER),
    "pne stopped": s.PneStopped(),
    "gateway stopped": s.GatewayStopped(),
    "disowned": s.Disowned(),
}
HAPPENS: Final = [*EVENTS.values(), s.Opened(GATEWAY), s.WentDirect(OWN), s.WentBehind(OWN)]
LEADS: Final[dict[str, dict[str, s.State]]] = {
    "opened": {"off": s.Opening(ANOTHER), "behind": s.Prepared(OWN, ANOTHER)},
    "went direct": {"opening prepared alone": s.Both(OTHER, GATEWAY)},
    "went behind": {"off": s.Behind(OTHER), "both alone": s.Prepared(OTHER, GATEWAY)},
    "pne stopped": {"behind": s.Off(), "opening prepared both": s.Alone(GATEWAY)},
    "gateway stopped": {"opening alone": s.Off(), "prepared": s.Behind(OWN)},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    life = Life(s.TRANSITIONS, STATES[state])
    found = [target for sources, target in LEADS.get(event, {}).items() if state in sources.split()]
    assert life.happens(EVENTS[event]) is (bool(found) or event == "disowned")
    assert life.state == (found[0] if found else STATES[state])


def test_there_is_a_case_for_each_row() -> None:
    assert {type(one) for one in EVENTS.values()} == set(s.TRANSITIONS.events)
    assert {type(one) for one in STATES.values()} == set(s.TRANSITIONS.states)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(HAPPENS), max_size=40))
def test_whatever_happens_in_whatever_order(happened: list[s.Event]) -> None:
    """The mode says what runs, and what runs was started."""
    life: Life[s.State, s.Event] = Life(s.TRANSITIONS, s.Off())
    owns: list[object] = []
    gateways: list[object] = []
    for event in happened:
        before = life.state
        if life.happens(event):
            if isinstance(event, s.WentDirect | s.WentBehind):
                owns.append(event.own)
            if isinstance(event, s.Opened):
                gateways.append(event.gateway)
        own, gateway = s.own_of(life.state), s.gateway_of(life.state)
        assert own is None or own is owns[-1]
        assert gateway is None or gateway is gateways[-1]
        if life.state.mode is Mode.BOTH:
            assert own
            assert gateway
        if life.state.mode is Mode.PN_GW:
            assert own is None
        if life.state.mode is Mode.PNE:
            assert own
        if isinstance(event, s.GatewayStopped) and life.state != before:
            assert gateway is None


# in virtual time


class FakePne:
    """A PNE that goes where it is led, if anybody takes it there."""

    def __init__(self, site: "Site", config: PneConfig) -> None:
        self.site, self.where = site, config.where
        self.closed = False
        self.serial = 0
        self.cm = SimpleNamespace(assign=self._assign, rekey=self._rekey)

    async def start(self) -> None:
        """It has a socket."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True

    async def go(self, where: Where) -> None:
        await self.site.time.sleep(0.5)
        if not self.site.takes(where):
            raise NoAnswer("no_way_there")
        self.where = where

    async def wait_established(self) -> None:
        while not self.is_carried:
            await self.site.time.sleep(0.1)

    @property
    def is_carried(self) -> bool:
        return self.site.takes(self.where)

    def next_reading(self, body: Any) -> Any:
        self.serial += 1
        return self, self.serial, body

    async def send(self, reading: Any) -> None:
        while self.closed or not self.is_carried:
            await self.site.time.sleep(0.3)
        self.site.stored.append(reading)

    async def _assign(self) -> CmKey:
        if not self.site.mediates or not self.is_carried:
            raise NoAnswer("no_answer")
        self.site.assigned += 1
        return CmKey(EntityId(f"cm-{self.site.assigned}"), 0, Secret(bytes(32)))

    async def _rekey(self, key: CmKey) -> CmKey:
        if self.site.disowns:
            raise Refused(Result.NOT_ALLOWED, "no_fresh_key")
        return CmKey(key.cm_device_id, key.generation + 1, Secret(bytes(32)))


class FakeGateway:
    """A PN GW whose uplink stands while its broadband leads to the server."""

    def __init__(self, site: "Site", gateway_id: EntityId) -> None:
        self.site, self.closed = site, False
        self.config = SimpleNamespace(gateway_id=gateway_id)
        self.bound = ["0.0.0.0:1"]
        self.renewed = 0
        self.taken_over: list[Any] = []
        self.uplink = self
        self.switching = SimpleNamespace(take_over=self._take_over)

    async def start(self) -> None:
        """It has its PANs."""

    async def wait(self, patience: float) -> None:
        if not self.site.broadband:
            await self.site.time.sleep(patience)
            raise NoAnswer("uplink_away")

    @property
    def standing(self) -> object | None:
        return self if self.site.broadband else None

    def renew(self) -> None:
        self.renewed += 1
        keys = self.site.node.keys
        if keys is not None and keys.newest is not None:
            asyncio.ensure_future(keys.proven(keys.newest))  # noqa: RUF006  # it ends at once

    async def close(self) -> None:
        self.closed = True

    async def _take_over(self, pn_id: Any) -> None:
        if not self.site.agrees:
            raise Refused(Result.NOT_ALLOWED, "not_given")
        self.taken_over.append(pn_id)


class Site:
    """A device, its external PN GW and its broadband."""

    def __init__(self, patch: pytest.MonkeyPatch, *, cm: bool = False, **options: Any) -> None:
        async def is_reachable(host: str, port: int, seconds: float) -> bool:
            return self.broadband

        patch.setattr(ways, "is_reachable", is_reachable)
        self.time = VirtualTime()
        self.external = self.broadband = self.mediates = self.agrees = True
        self.disowns = False
        self.assigned = 0
        self.stored: list[Any] = []
        self.changes: list[Mode] = []
        self.pnes: list[FakePne] = []
        self.gateways: list[FakeGateway] = []
        config = PneConfig(EntityId("tablet"), EntityId("server.example"), Secret(bytes(32)), Where((("hub", 1),)))
        self.node = Node(
            NodeConfig(config, ("server.example", 1), **options),
            self._pne,
            self._gateway,
            self.time,
            Keys(None, cast(Any, None)) if cm else None,
            self.changes.append,
        )

    def takes(self, where: Where) -> bool:
        return self.external if where.gateways[0][0] == "hub" else self.broadband

    def _pne(self, config: PneConfig, becomes: Any, rotate: Any) -> Any:
        self.becomes, self.rotate = becomes, rotate
        self.pnes.append(FakePne(self, config))
        return self.pnes[-1]

    def _gateway(self, cm_device_id: EntityId | None) -> Any:
        self.gateways.append(FakeGateway(self, cm_device_id or EntityId("gw")))
        return self.gateways[-1]

    async def does(self, what: Any, seconds: float = 30.0) -> Any:
        """Let *what* come to its end."""
        task = asyncio.ensure_future(what)
        await self.time.passes(seconds)
        return await asyncio.wait_for(task, 5)

    def whole(self) -> None:
        """What runs is what the mode says; whatever else was made is closed."""
        node = self.node
        pnes: list[Any] = [one for one in self.pnes if not one.closed]
        gateways: list[Any] = [one for one in self.gateways if not one.closed]
        assert pnes == ([] if node.pne is None else [node.pne])
        assert gateways == ([] if node.gateway is None else [node.gateway])


@pytest.mark.parametrize("first", Mode)
async def test_it_changes_from_each_mode_to_each(monkeypatch: pytest.MonkeyPatch, first: Mode) -> None:
    for second in Mode:
        site = Site(monkeypatch, mode=first)
        await site.does(site.node.start())
        assert site.node.mode is first
        await site.does(site.node.change(second))
        assert site.node.mode is second
        assert (site.node.pne is None) is (second is Mode.PN_GW)
        assert (site.node.gateway is None) is (second is Mode.PNE)
        site.whole()
        assert site.changes == list(dict.fromkeys([first, second]))
        await site.node.close()
        assert site.node.mode is None
        site.whole()


@pytest.mark.parametrize("why", ["its own has no uplink", "no other takes it"])
async def test_a_change_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    first, second = (Mode.PNE, Mode.BOTH) if why == "its own has no uplink" else (Mode.BOTH, Mode.PNE)
    site = Site(monkeypatch, mode=first)
    await site.does(site.node.start())
    before = site.node.life.state
    site.broadband, site.external = second is Mode.PNE, second is Mode.BOTH
    with pytest.raises(NoAnswer):
        await site.does(site.node.change(second))
    assert site.node.life.state == before
    assert site.changes == [first]
    site.whole()
    await site.node.close()


async def test_readings_go_on_through_each_change_and_are_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    await site.does(site.node.start())
    site.external = False
    sending = asyncio.ensure_future(site.node.send({"n": 1}))
    await site.time.passes(10)
    assert site.node.waiting == 1
    await site.does(site.node.change(Mode.PN_GW))
    await site.time.passes(10)
    assert site.stored == []
    await site.does(site.node.change(Mode.BOTH))
    await site.time.passes(1)
    await sending
    assert site.node.waiting == 0
    assert site.stored == [(site.pnes[0], 1, {"n": 1})]  # by another PNE, under the ID that it had
    await site.node.close()


@pytest.mark.parametrize("agrees", [True, False])
async def test_it_takes_a_network_over_or_all_is_as_it_was(monkeypatch: pytest.MonkeyPatch, agrees: bool) -> None:
    site = Site(monkeypatch, may_change=True)
    await site.does(site.node.start())
    site.agrees = agrees
    answer = await site.does(site.becomes(GatewayChangeRequest(EntityId("hub"), Mode.BOTH, cast(Any, "pn")), True), 0.1)
    assert answer.result == Result.SUCCESS
    assert isinstance(site.node.life.state, s.Prepared)
    await site.time.passes(10)
    assert site.node.mode is (Mode.BOTH if agrees else Mode.PNE)
    assert site.gateways[0].taken_over == (["pn"] if agrees else [])
    site.whole()
    await site.node.close()


async def test_two_that_ask_at_once_open_one_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, may_change=True)
    await site.does(site.node.start())
    site.broadband = False
    request = GatewayChangeRequest(EntityId("hub"), Mode.BOTH, cast(Any, "pn"))
    asked = [asyncio.ensure_future(site.becomes(request, True)) for _ in range(2)]
    await site.time.passes(1)
    site.broadband = True
    await site.time.passes(60)
    assert sorted(one.result == Result.SUCCESS for one in await asyncio.gather(*asked)) == [False, True]
    site.whole()
    await site.node.close()


async def test_who_is_not_allowed_to_does_not_become_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    await site.does(site.node.start())
    answer = await site.does(site.becomes(GatewayChangeRequest(EntityId("hub"), Mode.BOTH, None), True), 0.1)
    assert answer.result == Result.REFUSED_BY_USER
    assert site.gateways == []
    await site.node.close()


@pytest.mark.parametrize("prefer", Prefer)
async def test_it_chooses_by_what_it_prefers(monkeypatch: pytest.MonkeyPatch, prefer: Prefer) -> None:
    site = Site(monkeypatch, prefer=prefer, look=1.0)
    await site.does(site.node.start(), 0.0)
    await site.time.passes(10)
    assert site.node.mode is (Mode.BOTH if prefer is Prefer.DIRECT else Mode.PNE)
    site.external = False
    await site.time.passes(GRACE + 10)
    assert site.node.mode is (Mode.PNE if prefer is Prefer.METERED else Mode.BOTH)
    sending = asyncio.ensure_future(site.node.send({"n": 1}))
    await site.time.passes(LONGEST_PAUSE * 2)
    await sending
    site.external = True
    await site.time.passes(LONGEST_PAUSE * 2)
    assert site.node.mode is (Mode.BOTH if prefer is Prefer.DIRECT else Mode.PNE)
    site.whole()
    await site.node.close()


async def test_what_does_not_do_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "UPLINK_SECONDS", 0.5)
    site = Site(monkeypatch, prefer=Prefer.DIRECT)
    await site.does(site.node.start(), 0.0)

    async def is_reachable(host: str, port: int, seconds: float) -> bool:
        return True

    monkeypatch.setattr(ways, "is_reachable", is_reachable)
    site.broadband = False
    await site.time.passes(3600)
    assert 3600 / (LONGEST_PAUSE + 4) < len(site.gateways) < 3600 / LONGEST_PAUSE + 8
    site.whole()
    await site.node.close()


async def test_who_is_commanded_chooses_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, prefer=Prefer.DIRECT)
    await site.does(site.node.start(), 0.0)
    await site.does(site.node.command(Mode.PNE))
    await site.time.passes(600)
    assert site.changes == [Mode.PNE]
    site.node.choose_by_itself()
    await site.time.passes(10)
    assert site.changes == [Mode.PNE, Mode.BOTH]
    await site.node.close()


# the keys of a CM Device


async def test_it_gets_a_key_and_one_that_no_gateway_knows_when_it_goes_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cm=True)
    site.mediates = False
    await site.does(site.node.start(), 0.0)
    await site.time.passes(300)
    assert not site.node.can_go_direct
    site.mediates = True
    await site.time.passes(PAUSES[1])
    assert site.node.can_go_direct
    await site.does(site.node.change(Mode.BOTH))
    assert site.node.keys is not None
    assert site.node.keys.newest is not None
    assert (site.node.keys.newest.cm_device_id, site.node.keys.newest.generation) == ("cm-1", 1)
    assert site.gateways[-1].renewed == 1
    await site.node.close()


async def test_one_that_is_disowned_goes_behind_a_gateway_for_another_id(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, cm=True)
    await site.does(site.node.start(), 10.0)
    site.disowns = True
    await site.does(site.node.change(Mode.BOTH), 0.6)
    site.external = False
    await site.time.passes(30)
    assert site.changes == [Mode.PNE, Mode.BOTH]  # nobody takes it
    site.external, site.disowns = True, False
    await site.time.passes(30)
    assert site.changes == [Mode.PNE, Mode.BOTH, Mode.PNE]
    assert site.node.keys is not None
    assert site.node.keys.newest is not None
    assert site.node.keys.newest.cm_device_id == "cm-2"
    site.whole()
    await site.node.close()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["external", "broadband", "pne", "both", "alone", "auto", "asked", "reading", ""]),
            st.floats(0, 60),
        ),
        max_size=12,
    )
)
def test_whatever_happens_nothing_is_left_open_and_no_reading_is_lost(happened: list[tuple[str, float]]) -> None:
    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            site = Site(patch, prefer=Prefer.GATEWAY, may_change=True)
            work: list[asyncio.Future[Any]] = [asyncio.ensure_future(site.node.start())]
            await site.time.passes(1.0)
            sent: list[asyncio.Future[Any]] = []
            commands = {"pne": Mode.PNE, "both": Mode.BOTH, "alone": Mode.PN_GW}
            for what, seconds in happened:
                if what in ("external", "broadband"):
                    setattr(site, what, not getattr(site, what))
                elif what in commands:
                    work.append(asyncio.ensure_future(site.node.command(commands[what])))
                elif what == "auto":
                    site.node.choose_by_itself()
                elif what == "asked":
                    request = GatewayChangeRequest(EntityId("hub"), Mode.BOTH, cast(Any, "pn"))
                    work.append(asyncio.ensure_future(site.becomes(request, True)))
                elif what == "reading":
                    sent.append(asyncio.ensure_future(site.node.send({"n": len(sent)})))
                await site.time.passes(seconds)
            site.external = site.broadband = True
            await site.time.passes(300)
            await asyncio.gather(*work, return_exceptions=True)
            await site.does(site.node.command(Mode.BOTH))
            await site.time.passes(30)
            site.whole()
            assert all(one.done() for one in sent)
            assert sorted(body["n"] for _, _, body in site.stored) == list(range(len(sent)))
            await site.node.close()
            site.whole()

    asyncio.run(run())
