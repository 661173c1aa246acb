"""A device, its network and its gateways that moved while one of them was off: where it ends, by a plain model.

A row is one device with a gateway of its own, *den*, where its network began. The *hub* is the gateway of its
neighbours. The model says of each row in which network, through which gateway, the device ends, or why it is refused.
"""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import product
from random import Random
from typing import Any, Final

from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.member_list import Policy
from cpns.errors import Result
from cpns.gateway.app import Gateway
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId, PnId
from cpns.pne.app import Pne
from tests.support.soak import SOAK
from tests.support.world import World, until

HUB: Final = EntityId("hub")
PATIENCE: Final = 120.0
"""Seconds for what takes less than one on an idle machine."""
FAST: Final[dict[str, Any]] = {"request_timeout": 3.0, "presence": 1.0}


class Off(Enum):
    """Who was off while it happened, or was restarted right after that."""

    NOBODY = "nobody"
    ASLEEP = "the device sleeps"
    HUB_LATER = "hub, when the device has followed"
    HUB_LATER_LOST = "hub, when the device has followed; its store is lost"
    SERVER = "server"
    DEN = "den, for good"
    DEVICE = "device"
    DEVICE_SERVER = "device; server"
    DEVICE_DEN = "device; den"
    DEVICE_DEN_OLDER = "device; den, which has an older store"
    DEVICE_DEN_LOST = "device; den, whose store is lost"
    DEVICE_HUB = "device; hub"
    DEVICE_HUB_OLDER = "device; hub, which has an older store"
    DEVICE_HUB_LOST = "device; hub, whose store is lost"

    @property
    def device(self) -> bool:
        """Whether the device was off, and began anew afterwards."""
        return self.value.startswith("device")


class What(Enum):
    """What happened meanwhile."""

    NOTHING = "nothing"
    SWITCHED = "its network was switched to hub"
    SWITCHED_BACK = "its network was switched to hub, and back"
    SWITCHED_BARRED = "its network was switched, and it was expelled"
    SWITCHED_PUT_OUT = "its network was switched, and it was put out without a bar"
    SWITCHED_BOUND = "its network was switched, and it may come through hub alone"
    RELEASED = "its network was released"
    BARRED = "it was expelled"
    PUT_OUT = "it was put out without a bar"
    INVITED = "it was invited among the neighbours"
    BOUND = "it may come through hub alone"

    @property
    def switched(self) -> bool:
        """Whether hub serves its network now."""
        return self.name.startswith("SWITCHED") and self is not What.SWITCHED_BACK

    @property
    def barred(self) -> bool:
        """Whether its network has it on its list no more."""
        return self in (What.BARRED, What.SWITCHED_BARRED)

    @property
    def bound(self) -> bool:
        """Whether it may come through hub alone."""
        return self in (What.BOUND, What.SWITCHED_BOUND)


class Names(Enum):
    """Which network the device asks for."""

    NONE = "none"
    OWN = "its own"
    THEIRS = "the neighbours'"


@dataclass(frozen=True)
class Neighbours:
    """How many networks hub has of its own, and the policy of the first."""

    networks: int
    policy: Policy


@dataclass(frozen=True)
class Row:
    """One of the table."""

    off: Off
    what: What
    hub: Neighbours
    through: str
    names: Names


@dataclass(frozen=True)
class End:
    """Where a device ends: in a network (own, theirs, new) through a gateway; or refused, with a code, and why."""

    network: str = ""
    through: str = ""
    guest: bool = False
    code: int = 0
    why: str = ""


HUBS: Final = (*(Neighbours(1, policy) for policy in Policy), Neighbours(2, Policy.CLOSED))


