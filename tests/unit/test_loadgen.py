"""What `cpns bench` counts, draws and asks for; the whole of it is in tests/integration/test_cli_bench.py."""

import asyncio
import dataclasses
import resource
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import BadInput
from cpns.loadgen import plot, report
from cpns.loadgen.figures import Figures, Sample, Second, Use, percentile, percentiles, together
from cpns.loadgen.lossy import LossyPan
from cpns.loadgen.pace import Pace
from cpns.loadgen.plan import SPARE_FILES, Plan

PLAN = Plan(
    gateways=4,
    pnes=10,
    rate=100.0,
    duration=30.0,
    batch=10,
    loss=0.0,
    churn=0.0,
    processes=1,
    suite=2,
    presence=20.0,
    tls=False,
)
USES = {"server": Use(0.5, 100)}


def second(**fields: object) -> Second:
    base = Second(seconds=1.0, established=2, offered=0, latencies_ms=[], refused={}, churned=0)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


# pace


def test_moments_are_even_and_each_is_taken_once() -> None:
    pace = Pace(10.0, 100.0, 5)
    assert pace.next == 100.0
    assert pace.take(99.9) == []
    assert pace.take(100.15) == pytest.approx([100.0, 100.1])
    assert pace.take(100.15) == []
    assert pace.next == pytest.approx(100.2)


def test_a_late_look_finds_all_moments_as_they_were_due() -> None:
    pace = Pace(1000.0, 0.0, 500)
    assert pace.take(0.1) == pytest.approx([number / 1000 for number in range(101)])
    assert len(pace.take(3600.0)) == 399
    assert pace.next is None
    assert pace.take(7200.0) == []


# figures


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.95, 96), (0.99, 100), (1.0, 100)])
def test_percentile(share: float, value: float) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) == [None, None, None]
    assert percentiles([7.0]) == [7.0, 7.0, 7.0]


def test_the_same_second_of_several_processes() -> None:
    one = second(offered=3, latencies_ms=[1.0, 2.0], refused={"a": 1}, churned=1)
    other = second(seconds=2.0, offered=4, latencies_ms=[9.0], refused={"a": 2, "b": 1})
    assert together([one, other]) == Second(1.5, 4, 7, [1.0, 2.0, 9.0], {"a": 3, "b": 1}, 1)


def test_a_sample_is_by_the_second() -> None:
    sample = Sample.of(second(seconds=2.0, offered=10, latencies_ms=[1.0] * 8, refused={"a": 1}), 7.0, USES, 0.1)
    assert (sample.offered, sample.acknowledged, sample.latency_ms, sample.refused) == (5.0, 4.0, [1.0] * 3, 1)


def figures(*seconds: Second) -> Figures:
    summed = Figures(established=2)
    summed.samples = [Sample.of(one, at, USES, 0.25) for at, one in enumerate(seconds, 1)]
    summed.sum_up(seconds)
    return summed


def test_what_comes_after_the_last_reading_was_offered_is_no_throughput() -> None:
    found = figures(second(offered=10, latencies_ms=[1.0] * 8), second(latencies_ms=[500.0] * 2))
    assert (found.offered, found.acknowledged, found.throughput, found.offered_s) == (10, 10, 8.0, 1.0)
    assert (found.latency_ms, found.max_ms, found.cores) == (
        [1.0, 500.0, 500.0],
        500.0,
        {"server": 0.5, "others": 0.25},
    )
    assert found.held(2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: setattr(found, "unanswered", 1),
        lambda found: found.refused.update(policy=1),
        lambda found: setattr(found, "established", 1),
    ],
)
def test_a_load_that_was_not_held(spoil: Callable[[Figures], None]) -> None:
    found = figures(second(offered=1, latencies_ms=[1.0]))
    spoil(found)
    assert not found.held(2)


def test_a_load_that_never_began_is_told_all_the_same(tmp_path: Path) -> None:
    empty = figures()
    told = report.document(PLAN, empty)
    assert (told["held"], told["latency_ms"], told["offered_s"]) == (False, [None, None, None], 0.0)
    for path in report.save(tmp_path / "new", told, empty.samples)[1:]:
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_a_report_that_finds_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="can't be written"):
        report.save(tmp_path / "file", {}, [])


# plots


