"""What a device prints: a text that can't be printed was not received, and stays kept."""

import asyncio
import json
import sys
from unittest import mock

import pytest

from cpns.cli import streams
from cpns.cli.events import ANSWER, Events
from cpns.cli.options import Output
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Result, Unavailable
from cpns.ids import EntityId, PnId
from cpns.pne.inbox import Inbox
from cpns.protocol.pne_auth.pne import NotLetIn
from tests.support.commands import full, unread
from tests.support.world import until
from tests.unit.test_admin import Live, live, problem, told

__all__ = ["live"]

PNE = EntityId("pne-1")


def test_events_are_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert Events(PNE, Output.TABLE).received("water\x1b[31m") == ANSWER
    assert capsys.readouterr().out == "received water\\x1b[31m\n"
    Events(PNE, Output.JSON).tell("", "changed", version=3)
    assert json.loads(capsys.readouterr().out) == {"event": "changed", "device": "pne-1", "version": 3}


async def test_what_is_not_printed_is_not_received() -> None:
    for stream_of, error in ((full, Unavailable), (unread, BrokenPipeError)):
        with stream_of() as stream, mock.patch.object(sys, "stdout", stream):
            streams.prepare()
            events = Events(PNE, Output.TABLE)
            with pytest.raises(NoAnswer):
                events.received("water the plants")
            streams.finish()
        async with asyncio.timeout(40):
            with pytest.raises(error):
                await events.lost()


async def test_a_text_that_nobody_took_stays_kept(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.server.peers.sending.PUSH_TIMEOUT", 0.5)
    printing = False

    def take(text: str) -> str:
        if not printing:
            raise NoAnswer("not_printed")
        return f"got {text}"

    await live.world.provision(Kind.PNE, "pne-9")
    with mock.patch("tests.support.world.Inbox", return_value=Inbox(take)):
        await live.world.joined_pne("pne-9", live.gateway)
    where = "/devices/pne-9/send"
    await problem(await live.client.post(where, json={"text": "one"}), 503, "asleep")
    kept = await told(await live.client.post(where, json={"text": "two", "keep": 60}))
    assert kept["answer"] is None
    printing = True
    await until(lambda: not live.world.server.pushes.delivery.waits_for(EntityId("pne-9")))
    assert (await told(await live.client.post(where, json={"text": "three"})))["answer"] == "got three"


def test_why_it_is_not_let_in_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Until that changes; a device asks again and again."""
    events, gateway, pn = Events(PNE, Output.TABLE), EntityId("gw-1"), PnId("pn-1")
    waits, closed = (NotLetIn(result, gateway, pn) for result in (Result.PENDING_APPROVAL, Result.POLICY))
    for refusal in (waits, waits, closed, closed, waits):
        events.not_let_in(refusal)
    events.established(gateway, pn)
    events.not_let_in(waits)
    waiting = "pne-1 waits until the owner of pn-1, or the operator, approves it"
    assert capsys.readouterr().out.splitlines() == [
        waiting,
        "pne-1 is not let in: pn-1 is closed; its owner, or the operator, may invite it",
        waiting,
        "pne-1 established through gw-1 in pn-1",
        waiting,
    ]
    Events(PNE, Output.JSON).not_let_in(closed)
    said = {"event": "not_let_in", "device": "pne-1", "reason": "policy", "gateway": "gw-1", "pn": "pn-1"}
    assert json.loads(capsys.readouterr().out) == said
