"""The real code against a scheduler: every field of every message, replayed, spliced and flipped; and the mutants.

Honest runs are recorded; then a run is played again with what others said in it. Nobody accepts after any change, and
nobody accepts with another view than its peer's. Each mutant leaves out a binding, and its attack then succeeds.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from random import Random
from typing import Any

import pytest

from cpns.crypto import primitives
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.errors import Refused
from cpns.protocol.pne_auth import gateway, server
from cpns.wire import messages as m
from cpns.wire.declare import Electives
from tests.support.scheduler import (
    KEYS,
    SERVER,
    Run,
    Setting,
    Side,
    changes_of,
    link,
    play,
    pool_of,
    saying,
    violation,
)
from tests.support.soak import one_in

pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = [
    Setting(),
    Setting(gateway="evil", procedure=3),
    Setting(pne="bob", pn_id="pn-2"),
    Setting(pan_secure=True),
    Setting(gateway="evil", pan_secure=True, procedure=2, pn_id="pn-2"),
    Setting(electives_i=((128, 7), (300, b"new")), electives_r=((129, True), (131, "more"))),
]
GROWN = SETTINGS[-1]


def recorded(suite: int = 1) -> list[Run]:
    """Return the honest runs: the first three of them once more, as replays want an older run of the same parties."""
    runs = [
        play(replace(setting, suite=suite), Random(number)) for number, setting in enumerate([*SETTINGS, *SETTINGS[:3]])
    ]
    assert all(run.at_pne and run.at_server and run.at_gateway and not violation(run) for run in runs)
    return runs


def must_not_accept(run: Run, what: object) -> None:
    assert violation(run) == "", (what, violation(run))
    if run.changed:
        assert run.at_pne is None, what
    if run.changed & {"m1", "m2", "m3"}:
        assert run.at_server is None, what


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_one_field_changed(number: int, suite: int) -> None:
    """Every field of every message of a run, with everything of its kind that any run ever said in its place."""
    runs = recorded(suite)
    setting = replace(SETTINGS[number], suite=suite)
    changes = changes_of(play(setting, Random(99)), pool_of(runs), Random(number))
    assert len(changes) > 100
    assert {step for step, _, _ in changes} == {"m1", "m2", "m3", "m4"}
    runs = [play(setting, Random(99), saying(change)) for change in changes]
    for run, change in zip(runs, changes, strict=True):
        must_not_accept(run, change)
    assert sum(bool(run.changed) for run in runs) > 0.8 * len(runs)  # the codec lets the others in nowhere


@pytest.mark.soak
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[4]], ids=["open", "secure"])
def test_two_fields_changed(setting: Setting) -> None:
    """All pairs of such changes; in `make test` one in five."""
    runs = recorded()
    changes = changes_of(play(setting, Random(99)), pool_of(runs[:3] + runs[5:]), Random(5))
    pairs = [(a, b) for a, b in combinations(changes, 2) if a[:2] != b[:2]]
    assert len(pairs) > 10_000
    for pair in one_in(5, pairs):
        must_not_accept(play(setting, Random(99), saying(*pair)), pair)


def test_whole_messages_replayed() -> None:
    """Any of the four messages, alone or together, as any older run had it."""
    runs = recorded()
    for older, taken in product(runs, product([False, True], repeat=4)):
        steps = [step for step, replayed in zip(("m1", "m2", "m3", "m4"), taken, strict=True) if replayed]
        if not steps:
            continue

        def say(step: str, said: Any, older: Run = older, steps: list[str] = steps) -> Any:
            return older.said[step] if step in steps else said

        run = play(SETTINGS[0], Random(98), say)
        must_not_accept(run, (older, steps))
        assert run.changed >= set(steps) & run.said.keys()


def test_one_session_for_each_hash() -> None:
    """Every hash_PNE ever said, given to every run that waits for one: its own takes it, and no other."""
    runs = recorded()
    accepted = []
    for (at, waiting), (number, other) in product(enumerate(runs), enumerate(runs)):
        awaiting = waiting.states["server"]
        (entry,) = awaiting.pending
        proof = m.ProofEntry(entry.entry.entity_id, other.said["m3"].proof)
        (verdict,) = server.verify(awaiting, m.GatewayProofs(awaiting.txn, (proof,)))
        if verdict.session is not None:
            accepted.append((at, number))
    assert accepted == [(number, number) for number in range(len(runs))]


def test_the_gateway_against_the_uplink() -> None:
    """Everything of one SETUP's messages from the server put into another's: refused, and no PNE hears of it."""
    runs = recorded()[:3]
    for one, other in product(runs, runs):
        asked, assigned, response = one.states["gateway"]
        _, _, theirs = other.states["gateway"]
        if one is other:
            assert gateway.conclude(asked, assigned, response)
            continue
        with pytest.raises(Refused):
            gateway.conclude(asked, assigned, theirs)
        with pytest.raises(Refused):
            gateway.conclude(asked, assigned, replace(response, entries=response.entries * 2))
        ended = gateway.conclude(asked, assigned, replace(response, entries=()))
        assert all(end.assigned is None for end in ended.values())


# Electives: X1 and X2


def test_electives_are_agreed_on() -> None:
    run = play(GROWN, Random(3))
    assert run.at_pne is not None
    assert run.at_server is not None
    assert run.at_pne["electives"] == run.at_server["electives"] == GROWN.electives_i
    assert run.at_pne["electives_r"] == run.at_server["electives_r"] == GROWN.electives_r
    quiet = play(replace(GROWN, electives_i=()), Random(3))
    assert quiet.at_pne is not None
    assert quiet.said["m2"].electives == ()  # who says none may know none


ALTERED: list[Electives | None] = [
    None,
    (),
    ((128, 7),),
    ((128, 7), (131, "more"), (300, b"new")),
    ((129, True), (131, b"more")),
]


@pytest.mark.parametrize(("one", "two"), list(product(ALTERED, ALTERED))[1:])
def test_electives_that_are_stripped_added_or_moved_end_the_run(one: Electives | None, two: Electives | None) -> None:
    """In M1, in M2, or from one to the other; by a man in the middle, or the PN GW. None: left as they are."""
    changes = [(step, "electives", value) for step, value in (("m1", one), ("m2", two)) if value is not None]
    run = play(GROWN, Random(4), saying(*changes))
    assert run.changed
    assert violation(run) == ""
    assert (run.at_pne, run.at_server) == (None, None)


# 7.5.5, both profiles

SIDES = [
    Side(Profile.GW_SERVER, "box", SERVER, KEYS["box"]),
    Side(Profile.PNE_GW, "box", SERVER, KEYS["box"], binding=b"\1" * 32),
    Side(Profile.PNE_GW, "box", SERVER, KEYS["box"], binding=b"\2" * 32),
    Side(Profile.PNE_GW, "alice", "home", KEYS["alice"], binding=b"\1" * 32),
    Side(Profile.GW_SERVER, "evil", SERVER, KEYS["evil"]),
    Side(Profile.PNE_GW, "bob", "home", KEYS["bob"], binding=b"\1" * 32, electives=((128, 7), (300, b"new"))),
]


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("number", range(len(SIDES)))
def test_one_field_of_a_link_changed(number: int, suite: int) -> None:
    sides = [replace(side, suite=suite) for side in SIDES]
    runs = [link(side, side, Random(at)) for at, side in enumerate(sides)]
    assert all(run.claimed and run.verified and run.claimed.keys.th2 == run.verified.keys.th2 for run in runs)
    honest = link(sides[number], sides[number], Random(99))
    for change in changes_of(honest, pool_of(runs), Random(number)):
        run = link(sides[number], sides[number], Random(99), saying(change))
        if run.changed:
            assert run.claimed is None, change
        if run.changed & {"m1", "m2", "m3"}:
            assert run.verified is None, change


@pytest.mark.parametrize("suite", [1, 2])
def test_whole_messages_of_a_link_replayed_or_reflected(suite: int) -> None:
    """Any message of any older run in its place; M3 as M4, and M4 as M3 (attack 7)."""
    sides = [replace(side, suite=suite) for side in SIDES]
    runs = [link(side, side, Random(at)) for at, side in enumerate(sides)]
    for (side, older), steps in product(product(sides, runs), product([False, True], repeat=4)):
        chosen = [step for step, taken in zip(("m1", "m2", "m3", "m4"), steps, strict=True) if taken]

        def say(step: str, said: Any, older: Any = older, chosen: list[str] = chosen) -> Any:
            return older.said[step] if step in chosen and type(older.said[step]) is type(said) else said

        run = link(side, side, Random(97), say)
        assert run.claimed is None or not run.changed
        assert run.verified is None or not run.changed & {"m1", "m2", "m3"}
    for side in sides:
        said: dict[str, Any] = {}

        def reflect(step: str, body: Any, said: dict[str, Any] = said) -> Any:
            said[step] = body
            return m.ActivateResponse(0, said["m3"].proof) if step == "m4" else body

        assert link(side, side, Random(96), reflect).claimed is None


def test_the_two_sides_must_mean_the_same() -> None:
    """Another profile, run, peer or key on the other side: neither accepts, though every message arrives as it was."""
    for i, r in product(SIDES, SIDES):
        run = link(i, r, Random(95))
        assert (run.claimed is not None) == (run.verified is not None) == (i == r)


# The mutants: without its binding, the attack succeeds

Patch = Callable[[pytest.MonkeyPatch], None]


def th0_without(**constant: Any) -> Patch:
    """Leave fields out of th0."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = Transcript.th0
        monkeypatch.setattr(Transcript, "th0", lambda self: original(replace(self, **constant)))

    return patch


