"""What ``cpns bench`` shows while it runs, and in the end."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cpns.cli import output as o
from cpns.cli.options import Output
from cpns.cli.run import run
from cpns.cli.run_gateway import check_authority
from cpns.errors import Unavailable
from cpns.loadgen import report
from cpns.loadgen import site as sites
from cpns.loadgen.figures import SHARES, Sample
from cpns.loadgen.plan import Plan
from cpns.loadgen.run import Run

LINE_SECONDS: Final = 5
"""Between two lines, where nobody looks at a terminal."""
MIB: Final = 1024 * 1024


def run_bench(
    plan: Plan,
    data: Path | None,
    server: tuple[str, int] | None,
    tls_ca: Path | None,
    out: Path | None,
    output: Output,
) -> int:
    """Run the load, show it, and write the report; return the exit code.

    Args:
        plan: what is offered.
        data: of the server that is loaded; None: a new one.
        server: where gateways connect to; None: where it listens.
        tls_ca: PEM file with who may sign that server's certificate; None: whom this machine trusts.
        out: folder for the report.
        output: how the report is printed.

    Raises:
        UserError: it could not be begun, or something of it failed.
    """
    plan.check()
    check_authority(tls_ca)

    async def role(stop: asyncio.Event) -> int:
        with _View(plan) as view:
            made = plan.gateways, plan.total, view.told
            async with sites.own(*made) if data is None else sites.running(data, server, tls_ca, *made) as site:
                load = Run(plan, site, view.told, view.saw, stop)
                try:
                    await load.run()
                except httpx.TransportError as error:
                    raise Unavailable("server_gone", "The server closed the connection to its admin API.") from error
        figures = load.figures
        document = report.document(plan, figures)
        if output is Output.JSON:
            o.print_json(document)
        else:
            o.print_fields(_fields(document))
        if out is not None:
            written = report.save(out, document, figures.samples)
            print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
        return 0 if document["held"] else 1

    return run(role)


class _View(contextlib.AbstractContextManager["_View"]):
    """What is shown on stderr: a table that lives, or a line now and then."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._doing = ""
        self._last: Sample | None = None
        self._count = 0
        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "_View":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def told(self, doing: str) -> None:
        """Show what is being done."""
        self._doing, self._count = doing, 0
        if self._live is None:
            print(doing, file=sys.stderr, flush=True)
        else:
            self._draw(self._live)

    def saw(self, sample: Sample) -> None:
        """Show a second."""
        self._last = sample
        self._count += 1
        if self._live is not None:
            self._draw(self._live)
        elif self._count % LINE_SECONDS == 0:
            fields = _now(sample, self._plan)
            print(", ".join(f"{name} {value}" for name, value in fields.items()), file=sys.stderr, flush=True)

    def _draw(self, live: Live) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, title=self._doing, title_justify="left")
        for name, value in ({} if self._last is None else _now(self._last, self._plan)).items():
            table.add_row(name, value)
        live.update(table, refresh=True)


def _now(sample: Sample, plan: Plan) -> dict[str, str]:
    """Return one second for people."""
    return {
        "established": f"{sample.established} of {plan.total}",
        "readings/s": f"{sample.offered:.0f} offered, {sample.acknowledged:.0f} acknowledged",
        "latency": _latency(sample.latency_ms),
        "refused": str(sample.refused),
        **{role: f"{use.cores:.0%} CPU, {use.rss / MIB:.0f} MiB" for role, use in sample.uses.items()},
        "others": f"{sample.others:.0%} CPU",
    }


def _latency(values: list[float | None]) -> str:
    told = [(share, value) for share, value in zip(SHARES, values, strict=True) if value is not None]
    return ", ".join(f"p{share * 100:.0f} {value:.1f} ms" for share, value in told) or "-"


def _fields(document: dict[str, Any]) -> dict[str, object]:
    """Return the report for people."""
    plan = document["plan"]
    refused = ", ".join(f"{count} {reason}" for reason, count in document["refused"].items())
    took = document["establish_s"]
    cores = [f"{role} {value:.2f}" for role, value in document["cores"].items()]
    memory = [f"{role} {value / 1024:.1f} KiB" for role, value in document["bytes_per_pne"].items()]
    return {
        "established": f"{document['established']} of {plan['gateways'] * plan['pnes']} PNEs"
        f" at {plan['gateways']} gateways" + ("" if took is None else f", in {took:.1f} s"),
        "readings": f"{document['offered']} offered, {document['acknowledged']} acknowledged"
        f", {document['throughput']:.0f} a second",
        "refused": refused or "none",
        "unanswered": document["unanswered"],
        "latency": _latency(document["latency_ms"])
        + ("" if document["max_ms"] is None else f", at most {document['max_ms']:.1f} ms"),
        "came back": document["churned"],
        "cores busy": ", ".join(cores),
        "memory for a PNE": ", ".join(memory),
        "held": document["held"],
    }
