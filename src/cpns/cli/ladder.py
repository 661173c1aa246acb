"""The ladder: every message of the procedures as one line, drawn from what the parties traced."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

COLUMNS = 3
SPACING = 25
LONGEST_NAME = 8
PROTECTS_ITSELF = ("GroupKeyNotify", "GROUP-MESSAGE Request")
"""Sealed and signed for a group: the same to each member, in no session."""
COLORS = {
    "-": "white",
    "gw-server": "blue",
    "pne-gw": "dark_orange",
    "pne-server": "green",
    "cm-server": "magenta",
}
PROTECTION = {
    "-": "no session yet",
    "gw-server": "gateway session",
    "pne-gw": "hop session",
    "pne-server": "end-to-end session",
    "cm-server": "session of the CM Device Key",
}


@dataclass(frozen=True, slots=True)
class Traced:
    """A line of a trace file: one message, as its sender tells it."""

    at: float
    sender: str
    peer: str
    what: str
    session: str


class Traces:
    """Reads the trace files of all parties as they grow, and gives their messages in order of time."""

    def __init__(self, files: list[Path]) -> None:
        self._offsets = dict.fromkeys(files, 0)

    def new(self) -> list[Traced]:
        """Return what was traced since the last call."""
        found: list[Traced] = []
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
            self._offsets[path] = offset + len(whole) + bool(whole)
            found.extend(Traced(**json.loads(line)) for line in whole.split(b"\n") if line)
        return sorted(found, key=lambda one: one.at)


def header(columns: tuple[str, str, str]) -> Text:
    """Return the names above the lifelines."""
    line = Text()
    for name in columns:
        line.append(name.ljust(SPACING), style="bold")
    return line


def rung(one: Traced, columns: tuple[str, str, str], secure: frozenset[str], note: str = "") -> Text | None:
    """Return one message as a line of the ladder; None for one that is not of these three lifelines.

    Args:
        one: the message.
        columns: the entity of the first lifeline stands for every PNE; then the PN GW and the server.
        secure: the PNEs on a Secure PAN.
        note: what else is said of it.
    """
    sender, peer = _column(one.sender, columns), _column(one.peer, columns)
    if sender == peer or one.what.endswith("answered"):
        return None
    left, right = sorted((sender, peer))
    width = (right - left) * SPACING - 1
    label = f" {one.what} "
    line = ["│" if i % SPACING == 0 else " " for i in range((COLUMNS - 1) * SPACING + 1)]
    start = left * SPACING + 1
    line[start : start + width] = list(label.center(width, "─"))
    line[start if sender > peer else start + width - 1] = "◀" if sender > peer else "▶"
    pne = one.sender if sender == 0 else one.peer if peer == 0 else ""
    protection = PROTECTION[one.session]
    if one.session == "-" and pne in secure:
        protection = "the Secure PAN itself"
    elif one.session == "-" and one.what in PROTECTS_ITSELF:
        protection = "the Group Key, and a signature"
    if len(pne) > LONGEST_NAME:
        pne = f"{pne[: LONGEST_NAME - 1]}…"
    text = Text("".join(line), style=COLORS[one.session])
    text.append(f" {pne:<6} {protection}", style="dim")
    if note:
        text.append(f"  {note}", style="bold")
    return text


def _column(entity: str, columns: tuple[str, str, str]) -> int:
    if entity in columns[1:]:
        return columns.index(entity)
    return 1 if entity == "PN GW" else 0