def rows(off: Off, hub: Neighbours) -> Iterator[Row]:
    """Return the table: every combination that differs."""
    here = off is Off.DEN or off.device
    if off is not Off.DEVICE and hub not in HUBS[-1:] + (() if off.name.startswith("DEVICE_HUB") else HUBS[:1]):
        return  # policies are the server's, whoever was off
    for what, through, names in product(What, ("den", "hub"), Names):
        at_den = through == "den"
        if (at_den and (off is Off.DEN or names is Names.THEIRS)) or (not at_den and not here):
            continue
        if not off.device and names is Names.THEIRS:
            continue  # it would not wait for it to happen
        if not off.device and what is What.SWITCHED_BARRED:
            continue  # whether it had followed by then is chance
        if off is Off.DEN and what is What.SWITCHED_BACK:
            continue  # den has to be there for that
        if off is Off.SERVER and what in (What.SWITCHED_BACK, What.SWITCHED_PUT_OUT, What.SWITCHED_BOUND):
            continue  # what it was told by then is chance
        if off in (Off.HUB_LATER, Off.HUB_LATER_LOST) and not what.switched:
            continue
        if at_den and hub != HUBS[0] and (off.device or not what.switched):
            continue  # whatever hub is, nobody asks it
        if off in (Off.DEVICE_DEN_OLDER, Off.DEVICE_DEN_LOST) and not at_den:
            continue  # that is as good as den's being off
        if off.name.startswith("DEVICE_HUB") and at_den:
            continue
        yield Row(off, what, hub, through, names)