@pytest.mark.parametrize("most", [0.3, 1.0, 7.0, 99.0, 1000.0, 123456.0])
def test_a_linear_axis_has_some_round_ticks(most: float) -> None:
    axis = plot.linear("x", most)
    assert axis.ticks[0] == 0.0
    assert 3 <= len(axis.ticks) <= 6
    assert most / 2 < axis.ticks[-1] <= most
    assert len({round(after - before, 9) for before, after in pairwise(axis.ticks)}) == 1
    assert (axis.share(0.0), axis.share(most)) == (0.0, 1.0)


@pytest.mark.parametrize(("least", "most"), [(1.0, 1.0), (0.7, 950.0), (3.0, 4.0), (10.0, 1000.0)])
def test_a_logarithmic_axis_has_powers_of_ten(least: float, most: float) -> None:
    axis = plot.logarithmic("x", least, most)
    assert axis.low <= least
    assert axis.high >= most
    assert axis.low < axis.high
    assert axis.share(axis.low) == 0.0
    assert axis.share((axis.low * axis.high) ** 0.5) == pytest.approx(0.5)


def test_names_of_lines_that_end_at_one_point_do_not_lie_on_each_other() -> None:
    lines = [plot.Line(name, [(0, 0), (1, 5)], color) for name, color in zip("abc", plot.COLORS, strict=False)]
    drawn = ET.fromstring(plot.draw(plot.linear("x", 1), plot.linear("y", 10), [*lines, plot.Line("none", [], "#000")]))
    heights = [float(one.attrib["y"]) for one in drawn.iter() if one.text in ("a", "b", "c")]
    assert len(heights) == 3
    assert min(after - before for before, after in pairwise(sorted(heights))) >= 13
    assert not any(one.text == "none" for one in drawn.iter())


# what a plan takes


def test_files_of_a_plan() -> None:
    assert PLAN.files() == 40 + SPARE_FILES
    assert dataclasses.replace(PLAN, processes=2).files() == 20 + SPARE_FILES
    assert dataclasses.replace(PLAN, loss=0.1, churn=60.0).files() == 8 + 40 + 30 + SPARE_FILES


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pnes": 64, "gateways": 200}, "too_many_files"),
        ({"rate": 4001.0}, "rate_too_high"),
        ({"processes": 5}, "too_many_processes"),
    ],
)
def test_a_plan_that_this_machine_does_not_bear(
    change: dict[str, Any], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    with pytest.raises(BadInput) as refused:
        dataclasses.replace(PLAN, **change).check()
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("limits", "raised"), [((1024, 4096), (4096, 4096)), ((100, -1), (168, -1)), ((4096, 4096), None)]
)
def test_a_limit_is_raised_as_far_as_may_be(
    limits: tuple[int, int], raised: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, wanted: told.append(wanted))
    dataclasses.replace(PLAN, gateways=20, pnes=60 if limits[0] == 1024 else 2).check()
    assert told == ([] if raised is None else [raised])


# a PAN that loses datagrams


class _Peer(asyncio.DatagramProtocol):
    """Keeps what comes, and sends it back where it *echoes*."""

    def __init__(self, *, echoes: bool) -> None:
        self._echoes = echoes
        self.got: asyncio.Queue[tuple[bytes, object]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self.got.put_nowait((data, addr))
        if self._echoes:
            self.transport.sendto(data, addr)


async def peer(*, echoes: bool) -> _Peer:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_datagram_endpoint(lambda: _Peer(echoes=echoes), local_addr=("127.0.0.1", 0))
    return made


async def test_a_lossy_pan_keeps_pnes_apart_and_loses_each_way() -> None:
    gateway = await peer(echoes=True)
    draws = iter([0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.1])
    pan = LossyPan(gateway.transport.get_extra_info("sockname"), 0.5, lambda: next(draws))
    pnes = [await peer(echoes=False), await peer(echoes=False)]
    try:
        sources = set()
        for number, one in enumerate(pnes):  # both ways pass
            one.transport.sendto(b"%d" % number, pan.address)
            assert await asyncio.wait_for(one.got.get(), 40) == (b"%d" % number, pan.address)
            sources.add((await gateway.got.get())[1])
        assert len(sources) == 2
        pnes[0].transport.sendto(b"lost up", pan.address)
        pnes[0].transport.sendto(b"lost down", pan.address)
        assert (await asyncio.wait_for(gateway.got.get(), 40))[0] == b"lost down"
        await asyncio.sleep(0.05)
        assert pnes[0].got.empty()
    finally:
        pan.close()
        for one in (gateway, *pnes):
            one.transport.close()
