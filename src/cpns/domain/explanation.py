"""Why a PNE is where it is: what the server knows of it, hop by hop, and what to do next."""

from dataclasses import dataclass

from cpns.domain.inventory import Entity, State, StoredReading
from cpns.domain.network import Present, Waiting
from cpns.domain.presence import Fact
from cpns.domain.reasons import WORDS, meaning
from cpns.errors import Result
from cpns.ids import EntityId, PnId
from cpns.wire.registry import Presence, Source

SHARES: dict[str, tuple[str, str]] = {
    "too_many_requests": ("requests at once", "it asks more than is answered: look at what it runs"),
    "too_many_invitations": ("open invitations", "some have to be answered first; each ends after a week"),
    "too_many_groups": ("groups", "let it leave one"),
    "too_often": ("groups that it makes or joins, or CM Devices, again and again", "it waits a minute, or a day"),
    "list_is_full": ("names on a group's list", "its owner takes names from it"),
    "member_list_is_full": ("names on a network's list", "its owner takes names from it"),
    "too_many_runs": ("devices that set up at once", "look at its gateway: it asks for many that do not answer"),
    "invitations_at_once": ("invitations at once", "each waits for people: let it invite fewer at a time"),
    "too_many_readings": (
        "readings a second",
        "it sends them again; let it send fewer, or give the server a higher --readings-rate",
    ),
    "too_much_in_readings": (
        "bytes of readings a day",
        "it sends them again; let it send less, or give the server a higher --readings-volume",
    ),
    "unproven_pnes": (
        "PNEs a second that prove nothing",
        "strangers on its PAN, or the gateway itself, name devices that are not there: see the audit log",
    ),
    "room_full": ("SETUPs under way at the server", "it sends them again; look which gateways bring so many"),
    "gave_way": ("SETUPs under way at the server", "it sends them again; look which gateways bring so many"),
}
"""Reason of a refusal for going over a share to what that is a share of, and what to do."""


