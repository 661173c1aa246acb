"""The JSON of what is up."""

from typing import Self

from pydantic import BaseModel

from cpns.admin.service import Status as Found
from cpns.domain import process as domain
from cpns.server.models import rfc3339


class Process(BaseModel):
    """A process of the server. Null is what it did not tell.

    Attributes:
        id: its name among the processes, another one after each start.
        here: whether it is the one that answers.
        condition: up, unasked (it is there, and can't be asked), or silent (not heard of for 10 s).
        host: its machine; `pid` is its number there.
        listening: where gateways reach it.
        bus: where it reaches the other processes.
        seen_at: when it last said that it is there; null for the one that answers.
        clock_ahead: seconds that the clock of its machine is ahead of the store's.
        gateways: those that are connected to it.
        disk_free: bytes, where its data folder is; `disk_size` likewise.
    """

    id: str
    here: bool
    condition: domain.Condition
    host: str
    pid: int
    listening: str
    bus: str | None
    started_at: str
    seen_at: str | None
    clock_ahead: float
    sessions: int | None
    gateways: list[str] | None
    disk_free: int | None
    disk_size: int | None

    @classmethod
    def of(cls, one: domain.Seen) -> Self:
        """Return *one* as it leaves."""
        found, work = one.process, one.work
        return cls(
            id=found.process_id,
            here=one.here,
            condition=one.condition,
            host=found.host,
            pid=found.pid,
            listening=found.listening,
            bus=found.bus,
            started_at=rfc3339(found.started_at),
            seen_at=None if one.here else rfc3339(found.seen_at),
            clock_ahead=round(found.ahead, 3),
            sessions=None if work is None else work.sessions,
            gateways=None if work is None else list(work.gateways),
            disk_free=None if work is None else work.room[0],
            disk_size=None if work is None else work.room[1],
        )


class Store(BaseModel):
    """Where the store is, and what fails in it, in a sentence; null while it works."""

    name: str
    trouble: str | None


class Bus(BaseModel):
    """Where the processes reach each other, and whether that is there."""

    url: str
    connected: bool


class Status(BaseModel):
    """A server at a glance.

    Attributes:
        running: whether it runs here, on this data folder.
        listening: host and port of the process that answers.
        bus: null where that was started without one.
        sessions: of all processes that could be asked.
        gateways: how many are provisioned; `devices` likewise; null where the store is away.
        last_reading: the number of the newest one.
        processes: the one that answers first.
    """

    id: str
    running: bool
    listening: tuple[str, int] | None
    store: Store
    bus: Bus | None
    sessions: int | None
    gateways: int | None
    devices: int | None
    last_reading: int | None
    processes: list[Process]

    @classmethod
    def of(cls, found: Found) -> Self:
        """Return *found* as it leaves."""
        gateways, devices, last_reading = found.counts or (None, None, None)
        return cls(
            id=found.server_id,
            running=found.running,
            listening=found.listening,
            store=Store(name=found.store, trouble=found.trouble or None),
            bus=None if found.bus is None else Bus(url=found.bus[0], connected=found.bus[1]),
            sessions=found.sessions,
            gateways=gateways,
            devices=devices,
            last_reading=last_reading,
            processes=[Process.of(one) for one in found.processes],
        )