def drawn(table: list[Row], seed: str) -> list[Row]:
    """Return a third of the rows, always the same; all of them in `make soak`."""
    if SOAK:
        return table
    some = Random(seed).sample(range(len(table)), -(-len(table) // 3))
    return [table[number] for number in sorted(some)]


def expected(row: Row) -> End:
    """Return where the device of a row ends."""
    what, followed = row.what, not row.off.device and row.what.switched
    if row.off is Off.ASLEEP and what is What.SWITCHED_PUT_OUT:
        followed = False  # den has forgotten it, so can't tell it
    through = "hub" if followed else row.through
    own_at = None if what is What.RELEASED else "hub" if what.switched else "den"
    served = (["theirs"] if through == "hub" else []) + (["own"] if own_at == through else [])
    member = own_at is not None and not what.barred
    if followed or (row.names is Names.OWN and row.off is not Off.DEN):
        network = "own"  # that is named where it was; elsewhere than there, none is
    elif row.names is Names.THEIRS:
        network = "theirs"
    else:
        network = "own" if member and "own" in served else served[0] if served else "new"
    if network not in (*served, "new"):
        return End(code=21, why="not served")
    if what.bound and through == "den":
        return End(code=21, why="not_admitted_through_this_gateway")
    if network == "new":
        return End("new", through)
    if network == "own":
        return End("own", through) if member else End(code=21, why="barred")
    if what is What.INVITED:
        return End("theirs", through)
    if row.hub.policy is Policy.OPEN:
        return End("theirs", through, guest=member)
    if row.hub.policy is Policy.APPROVAL:
        return End(code=54, why="pending_approval")
    return End(code=60, why="not_on_the_member_list")


class Walk:
    """All rows of one world, side by side: each has its own device and den; hub and server are theirs in common."""

    def __init__(self, here: World, off: Off, hub: Neighbours) -> None:
        self.here = here
        self.off = off
        self.rows = drawn(list(rows(off, hub)), f"{off.name} {hub}")
        self._neighbours = hub
        self._theirs = PnId("")
        self._own: list[PnId] = []
        self._dens: list[Gateway] = []
        self._devices: list[Pne] = []

    @staticmethod
    def names(number: int) -> tuple[str, str]:
        """Return the names of den and device of a row."""
        return f"den-{number}", f"watch-{number}"

    async def run(self) -> None:
        """Make it all, let it happen, and look where each device ends."""
        await self._begin()
        off = self.off
        numbers = range(len(self.rows))
        if off.device:
            await asyncio.gather(*(self.here.stop(one) for one in self._devices))
        elif off is Off.ASLEEP:
            await asyncio.gather(*(one.sleep() for one in self._devices))
        if off is Off.DEN or off.name.startswith("DEVICE_DEN"):
            await asyncio.gather(*(self.here.stop(one) for one in self._dens))
            await until(lambda: not any(self._connected(f"den-{number}") for number in numbers), PATIENCE)
        await asyncio.gather(*(self._happens(number, row) for number, row in enumerate(self.rows)))
        await self._comes_back()
        ended = await asyncio.gather(*map(self._ends, numbers), return_exceptions=True)
        stayed = await asyncio.gather(*map(self._stays, numbers), return_exceptions=True)
        failed = [str(one) or repr(one) for one in (*ended, *stayed) if one is not None]
        assert not failed, "\n".join(failed)

    def _connected(self, gateway: str) -> bool:
        return self.here.server.pnes.is_connected_here(EntityId(gateway))

    async def _begin(self) -> None:
        await self.here.start_server()
        hub = await self.here.start_gateway("hub", kept=True)
        await self.here.joined_pne("neighbour", hub)
        (self._theirs,) = await self.here.store.networks_of(HUB)
        if self._neighbours.networks == 2:
            other = await self.here.start_gateway("aux")
            await self.here.stop(await self.here.joined_pne("other-neighbour", other))
            (theirs,) = await self.here.store.networks_of(EntityId("aux"))
            await self.here.server.networks.actions.switch(theirs, HUB, OPERATOR)
            await self.here.stop(other)
        networks = self.here.server.networks.actions
        await networks.update(self._theirs, OPERATOR, policy=self._neighbours.policy, alias=None, owner=None)
        self._hub = hub
        self._pan = self.here.pan(hub)
        begun = await asyncio.gather(*(self._den(number) for number in range(len(self.rows))))
        self._dens, self._own, self._devices = (list(some) for some in zip(*begun, strict=True))
        if self.off is Off.DEVICE_HUB_OLDER:
            shutil.copy(self._store("hub"), self._store("older"))

    async def _den(self, number: int) -> tuple[Gateway, PnId, Pne]:
        """Let the network of a row be founded; the device then comes a second time, as the row has it."""
        den, device = self.names(number)
        gateway = await self.here.start_gateway(den, kept=True)
        await self.here.stop(await self.here.joined_pne(device, gateway, **FAST))
        if self.off is Off.DEVICE_DEN_OLDER:
            shutil.copy(self._store(den), self._store(f"{den}-older"))
        (own,) = await self.here.store.networks_of(EntityId(den))
        options = {} if self.off.device else self._options(self.rows[number], own)
        both = (self.here.pan(gateway), self._pan)
        more = {"gateways": both} if self.off is Off.DEN else {}
        return gateway, own, await self.here.joined_pne(device, gateway, **options, **more, **FAST)

    def _options(self, row: Row, own: PnId) -> dict[str, Any]:
        wanted = {Names.NONE: None, Names.OWN: own, Names.THEIRS: self._theirs}[row.names]
        return {"join": wanted}

    def _store(self, gateway: str) -> str:
        return str(self.here.folder / f"{gateway}.db")

    async def _happens(self, number: int, row: Row) -> None:
        den, device = map(EntityId, self.names(number))
        own, networks = self._own[number], self.here.server.networks.actions
        if row.what.name.startswith("SWITCHED"):
            await networks.switch(own, HUB, OPERATOR)
            if not row.off.device and row.off not in (Off.ASLEEP, Off.DEN):
                await self._comes_to(number, End("own", "hub"))
        if row.what is What.SWITCHED_BACK:
            if not self._connected(den):  # who is to serve it has to be there
                self._dens[number] = await self.here.start_gateway(den, kept=True)
            await networks.switch(own, den, OPERATOR)
        if row.what.barred:
            await networks.expel(own, OPERATOR, [device])
        if row.what in (What.PUT_OUT, What.SWITCHED_PUT_OUT):
            await networks.expel(own, Actor(Role.GATEWAY, HUB if row.what.switched else den), [device])
        if row.what is What.RELEASED:
            await networks.release(own, OPERATOR)
        if row.what is What.INVITED:
            await networks.invite(self._theirs, OPERATOR, [device])
        if row.what.bound:
            await self.here.provisioning.update(OPERATOR, device, "hub", None)

    async def _comes_back(self) -> None:
        """Bring up who was off; a device that was off begins anew."""
        here, off = self.here, self.off
        if off in (Off.SERVER, Off.DEVICE_SERVER):
            await here.stop(here.server)
            await here.start_server()
        if off.name.startswith("DEVICE_DEN"):
            await asyncio.gather(*(self._den_again(number) for number in range(len(self.rows))))
        if off in (Off.HUB_LATER, Off.HUB_LATER_LOST):
            for number in range(len(self.rows)):
                if expected(self.rows[number]).network == "own":
                    await self._ends(number)
        if "HUB" in off.name:
            await self._hub_again()
        if off is Off.ASLEEP:
            await asyncio.gather(*(one.wake() for one in self._devices))
        if off.device:
            begun = (self._device_again(number, row) for number, row in enumerate(self.rows))
            self._devices = list(await asyncio.gather(*begun))

    async def _den_again(self, number: int) -> None:
        den, _ = self.names(number)
        if self.here.server.pnes.is_connected_here(EntityId(den)):
            return
        if self.off is Off.DEVICE_DEN_LOST:
            self._lose(den)
        if self.off is Off.DEVICE_DEN_OLDER:
            self._lose(den)
            shutil.copy(self._store(f"{den}-older"), self._store(den))
        self._dens[number] = await self.here.start_gateway(den, kept=True)

    async def _hub_again(self) -> None:
        """Hub is at its address again: it has a fixed one, as a gateway that is named to devices has."""
        await self.here.stop(self._hub)
        if self.off.name.endswith(("LOST", "OLDER")):
            self._lose("hub")
        if self.off is Off.DEVICE_HUB_OLDER:
            shutil.copy(self._store("older"), self._store("hub"))
        self._hub = await self.here.start_gateway("hub", kept=True, pans=(PanConfig(*self._pan, False),))

    def _lose(self, gateway: str) -> None:
        for path in self.here.folder.glob(f"{gateway}.db*"):
            path.unlink()

    async def _device_again(self, number: int, row: Row) -> Pne:
        _, device = self.names(number)
        self.here.not_let_in[device] = []
        gateway = self._hub if row.through == "hub" else self._dens[number]
        return await self.here.start_pne(device, gateway, **self._options(row, self._own[number]), **FAST)

    async def _ends(self, number: int) -> None:
        """Wait until a device has come to where the model has it."""
        await self._comes_to(number, expected(self.rows[number]))

    async def _comes_to(self, number: int, want: End) -> None:
        seen = End()
        try:
            async with asyncio.timeout(PATIENCE):
                while (seen := await self._end(number, want)) != want:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{self.rows[number]}\n  is to end as {want}\n  and is          {seen}") from None

    async def _stays(self, number: int) -> None:
        """It is there still when all that was said late has been said; and its readings come through that gateway."""
        row = self.rows[number]
        want = expected(row)
        if want.code:
            return
        device = self._devices[number]
        reading = device.next_reading({"n": number})
        async with asyncio.timeout(PATIENCE):
            await device.send(reading)
        stored = await self.here.store.readings(0, 9, device.config.pne_id)
        assert [(one.gateway_id, one.reading_id) for one in stored] == [
            (self._gateway(number, want.through), reading.reading_id)
        ], row
        await self._comes_to(number, want)  # who was told late that its gateway is back may just make its hop anew

    def _gateway(self, number: int, name: str) -> EntityId:
        return HUB if name == "hub" else EntityId(self.names(number)[0])

    async def _end(self, number: int, want: End) -> End:
        """Return where a device is now; *want* tells what to look for."""
        _, name = self.names(number)
        device, entity = self._devices[number], EntityId(name)
        session = self.here.server.sessions.with_peer(entity)
        if want.code:
            return End() if device.life.stands is not None else await self._refused(number, want)
        found = await self.here.store.membership(entity)
        joined = device.joined
        if session is None or found is None or joined is None or device.life.stands is None:
            return await self._refused(number, want)
        gateway = self._hub if joined.gateway_id == HUB else self._dens[number]
        member = gateway.members.get(entity)
        if joined.pn_id != found[0] or member is None or member.pn_id != found[0] or session.via != joined.gateway_id:
            return End()
        named = {self._own[number]: "own", self._theirs: "theirs"}.get(found[0], "new")
        through = "hub" if joined.gateway_id == HUB else "den"
        return End(named, through, found[1].guest)

    async def _refused(self, number: int, want: End) -> End:
        """Return how a device was refused last."""
        _, name = self.names(number)
        said = self.here.not_let_in[name]
        if said:
            why = {Result.PENDING_APPROVAL: "pending_approval", Result.POLICY: "not_on_the_member_list"}
            return End(code=said[-1].result, why=why[said[-1].result])
        last = self._devices[number]._join.last_refusal
        if last == "refused_with_21" and want.why == "not served":
            return End(code=21, why="not served")
        reasons = await self.here.reasons(name)
        return End(code=21, why=reasons[0]) if reasons else End()
