"""The real procedures against a scheduler that decides what everybody hears.

No sockets: the pure functions of PNE, PN GW and server, with every message in the hands of the one who plays. A `Run`
keeps what each party said and what each party believes, so that it can be told who accepted what.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import Refused
from cpns.ids import EntityId, PnId
from cpns.protocol.established import Established
from cpns.protocol.link_auth import claimant, verifier
from cpns.protocol.pne_auth import gateway, pne, server
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire.declare import Electives
from tests.support.raw import entry_of

SERVER = EntityId("server.example")
KEYS = {name: Secret(Random(name).randbytes(32)) for name in ("alice", "bob", "home", "evil", "box")}
PRKS = {name: Secret(Random(f"prk {name}").randbytes(32)) for name in ("home", "evil")}

Say = Callable[[str, Any], Any]
"""Takes the step (m1 to m4) and what was said; returns what is heard."""


def honestly(step: str, said: Any) -> Any:
    return said


@dataclass(frozen=True)
class Setting:
    """Who runs with whom, and how."""

    pne: str = "alice"
    gateway: str = "home"
    suite: int = 1
    pan_secure: bool = False
    procedure: int = 1
    pn_id: str = "pn-1"
    electives_i: Electives = ()
    electives_r: Electives = ()


@dataclass
class Heard:
    """What each party sent, by step, and what came out of the scheduler's hands."""

    said: dict[str, Any] = field(default_factory=dict)
    heard: dict[str, Any] = field(default_factory=dict)

    def hear(self, step: str, said: Any, say: Say) -> Any:
        self.said[step] = said
        heard = say(step, said)
        self.heard[step] = heard if _is_message(heard) else said
        return self.heard[step]

    @property
    def changed(self) -> set[str]:
        return {step for step, said in self.said.items() if self.heard[step] != said}


def _is_message(body: Any) -> bool:
    """Whether the codec lets *body* in: what it does not, nobody ever hears."""
    whole = body
    if isinstance(body, m.SetupEntry):
        whole = m.GatewaySetupRequest(bytes(8), False, (body,))
    elif isinstance(body, m.ProofEntry):
        whole = m.GatewayProofs(bytes(8), (body,))
    try:
        return bool(codec.decode(codec.encode(whole), type(whole)) == whole)
    except Exception:
        return False


@dataclass
class Run(Heard):
    """One run of `pne-server`.

    Attributes:
        answered: the PNE's view when it gave its hash_PNE.
        at_pne, at_server, at_gateway: the views of those who accepted; None for those who did not.
        states: what server and PN GW held, to be played with.
    """

    answered: dict[str, Any] | None = None
    at_pne: dict[str, Any] | None = None
    at_server: dict[str, Any] | None = None
    at_gateway: dict[str, Any] | None = None
    states: dict[str, Any] = field(default_factory=dict)


def _view(
    m1: Any, gateway_id: str, server_id: str, m2: Any, wrapped: bytes | None, local: Secret | None
) -> dict[str, Any]:
    names = ("suite", "entity_id", "rand", "kid", "eph", "procedure", "electives")
    told = {name: getattr(m1, name) for name in names}
    flags = {"need_local": m1.need_local, "pan_secure": m1.pan_secure}
    answer = {"gw": gateway_id, "server": server_id, "pn": m2.pn_id, "rand_r": m2.rand}
    return {**told, **flags, **answer, "wrapped": wrapped, "local": None if local is None else local.reveal()}


