"""``python -m bench.rekey``: what it costs when one of n members on a PAN leaves: broadcast against unicast.

Both by the code that a PN GW and its members run: the messages as they are sent (with CoAP and, one by one, OSCORE),
and the CPU of making and opening them. Writes a table to docs/performance.md and the plot docs/rekey.svg.
"""

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from bench import report
from cpns.coap import datagram
from cpns.coap.message import Message
from cpns.crypto import group
from cpns.crypto.schedule import Profile, SessionKeys
from cpns.crypto.secret import Secret
from cpns.ids import EntityId, SgId
from cpns.loadgen import plot
from cpns.loadgen.machine import machine
from cpns.protocol.group_keying import member, tree
from cpns.service.system import random_bytes
from cpns.session.table import Session
from cpns.transport.coap import request_of
from cpns.wire import codec
from cpns.wire.group_messages import GroupKeyBroadcast, GroupKeyRequest
from cpns.wire.registry import CPNS_PATH

SIZES = [2**exponent for exponent in range(1, 13)]
SG, GW = SgId("sg-aaaaaaaaaaaaaaaa"), EntityId("gw-1")
TURNS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one rekey of *members*, after one left: bytes on the PAN, and microseconds of CPU.

    Attributes:
        opening: of one member.
    """

    members: int
    nodes: int
    broadcast_bytes: int
    unicast_bytes: int
    broadcast_us: float
    unicast_us: float
    opening_us: float


def _us(work: Callable[[], object]) -> float:
    """Return the median CPU time of *work* over the turns."""
    taken = []
    for _ in range(TURNS):
        begun = time.process_time_ns()
        work()
        taken.append((time.process_time_ns() - begun) / 1000)
    return statistics.median(taken)


def _datagram(message: Message) -> int:
    """Return the bytes of a CoAP message as UDP payload, header and token of 2 bytes included."""
    return len(datagram.encode(0, 0, message, b"to"))


def _session(number: int) -> Session:
    keys = SessionKeys(Secret(random_bytes(32)), random_bytes(32))
    return Session(Profile.PNE_GW, GW, EntityId(f"pne-{number}"), b"\x01\x02", b"\x03", keys, 0.0)


def measure(members: int) -> Cost:
    """Return what a rekey costs where *members* are left."""
    names = [EntityId(f"pne-{number}") for number in range(members + 1)]
    planted = tree.plant(SG, GW, 1, Secret(random_bytes(32)), names)
    key, sign_key = Secret(random_bytes(32)), Secret(random_bytes(32))

    def make() -> GroupKeyBroadcast:
        changed = tree.change(planted, names[1:])
        if changed is None:
            raise RuntimeError("one that leaves calls for a new GKEK")
        return tree.broadcast(changed, 2, key, sign_key)

    own = member.take(tree.gkdk(planted, names[1], group.verify_key(sign_key)), GW)
    message = make()
    outer, _ = request_of(None, CPNS_PATH, codec.encode(message))
    sessions = [_session(number) for number in range(members)]
    one_by_one = codec.encode(GroupKeyRequest(SG, 2, key.reveal()))

    def protect() -> list[Message]:
        return [request_of(one, CPNS_PATH, one_by_one)[0] for one in sessions]

    protect()  # contexts are derived with the first message of a session
    return Cost(
        members,
        len(message.entries),
        _datagram(outer),
        sum(map(_datagram, protect())),
        _us(make),
        _us(protect),
        _us(lambda: member.open_broadcast(own, message)),
    )


def _plot(costs: list[Cost]) -> str:
    """Return the plot: bytes of a rekey over members, both axes logarithmic."""
    most = max(cost.unicast_bytes for cost in costs)
    powers = [10.0**power for power in range(int(math.log10(most)) + 1)]
    members = plot.Axis("members on the PAN", SIZES[0], SIZES[-1], SIZES, logarithmic=True)
    size = plot.Axis("bytes of a rekey", 1, most, powers, logarithmic=True)
    broadcast = [(cost.members, cost.broadcast_bytes) for cost in costs]
    one_by_one = [(cost.members, cost.unicast_bytes) for cost in costs]
    return plot.draw(
        members,
        size,
        [
            plot.Line("broadcast", broadcast, plot.COLORS[0]),
            plot.Line("one by one", one_by_one, plot.COLORS[1], plot.DASHED),
        ],
    )


def main() -> None:
    """Measure, print, and write docs/performance.md and docs/rekey.svg."""
    console = Console(highlight=False)
    costs = []
    for members in SIZES:
        cost = measure(members)
        costs.append(cost)
        console.print(f"{members:5} members: broadcast {cost.broadcast_bytes:4} B, one by one {cost.unicast_bytes:6} B")
    head = ["members", "nodes", "broadcast, bytes", "one by one, bytes"]
    head += ["broadcast, us", "one by one, us", "opening, us"]
    rows = [
        [
            *(str(cost.members), str(cost.nodes), str(cost.broadcast_bytes), str(cost.unicast_bytes)),
            *(f"{value:.0f}" for value in (cost.broadcast_us, cost.unicast_us, cost.opening_us)),
        ]
        for cost in costs
    ]
    cpu = json.dumps(machine()["cpu"]).strip('"')
    report.put(report.PAGE, "rekey", f"{cpu}, Python as above.\n\n{report.table(head, rows)}")
    report.draw("rekey", _plot(costs))


if __name__ == "__main__":
    main()