def w_out_of_th1(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Schedule.proofs
    monkeypatch.setattr(Schedule, "proofs", lambda self, rand_i, rand_r, wrapped: original(self, rand_i, rand_r, None))


def wrap_under_the_eukey_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the seeds have it, taken literally."""
    monkeypatch.setattr(Schedule, "wrap_key", lambda self: self._key)


def any_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "equal", lambda a, b: True)


def electives_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One map of the electives of M1 and M2, as a reader may take "the electives" for."""
    original = Transcript.th0

    def th0(self: Transcript) -> bytes:
        both = tuple(sorted({*self.electives_i, *self.electives_r}))
        return original(replace(self, electives_i=both, electives_r=()))

    monkeypatch.setattr(Transcript, "th0", th0)


OPEN, AT_EVIL, SECURE = Setting(), Setting(gateway="evil"), Setting(pan_secure=True)
MUTANTS: dict[str, tuple[list[Patch], Setting, list[Any], str]] = {
    "PN GW ID": ([th0_without(gw=None)], AT_EVIL, [("m2", "gateway_id", "home")], "differing gw"),
    "PN ID": (
        [th0_without(pn_id=None)],
        OPEN,
        [("m2", "pn_id", "pn-other"), ("m4", "pn_id", "pn-other")],
        "differing pn",
    ),
    "procedure": ([th0_without(procedure=0)], OPEN, [("m1", "procedure", 3)], "differing procedure"),
    "kid_I": ([th0_without(kid_i=b"")], OPEN, [("m1", "kid", b"\x55")], "differing kid"),
    "kid_R": ([th0_without(kid_r=b"")], OPEN, [("m2", "kid", b"\x55" * 4)], "differing kid_r"),
    "pan_secure": ([th0_without(pan_secure=False)], OPEN, [("m1", "pan_secure", True)], "differing pan_secure"),
    "need_local": (
        [th0_without(need_local=False), w_out_of_th1],
        SECURE,
        [("m1", "need_local", True), ("m2", "wrapped", None)],
        "differing need_local",
    ),
    "W in th1": (
        [w_out_of_th1, wrap_under_the_eukey_alone],
        OPEN,
        [("m2", "wrapped", "OLD")],
        "differing wrapped, local",
    ),
    "electives of M1": (
        [th0_without(electives_i=())],
        GROWN,
        [("m1", "electives", ((128, 8),))],
        "differing electives",
    ),
    "electives of M2": ([th0_without(electives_r=())], GROWN, [("m2", "electives", ())], "differing electives_r"),
    "electives of M1 apart from those of M2": (
        [electives_merged],
        GROWN,
        [
            ("m1", "electives", ((128, 7), (129, True), (300, b"new"))),
            ("m2", "electives", ((128, 7), (129, True), (131, "more"))),
        ],
        "differing electives, electives_r",
    ),
    "the proofs": ([any_hash], OPEN, [("m3", "proof", bytes(16))], "differing proof"),
}


def attack(setting: Setting, changes: list[Any]) -> Run:
    """Play the attack; an older W is that of the first run, made with the code as it is now."""
    older = play(setting, Random(1)).said["m2"].wrapped
    made = [
        (step, name, older if (step, name) == ("m2", "wrapped") and value is not None else value)
        for step, name, value in changes
    ]
    return play(setting, Random(2), saying(*made))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_binding_left_out_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, setting, changes, found = MUTANTS[mutant]
    assert violation(attack(setting, changes)) == ""
    for patch in patches[:-1] + patches[1:] if len(patches) > 1 else []:  # where two fences stand, each holds alone
        with monkeypatch.context() as alone:
            patch(alone)
            assert violation(attack(setting, changes)) == "", patch
    for patch in patches:
        patch(monkeypatch)
    run = attack(setting, changes)
    assert found in violation(run)
    assert run.at_server is not None


def test_profile_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 7: with one key in both roles a hop run passes for a PN GW's own; profile and binding each stop it."""
    hop, own = SIDES[1], SIDES[0]
    for constant in ({"profile": Profile.GW_SERVER}, {"binding": None}):
        with monkeypatch.context() as alone:
            th0_without(**constant)(alone)
            assert link(hop, own, Random(1)).verified is None
    th0_without(profile=Profile.GW_SERVER, binding=None)(monkeypatch)

    def relabelled(step: str, said: Any) -> Any:
        return m.LinkChallengeFromGateway(said.server_id, said.rand, said.kid, said.eph) if step == "m2" else said

    run = link(hop, own, Random(1), relabelled)
    assert run.verified is not None
    assert run.claimed is not None
    assert (run.claimed.profile, run.verified.profile) == (Profile.PNE_GW, Profile.GW_SERVER)


def test_hop_binding_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without th0 of the run that assigned the LocalEUKey, the hop of one run passes for that of another."""
    assert link(SIDES[1], SIDES[2], Random(1)).verified is None
    th0_without(binding=None)(monkeypatch)
    assert link(SIDES[1], SIDES[2], Random(1)).verified is not None


def other_outcome() -> tuple[Any, Any, m.GatewaySetupResponse]:
    """Return what a PN GW has of alice's second SETUP, and the server's response to her first."""
    asked, assigned, _ = play(OPEN, Random(2), saying(("m3", "proof", bytes(16)))).states["gateway"]
    return asked, assigned, play(OPEN, Random(1)).states["gateway"][2]


def test_txn_left_out_is_found() -> None:
    """A success of one SETUP, given to another that failed: with no txn to check, its LocalEUKey is kept."""
    asked, assigned, response = other_outcome()
    with pytest.raises(Refused, match="txn"):
        gateway.conclude(asked, assigned, response)
    unchecked = gateway.conclude(asked, assigned, replace(response, txn=asked.txn))
    assert unchecked["alice"].assigned is not None  # type: ignore[index]


def test_early_use_of_the_local_eukey_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PN GW that keeps the LocalEUKey whatever the server says of the run: `violation` tells."""
    lie = saying(("m3", "proof", bytes(16)))
    assert violation(play(OPEN, Random(1), lie)) == ""
    original = gateway.conclude

    def early(state: Any, assigned: Any, message: Any) -> Any:
        ended = original(state, assigned, message)
        return {name: replace(end, assigned=assigned.get(name)) for name, end in ended.items()}

    monkeypatch.setattr(gateway, "conclude", early)
    assert "keeps a LocalEUKey" in violation(play(OPEN, Random(1), lie))
