"""``cpns pne run``."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cpns.cli.control import Control
from cpns.cli.events import Events
from cpns.cli.groups import Texts, as_printed, line_of
from cpns.cli.members import of_pne
from cpns.cli.options import Output
from cpns.cli.readings import Readings
from cpns.cli.run import Signals, Trace, log_to_stderr, run, trace_to
from cpns.errors import NoAnswer, Refused, Unavailable
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.pne.group_messages import GroupText
from cpns.pne.groups import Asked
from cpns.pne.inbox import Inbox
from cpns.service.system import SystemClock, random_bytes
from cpns.wire.messages import Invitation
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.registry import Change
from cpns.wire.sg_messages import SgChangeNotify, SgInvitation

AWAKE_SECONDS: Final = 0.5
"""What a device that sleeps between readings gives the server to send what it kept."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a device behaves besides its settings.

    Attributes:
        source: ``host``, ``-`` for lines of JSON from stdin, or ``none``.
        interval: seconds between readings of this machine.
        accept: whether it comes where it is invited.
        sleepy: whether it sleeps between readings of this machine.
        control: socket for its commands.
    """

    source: str
    interval: float
    accept: bool
    sleepy: bool
    control: Path | None


def run_pne(config: PneConfig, habits: Habits, output: Output) -> int:
    """Run the PNE of *config* until a signal, or until its source ends; return the exit code.

    Args:
        config: see `PneConfig`.
        habits: see `Habits`.
        output: how events are printed.
    """
    log_to_stderr()

    async def role(stop: Signals) -> int:
        return await _Run(config, habits, output, trace_to(config.trace, stop)).until(stop)

    return run(role)


class _Run:
    """One PNE, its source and its events."""

    def __init__(self, config: PneConfig, habits: Habits, output: Output, trace: Trace | None) -> None:
        self._habits = habits
        self._events = Events(config.pne_id, output)
        self._tell = self._events.tell
        self._texts = Texts()
        self._pne = Pne(
            *(
                config,
                SystemClock(),
                random_bytes,
                Inbox(self._events.received),
                trace,
                self._events.established,
            ),
            on_change=self._changed,
            consent=self._consent,
            on_not_let_in=self._events.not_let_in,
        )
        self._readings = Readings(habits.source, habits.interval, self._events)

    async def until(self, stop: asyncio.Event) -> int:
        """Run until *stop* or the end of the source.

        Raises:
            BrokenPipeError: nobody reads our standard output any more.
            Unavailable: ``no_network``, ``output_failed``.
        """
        control = self._habits.control
        door = None if control is None else Control(control, of_pne(self._pne, self._texts))
        try:
            await self._work(door, stop)
        finally:
            if door is not None:
                await door.close()
            await self._pne.close()
        code = self._readings.end()
        await self._events.end()
        return code

    async def _work(self, door: Control | None, stop: asyncio.Event) -> None:
        try:
            await self._pne.start()
        except OSError as error:
            raise Unavailable("no_network", f"No socket to reach the gateway ({error.strerror or error}).") from error
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._pne.run()),
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._events.lost()),
        ]
        if self._readings.wanted:
            tasks.append(asyncio.create_task(self._send()))
        try:
            if door is not None:
                await door.start()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        """Send one after the other; the next is taken when the server has acknowledged the one before."""
        sleeps = self._habits.source == "host" and self._habits.sleepy
        async for body in self._readings.bodies():
            if sleeps:
                await self._pne.wake()
            reading = self._pne.next_reading(body)
            try:
                await self._pne.send(reading)
            except Refused as error:
                self._readings.refused(body, error)
                continue
            self._readings.acknowledged(body, id=reading.reading_id.hex())
            if sleeps:
                await asyncio.sleep(AWAKE_SECONDS)
                with contextlib.suppress(NoAnswer):
                    await self._pne.sleep()

    def _changed(self, notice: PnChangeNotify | SgChangeNotify | GroupText) -> None:
        if isinstance(notice, GroupText):
            self._events.keep(line_of(notice), "group_text", **as_printed(notice))
            self._texts.add(notice)
            return
        if isinstance(notice, SgChangeNotify):
            self._group_changed(notice)
            return
        change = Change(notice.change).name.lower()
        about = f" {', '.join(notice.members)}" if notice.members else ""
        to = f" to {notice.gateway_id}" if notice.gateway_id is not None else ""
        self._tell(
            f"network {notice.pn_id}: {change}{about}{to} (version {notice.version})",
            "changed",
            change=change,
            pn=notice.pn_id,
            devices=list(notice.members),
            version=notice.version,
        )

    def _group_changed(self, notice: SgChangeNotify) -> None:
        change = Change(notice.change).name.lower()
        view = self._pne.groups.views.get(notice.sg_id)
        about = f" {', '.join(notice.members)}" if notice.members else ""
        owner = f"; {notice.owner} owns it" if notice.owner is not None else ""
        self._tell(
            f"group {notice.sg_id if view is None else view.name}: {change}{about}{owner} (version {notice.version})",
            "group",
            **{"change": change, "group": notice.sg_id, "name": None if view is None else view.name},
            **{"devices": list(notice.members), "owner": notice.owner, "version": notice.version},
        )

    async def _consent(self, invitation: Invitation | Asked) -> bool:
        if not isinstance(invitation, Invitation):
            return self._group_consent(invitation)
        answer = "accepted" if self._habits.accept else "refused"
        self._tell(
            f"invited by {invitation.gateway_id} into {invitation.pn_id or 'a new network'}: {answer}",
            "invited",
            gateway=invitation.gateway_id,
            pn=invitation.pn_id,
            answer=answer,
        )
        return self._habits.accept

    def _group_consent(self, asked: Asked) -> bool:
        answer = "accepted" if self._habits.accept else "refused"
        if isinstance(asked, SgInvitation):
            what = f"invited by {asked.owner} into the group {asked.name}"
        else:
            what = f"asked to own the group {asked.sg_id}"
        self._tell(f"{what}: {answer}", "asked", group=asked.sg_id, what=what, answer=answer)
        return self._habits.accept