def play(setting: Setting, random: Random, say: Say = honestly) -> Run:
    """Run 7.5.4 once, with every message going through *say*."""
    run = Run()
    state, m1 = pne.begin(
        own_id=EntityId(setting.pne),
        server_id=SERVER,
        gateway_id=None,
        key=KEYS[setting.pne],
        suite=setting.suite,
        rand=random.randbytes(16),
        kid=random.randbytes(1),
        eph_seed=random.randbytes(96),
        need_local=False,
        pan_secure=setting.pan_secure,
        procedure=setting.procedure,
        electives=setting.electives_i,
    )
    entry = run.hear("m1", entry_of(m1), say)
    challenged = _challenge(run, setting, random, entry)
    if challenged is None:
        return run
    awaiting, g2, local = challenged
    (c,) = g2.entries
    eph = c.eph if c.eph is not None else g2.eph
    own, pn_id = EntityId(setting.gateway), PnId(setting.pn_id)
    m2 = run.hear("m2", m.Challenge(own, SERVER, pn_id, g2.rand, c.kid, eph, c.wrapped, c.electives), say)
    proof = None
    try:
        outcome, said = pne.answer(state, m2)
        proof = said.proof
        run.answered = _view(m1, m2.gateway_id, m2.server_id, m2, m2.wrapped, outcome.local_eukey)
        run.answered |= {"kid_r": m2.kid, "eph_r": m2.eph, "electives_r": m2.electives, "proof": proof}
    except Refused:
        outcome = None
    m3 = run.hear(
        "m3", m.ProofEntry(entry.entity_id, proof) if proof else m.ProofEntry(entry.entity_id, result=51), say
    )
    m4 = _verify(run, awaiting, g2, m3, entry, local, setting)
    told = run.hear("m4", m4, say)
    if outcome is not None:
        try:
            joined = pne.finish(outcome, told)
        except Refused:
            return run
        run.at_pne = {
            **(run.answered or {}),
            "th2": joined.session.keys.th2,
            "joined": (joined.gateway_id, joined.pn_id),
        }
    return run


def _challenge(
    run: Run, setting: Setting, random: Random, entry: m.SetupEntry
) -> tuple[Any, m.GatewayChallenge, Secret] | None:
    """The server's first step; the PN GW says of its PAN what goes with the entry, so that no mismatch saves anyone."""
    txn, local = random.randbytes(8), Secret(random.randbytes(32))
    request = m.GatewaySetupRequest(txn, entry.pan_secure, (entry,))
    screened = server.screen(request, 1)
    count = len(screened.entries)
    drawn = server.Drawn(random.randbytes(16), random.randbytes(96), [random.randbytes(4)] * count, [local] * count)
    keys = {entry.entity_id: KEYS.get(entry.entity_id, Secret(random.randbytes(32)))}
    awaiting, g2, _ = server.challenge(
        screened,
        txn=txn,
        server_id=SERVER,
        gateway_id=EntityId(setting.gateway),
        pn_id=PnId(setting.pn_id),
        keys=keys,
        gateway_prk=PRKS[setting.gateway],
        drawn=drawn,
        electives=setting.electives_r,
    )
    run.states["server"] = awaiting
    return None if g2 is None else (awaiting, g2, local)


def _verify(
    run: Run,
    awaiting: Any,
    g2: m.GatewayChallenge,
    m3: m.ProofEntry,
    entry: m.SetupEntry,
    local: Secret,
    setting: Setting,
) -> m.SetupResponse:
    """The server's second step, and what an honest PN GW would tell the PNE and keep."""
    (c,) = g2.entries
    asked = gateway.AwaitingChallenge(g2.txn, {entry.entity_id: entry}, entry.pan_secure)
    at_gateway, _ = gateway.distribute(
        asked, g2, own_id=EntityId(setting.gateway), server_id=SERVER, prk=PRKS[setting.gateway]
    )
    outcome = m.OutcomeEntry(entry.entity_id, 21)
    try:
        (verdict,) = server.verify(awaiting, m.GatewayProofs(g2.txn, (m3,)))
    except Refused:
        verdict = None
    if verdict is not None and verdict.session is not None:
        outcome = m.OutcomeEntry(entry.entity_id, 0, verdict.hash_server)
        eph = c.eph if c.eph is not None else g2.eph
        view = _view(entry, setting.gateway, SERVER, g2, c.wrapped, local if entry.need_local else None)
        view |= {"kid_r": c.kid, "eph_r": eph, "electives_r": c.electives, "proof": m3.proof}
        run.at_server = {**view, "th2": verdict.session.keys.th2}
    response = m.GatewaySetupResponse(g2.txn, PnId(setting.pn_id), (outcome,))
    run.states["gateway"] = (asked, at_gateway.assigned, response)
    ended = gateway.conclude(asked, at_gateway.assigned, response)[entry.entity_id]
    if ended.assigned is not None:
        kept = ended.assigned.local_eukey
        run.at_gateway = {"local": None if kept is None else kept.reveal(), "th0": ended.assigned.th0}
    return ended.response


