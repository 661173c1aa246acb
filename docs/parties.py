"""Draw docs/parties.svg: the parties, the keys that each holds, and the three sessions. ``python docs/parties.py``."""

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 430
INK, SOFT, PAPER = "#1d2733", "#5b6b7c", "#ffffff"
END_TO_END, UPLINK, HOP = "#0b7a4b", "#1f5fbf", "#b4610a"

PARTIES = (
    (30, "PNE", "a watch, a sensor, a meter", ("EUKey of this PNE", "LocalEUKey of its hop"), END_TO_END),
    (370, "PN GW", "a phone, a hub; not trusted", ("EUKey of this PN GW", "LocalEUKey of each PNE"), HOP),
    (710, "CPNS Server", "in the core network", ("EUKeys of all, sealed", "decides who is who"), UPLINK),
)
BOX, TOP, TALL = 220, 62, 128


def text(
    x: float, y: float, words: str, size: int = 14, color: str = INK, weight: str = "400", anchor: str = "middle"
) -> str:
    """Return a line of text."""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def party(x: int, name: str, what: str, keys: tuple[str, ...], color: str) -> str:
    """Return one party's box."""
    parts = [
        f'<rect x="{x}" y="{TOP}" width="{BOX}" height="{TALL}" rx="10" fill="{PAPER}" stroke="{color}" stroke-width="2"/>',
        text(x + BOX / 2, TOP + 28, name, 18, INK, "700"),
        text(x + BOX / 2, TOP + 48, what, 12, SOFT),
    ]
    for line, key in enumerate(keys):
        y = TOP + 80 + 24 * line
        parts.append(f'<circle cx="{x + 24}" cy="{y - 4}" r="4.5" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<path d="M{x + 28.5} {y - 4} h10 v4 m-4 -4 v3" stroke="{color}" stroke-width="2" fill="none"/>')
        parts.append(text(x + 48, y, key, 13, INK, "400", "start"))
    return "".join(parts)


def session(x1: float, x2: float, y: float, color: str, name: str, keyed: str, says: str, thick: int = 10) -> str:
    """Return a session as a pipe between two columns."""
    middle = (x1 + x2) / 2
    return "".join(
        (
            f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="{color}" stroke-width="{thick}" stroke-linecap="round"/>',
            f'<circle cx="{x1}" cy="{y}" r="9" fill="{PAPER}" stroke="{color}" stroke-width="3"/>',
            f'<circle cx="{x2}" cy="{y}" r="9" fill="{PAPER}" stroke="{color}" stroke-width="3"/>',
            text(middle, y - 14, f"{name}: {keyed}", 13, color, "700"),
            text(middle, y + 24, says, 12, SOFT),
        )
    )


def draw() -> str:
    """Return the picture."""
    pne, gateway, server = (x + BOX / 2 for x, *_ in PARTIES)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif" role="img">',
        "<title>The parties of cpns, the keys each holds, and the three sessions</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        text(WIDTH / 2, 34, "The server authenticates the device itself, through the gateway", 17, INK, "700"),
        *(party(*one) for one in PARTIES),
        *(
            f'<line x1="{x}" y1="{TOP + TALL}" x2="{x}" y2="{HEIGHT - 40}" stroke="#d5dce3" stroke-width="1.5"/>'
            for x in (pne, gateway, server)
        ),
        session(pne, gateway, 232, HOP, "hop session", "from the LocalEUKey", "none on a Secure PAN"),
        session(
            gateway, server, 232, UPLINK, "gateway session", "from the PN GW's EUKey", "SETUP for up to 64 PNEs at once"
        ),
        session(
            pne,
            server,
            318,
            END_TO_END,
            "end-to-end session",
            "from the PNE's EUKey",
            "passes the PN GW, which can neither read nor change it",
            14,
        ),
        text((pne + gateway) / 2, HEIGHT - 14, "PAN: CoAP over UDP", 12, SOFT),
        text((gateway + server) / 2, HEIGHT - 14, "uplink: CoAP over TCP, TLS optional", 12, SOFT),
        "</svg>\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