Clones = tuple[int, float, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known, as of `now`; None for what is not.

    Attributes:
        running: whether the server runs; without it there are no sessions to speak of.
        gateway: the PN GW of its newest attempt.
        gateway_connected: whether that has a session with the server.
        gateway_store_fails: whether it says that it can keep nothing.
        store: what fails in the server's own store, in a sentence; empty where nothing does.
        gateway_silent: seconds since anything came from it, where it is connected and does not answer.
        session_age: seconds since its session with the server began.
        confirmed: whether a message of the PNE has opened under that session.
        network: the PN that it is in, and how.
        waiting: the PNs that it waits for.
        presence: how it can be reached now.
        answers: whether it answers now; None where it was not asked.
        texts: how many wait for it.
        excess: over which share it went last, how often in a row, and seconds since; `excess_of_gateway` likewise.
        owner: of the PN that it is in.
        stands_in: who came first there, where there is no owner.
        unasked: the processes of the server that could not be asked; what is not known may be known there.
        clones: how often two devices with its key answered at once, seconds since, and behind which PN GWs; None where
            that is not certain. `clones_of_gateway` likewise, with hosts.
    """

    now: float
    running: bool
    device: Entity
    gateway: Entity | None
    gateway_connected: bool
    session_age: float | None
    confirmed: bool
    last_reading: StoredReading | None
    network: tuple[PnId, Present] | None = None
    waiting: tuple[Waiting, ...] = ()
    presence: Fact | None = None
    answers: bool | None = None
    texts: int = 0
    excess: tuple[str, int, float] | None = None
    excess_of_gateway: tuple[str, int, float] | None = None
    owner: EntityId | None = None
    stands_in: EntityId | None = None
    clones: Clones | None = None
    clones_of_gateway: Clones | None = None
    unasked: tuple[str, ...] = ()
    gateway_silent: float | None = None
    gateway_store_fails: bool = False
    store: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One hop or step.

    Attributes:
        good: None where nothing can be said.
        age: seconds since the fact, where it has a time.
        next_step: what to do; empty where it is good.
    """

    step: str
    good: bool | None
    what: str
    age: float | None = None
    next_step: str = ""


def explain(facts: Facts) -> list[Finding]:
    """Return the findings from the server outwards; the first that is not good is where to begin."""
    steps = (_provisioned, _attempt, _network, _gateway, _session, _reach, _traffic, _owner)
    found = [step(facts) for step in steps]
    if facts.gateway_store_fails and facts.gateway is not None:
        found.append(_full(facts.gateway.entity_id))
    if facts.store:
        found.append(
            Finding("store", False, facts.store, next_step="readings wait at the devices until it works again")
        )
    if facts.clones is not None:
        found.append(_two("copies", "two devices", facts.device.entity_id, facts.clones, "device"))
    if facts.clones_of_gateway is not None and facts.gateway is not None:
        gateway = facts.gateway.entity_id
        found.append(_two("copies of gateway", "two gateways", gateway, facts.clones_of_gateway, "gateway"))
    over = {"shares": facts.excess, "shares of gateway": facts.excess_of_gateway}
    return [*found, *(_over(name, one) for name, one in over.items() if one is not None)]


def _two(step: str, two: str, entity: EntityId, clones: Clones, kind: str) -> Finding:
    times, seconds, places = clones
    what = f"{two} with the key of {entity} push each other out, at {' and '.join(places)}: seen {times} times"
    next_step = f"stop one of them and give it a key of its own: `cpns {kind} add`; if it is not yours, revoke {entity}"
    return Finding(step, False, what, seconds, next_step)


def _full(gateway: EntityId) -> Finding:
    what = f"{gateway} says that it can keep nothing: who comes in through it sets up again after its restart"
    return Finding("store of gateway", False, what, next_step=f"free some space at {gateway}: its log names the disk")


def _over(step: str, excess: tuple[str, int, float]) -> Finding:
    what, times, seconds = excess
    of, next_step = SHARES.get(what, (what, "see the server's log at that time"))
    return Finding(step, False, f"over its share of {of}, {times} times: told to wait", seconds, next_step)


def explain_stranger(stranger: Waiting, now: float) -> list[Finding]:
    """Return the findings on an ID that nobody provisioned, and that a PN GW named."""
    what = f"no; {stranger.via} named it, {stranger.attempts} times"
    step = f"if it is yours: `cpns device approve {stranger.pne_id}`, and put the credential into it"
    return [Finding("provisioned", False, what, now - stranger.last, step)]


def _provisioned(facts: Facts) -> Finding:
    device = facts.device
    if device.state is State.REVOKED:
        age = None if device.revoked_at is None else facts.now - device.revoked_at
        return Finding("provisioned", False, "revoked", age, WORDS["revoked"])
    return Finding("provisioned", True, "active", facts.now - device.created_at)


def _attempt(facts: Facts) -> Finding:
    device = facts.device
    if device.last_result is None or device.last_at is None or not _tried(device):
        step = "start it, and check that it reaches a gateway of this server"
        since = "was ever seen here" if device.last_at is None else "since it was provisioned"
        return Finding("newest attempt", None, f"none {since}", next_step=step)
    age = facts.now - device.last_at
    via = f"through {device.last_via}"
    if device.last_result is Result.SUCCESS:
        return Finding("newest attempt", True, f"success {via}", age)
    reason = device.last_reason or ""
    what = f"{device.last_result.name.lower()} ({int(device.last_result)}) {via}: {reason}"
    return Finding("newest attempt", False, what, age, meaning(reason) or _LOG)


_LOG = "see the server's log at that time"


def _tried(device: Entity) -> bool:
    """Whether it was seen since it was provisioned; an ID may have been tried before."""
    return device.last_at is not None and device.last_at >= device.created_at


def _network(facts: Facts) -> Finding:
    if facts.network is not None:
        pn_id, how = facts.network
        return Finding("network", True, f"in {pn_id} as {'guest' if how.guest else 'member'}", facts.now - how.since)
    if facts.waiting:
        one = facts.waiting[0]
        return Finding("network", False, f"waits for {one.pn_id}", facts.now - one.since, WORDS["pending_approval"])
    return Finding("network", None, "in none", next_step="it comes into that of its gateway when it establishes")


def _owner(facts: Facts) -> Finding:
    if facts.network is None:
        return Finding("owner", None, "of no network")
    if facts.owner is not None:
        return Finding("owner", True, f"{facts.owner} owns it")
    pn_id, _ = facts.network
    what = "nobody owns it"
    if facts.stands_in is not None:
        what += f"; {facts.stands_in} came first: it invites, approves, puts out one a minute, and can't bar or release"
    return Finding("owner", None, what, next_step=f"to name an owner: `cpns network set {pn_id} --owner DEVICE`")


def _reach(facts: Facts) -> Finding:
    waits = f"; {facts.texts} texts wait for it" if facts.texts else ""
    if facts.presence is None:
        if facts.unasked:
            return Finding("reach", None, f"not known here; {_UNASKED}{waits}", next_step=_LOOK)
        return Finding("reach", None, f"the server does not run{waits}")
    if not _tried(facts.device) or facts.presence.at < facts.device.created_at:  # the server's start is no news of it
        return Finding("reach", False, f"never had a session here{waits}", next_step=_KEEP)
    name = facts.presence.presence.name.lower()
    what = f"{name}, says {_SAYS[facts.presence.source]}{waits}"
    if facts.answers is False:
        what = f"{name}, said {_SAYS[facts.presence.source]}; it does not answer now{waits}"
        return Finding("reach", False, what, facts.now - facts.presence.at, f"look whether it runs; {_KEEP}")
    good = {Presence.ASLEEP: None, Presence.AWAY: False}.get(facts.presence.presence, True)
    return Finding("reach", good, what, facts.now - facts.presence.at, "" if good else _KEEP)


_UNASKED = "other processes can't be asked"
_LOOK = "`cpns server status` tells which, and why"
_KEEP = "texts: `cpns device send --keep SECONDS` keeps them until it is back"
_SAYS = {Source.SERVER: "the server", Source.GATEWAY: "its gateway", Source.PNE: "the device itself"}


def _gateway(facts: Facts) -> Finding:
    if not facts.running:
        return Finding("gateway", None, "the server does not run", next_step="`cpns server run`")
    if facts.gateway is None:
        return Finding("gateway", None, "none is known")
    name = facts.gateway.entity_id
    if facts.gateway.state is State.REVOKED:
        return Finding("gateway", False, f"{name} is revoked", next_step="let the device go through another gateway")
    if facts.gateway_silent is not None:
        step = f"it connects anew within half a minute by itself; else look at {name} and its way to the server"
        return Finding("gateway", False, f"the uplink of gateway {name} is silent", facts.gateway_silent, step)
    if facts.gateway_connected:
        return Finding("gateway", True, f"{name} is connected")
    if facts.unasked:
        return Finding("gateway", None, f"{name} is not connected to this process; {_UNASKED}", next_step=_LOOK)
    return Finding("gateway", False, f"{name} is not connected", next_step=f"look at {name} and its way to the server")


def _session(facts: Facts) -> Finding:
    if not facts.running:
        return Finding("session", None, "the server does not run")
    if facts.session_age is None and facts.unasked:
        return Finding("session", None, f"none stands at this process; {_UNASKED}", next_step=_LOOK)
    if facts.session_age is None:
        return Finding("session", False, "none stands", next_step="the device establishes one by itself when it can")
    if not facts.confirmed:
        what = "stands, and the device has not used it: it may not know of it"
        return Finding("session", None, what, facts.session_age, "it ends by itself; the device tries again")
    return Finding("session", True, "stands, end to end", facts.session_age)


def _traffic(facts: Facts) -> Finding:
    if facts.last_reading is None:
        return Finding("readings", None, "none was ever received")
    return Finding(
        "readings",
        True,
        f"number {facts.last_reading.number} through {facts.last_reading.gateway_id}",
        facts.now - facts.last_reading.received_at,
    )