def violation(run: Run) -> str:
    """Return how *run* breaks the agreement of those who accepted, or nothing."""
    if run.at_pne is not None:
        if run.at_server is None:
            return "the PNE accepted, the server did not"
        differing = [name for name in run.at_server if run.at_pne[name] != run.at_server[name]]
        if differing:
            return f"PNE and server accepted with differing {', '.join(differing)}"
    if run.at_server is not None:
        if run.answered is None:
            return "the server accepted a PNE that did not answer"
        differing = [name for name in run.answered if run.at_server[name] != run.answered[name]]
        if differing:
            return f"the server accepted a PNE with differing {', '.join(differing)}"
    if run.at_gateway is not None and (run.at_server is None or run.at_gateway["local"] != run.at_server["local"]):
        return "the PN GW keeps a LocalEUKey that the server did not establish"
    return ""


# The hop and the PN GW's own authentication


@dataclass(frozen=True)
class Side:
    """What one side of `link_auth` takes for granted."""

    profile: Profile
    initiator: str
    responder: str
    key: Secret
    binding: bytes | None = None
    suite: int = 1
    electives: Electives = ()


@dataclass
class LinkRun(Heard):
    """One run of `link_auth`; `claimed` and `verified` are what each side has when it accepted."""

    claimed: Established | None = None
    verified: Established | None = None


def link(i: Side, r: Side, random: Random, say: Say = honestly) -> LinkRun:
    """Run 7.5.5 between an initiator that believes *i* and a responder that believes *r*."""
    run = LinkRun()
    state, request = claimant.begin(
        i.profile,
        own_id=EntityId(i.initiator),
        responder_id=EntityId(i.responder),
        key=i.key,
        suite=i.suite,
        rand=random.randbytes(16),
        kid=random.randbytes(1),
        eph_seed=random.randbytes(96),
        binding=i.binding,
        electives=i.electives,
    )
    m1 = run.hear("m1", request, say)
    try:
        awaiting, said = verifier.challenge(
            r.profile,
            m1,
            own_id=EntityId(r.responder),
            key=r.key,
            lowest_suite=1,
            rand=random.randbytes(16),
            kid=random.randbytes(2),
            eph_seed=random.randbytes(96),
            binding=r.binding,
            electives=r.electives,
        )
    except Refused:
        return run
    m2 = run.hear("m2", said, say)
    try:
        own, proof = claimant.answer(state, m2)
    except Refused:
        own, proof = None, m.Proof(EntityId(i.initiator), bytes(16))
    m3 = run.hear("m3", proof, say)
    try:
        run.verified, response = verifier.verify(awaiting, m3)
    except Refused:
        response = m.ActivateResponse(21)
    m4 = run.hear("m4", response, say)
    if own is not None:
        try:
            run.claimed = claimant.finish(own, m4)
        except Refused:
            return run
    return run


# What the scheduler can do


def pool_of(runs: list[Any]) -> dict[tuple[type, int], list[Any]]:
    """Return every value that was ever said, by type and length: what can be put where something like it stands."""
    pool: dict[tuple[type, int], list[Any]] = {}
    for run in runs:
        for body in run.said.values():
            for one in fields(body):
                value = getattr(body, one.name)
                values = pool.setdefault(_sort(value), [])
                if value not in values:
                    values.append(value)
    return pool


def _sort(value: Any) -> tuple[type, int]:
    return type(value), len(value) if isinstance(value, bytes) and len(value) > 4 else 0


Change = tuple[str, str, Any]
"""Step, field, and the value that is heard in its place."""


def changes_of(run: Any, pool: Mapping[tuple[type, int], list[Any]], random: Random) -> list[Change]:
    """Return every change of one field of *run*: a value of another run or field, a flag, a number, a flipped bit."""
    found: list[Change] = []
    for step, body in run.said.items():
        for one in fields(body):
            value = getattr(body, one.name)
            others = [other for other in pool.get(_sort(value), []) if other != value]
            if isinstance(value, bool):
                others = [not value]
            elif isinstance(value, int):
                others = [number for number in (0, 1, 2, 3, 21, 51) if number != value]
            elif isinstance(value, bytes):
                bits = {0, 8 * len(value) - 1, *(random.randrange(8 * len(value)) for _ in range(2))}
                others += [_flipped(value, bit) for bit in sorted(bits)]
                others.append(None)
            elif value is None:
                others = [other for sort, values in pool.items() if sort[0] is bytes for other in values[:2]]
            found += [(step, one.name, other) for other in others]
    return found


def _flipped(value: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8 if number == bit // 8 else 0) for number, byte in enumerate(value))


def saying(*changes: Change) -> Say:
    """Return what makes these changes, where the message has the field with the type that fits."""

    def say(step: str, said: Any) -> Any:
        for at, name, value in changes:
            if at == step:
                said = replace(said, **{name: value})
        return said

    return say
