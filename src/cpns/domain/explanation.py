"""Why a PNE is where it is: what the server knows of it, hop by hop, and what to do next."""

from dataclasses import dataclass

from cpns.domain.inventory import Entity, State, StoredReading
from cpns.errors import Result

NEXT: dict[str, str] = {
    "unknown": "no such device is provisioned: `cpns device add`, and put the credential into it",
    "revoked": "it was revoked on purpose; to let it in again, provision it under a new ID",
    "wrong_hash": "its EUKey is not the server's, or a gateway lied: check its key file, then the gateway",
    "not_a_pne": "this ID is a gateway's: give the device a credential of its own",
    "not_a_gateway": "this ID is a device's: give the gateway a credential of its own",
    "not_admitted_through_this_gateway": "it is admitted through another gateway alone: see `cpns device show`",
    "pan_mismatch": "gateway and device disagree whether the PAN is secure: start both with or without --secure-pan",
    "suite_refused": "it proposes a suite under the server's --lowest-suite: start it with a higher --suite",
    "bad_request": "its gateway named it twice in one SETUP Request",
    "no_answer": "the gateway asked, and it did not answer: a bad link, or its EUKey is not the server's",
}
"""Reason of the audit log to what it means and what to do."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known, as of `now`; None for what is not.

    Attributes:
        running: whether the server runs; without it there are no sessions to speak of.
        gateway: the PN GW of its newest attempt.
        gateway_connected: whether that has a session with the server.
        session_age: seconds since its session with the server began.
        confirmed: whether a message of the PNE has opened under that session.
    """

    now: float
    running: bool
    device: Entity
    gateway: Entity | None
    gateway_connected: bool
    session_age: float | None
    confirmed: bool
    last_reading: StoredReading | None


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
    return [_provisioned(facts), _attempt(facts), _gateway(facts), _session(facts), _traffic(facts)]


def _provisioned(facts: Facts) -> Finding:
    device = facts.device
    if device.state is State.REVOKED:
        age = None if device.revoked_at is None else facts.now - device.revoked_at
        return Finding("provisioned", False, "revoked", age, NEXT["revoked"])
    return Finding("provisioned", True, "active", facts.now - device.created_at)


def _attempt(facts: Facts) -> Finding:
    device = facts.device
    if device.last_result is None or device.last_at is None:
        step = "start it, and check that it reaches a gateway of this server"
        return Finding("newest attempt", None, "none was ever seen here", next_step=step)
    age = facts.now - device.last_at
    via = f"through {device.last_via}"
    if device.last_result is Result.SUCCESS:
        return Finding("newest attempt", True, f"success {via}", age)
    reason = device.last_reason or ""
    what = f"{device.last_result.name.lower()} ({int(device.last_result)}) {via}: {reason}"
    return Finding("newest attempt", False, what, age, NEXT.get(reason, "see the server's log at that time"))


def _gateway(facts: Facts) -> Finding:
    if not facts.running:
        return Finding("gateway", None, "the server does not run", next_step="`cpns server run`")
    if facts.gateway is None:
        return Finding("gateway", None, "none is known")
    name = facts.gateway.entity_id
    if facts.gateway.state is State.REVOKED:
        return Finding("gateway", False, f"{name} is revoked", next_step="let the device go through another gateway")
    if facts.gateway_connected:
        return Finding("gateway", True, f"{name} is connected")
    return Finding("gateway", False, f"{name} is not connected", next_step=f"look at {name} and its way to the server")


def _session(facts: Facts) -> Finding:
    if not facts.running:
        return Finding("session", None, "the server does not run")
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
