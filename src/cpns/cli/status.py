"""What ``cpns server status`` prints."""

from pathlib import Path
from typing import Any, Final

from cpns.cli import output as o
from cpns.cli import talk
from cpns.cli.options import Output

_CONDITIONS: Final = {"up": "up", "unasked": "up, can't be asked"}
_OF_PROCESS: Final = ("machine", "process", "state", "listens at", "up for", "clock")
_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_OF_WORK: Final = ("sessions", "gateways", "disk free")


def status(data: Path, output: Output) -> None:
    """Print the server at a glance, and each of its processes."""
    found = talk.get(data, "/status")
    if output is Output.JSON:
        o.print_json(found)
        return
    store, bus, processes = found["store"], found["bus"], found["processes"]
    connected = f"{sum(len(one['gateways'] or ()) for one in processes)} connected"
    if any(one["gateways"] is None for one in processes):
        connected += ", as far as is known"
    o.print_fields(
        {
            "server": found["id"] + ("" if found["running"] else ", does not run here"),
            "store": f"{store['name']}: {store['trouble'] or 'works'}",
            "bus": None if bus is None else f"{bus['url']}: {'works' if bus['connected'] else 'away'}",
            "gateways": f"{o.known(found['gateways'])} provisioned, {connected}",
            "devices": f"{o.known(found['devices'])} provisioned",
            "sessions": o.known(found["sessions"]),
            "last reading": o.known(found["last_reading"]),
        }
    )
    if processes:
        print()
        o.print_table((*_OF_PROCESS, *_OF_WORK), map(_row, processes))


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    condition = _CONDITIONS.get(one["condition"]) or f"silent for {talk.age_of(one['seen_at'])}"
    free, size = one["disk_free"], one["disk_size"]
    return (
        *(one["host"], one["pid"], "this one" if one["here"] else condition, one["listening"]),
        *(talk.age_of(one["started_at"]), f"{one['clock_ahead']:+.1f} s"),
        *(o.known(one["sessions"]), o.known(one["gateways"])),
        o.known(None) if free is None else f"{_amount(free)} of {_amount(size)}",
    )


def _amount(size: int) -> str:
    """Return a number of bytes, short, and never as nothing where there is something."""
    unit, factor = next(one for one in _UNITS if size >= one[1] or one is _UNITS[-1])
    return f"{size / factor:.{0 if size >= 10 * factor else 1}f} {unit}"
