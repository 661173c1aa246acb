"""The keys of a CM Device (`cpns.node.cm`): which one is tried, what outlasts a restart, and what nobody reads."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey, HeldCmKey
from cpns.errors import AuthenticationFailed, Refused, Unavailable
from cpns.ids import EntityId
from cpns.node.cm import Keys
from cpns.service.system import random_bytes
from cpns.store.gateway_store import GatewayStore
from cpns.store.vault import FileVault

CM1, CM2 = EntityId("cm-aaaa"), EntityId("cm-bbbb")


def key_of(device: EntityId = CM1, generation: int = 0) -> CmKey:
    return CmKey(device, generation, Secret(random_bytes(32)))


FIRST, FRESH, FRESHER, OTHER = key_of(), key_of(generation=1), key_of(generation=2), key_of(CM2)


@pytest.fixture
def vault() -> FileVault:
    return FileVault(Secret(random_bytes(32)), random_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[GatewayStore]:
    store = GatewayStore.open(path)
    yield store
    await store.close()


@pytest.fixture(params=["kept", "not kept"])
def keys(request: pytest.FixtureRequest, store: GatewayStore, vault: FileVault) -> Keys:
    """With a store and without: while the process runs it makes no difference."""
    return Keys(store if request.param == "kept" else None, vault)


async def loaded(store: GatewayStore | None, vault: FileVault) -> Keys:
    """Return what the next process has."""
    keys = Keys(store, vault)
    await keys.load()
    return keys


def in_turn(keys: Keys) -> list[CmKey]:
    """Return the keys in the order in which they are tried; the last one tried is the first one again."""
    tried: list[CmKey] = []
    while (key := keys.to_try()) not in tried:
        tried.append(key)
        keys.refused(key)
    assert key == tried[0]
    return tried


async def held(store: GatewayStore) -> list[tuple[EntityId, int]]:
    return [(one.cm_device_id, one.generation) for one in await store.cm_keys()]


# --- which key is tried


async def test_a_new_device_has_none(keys: Keys) -> None:
    await keys.load()
    assert keys.newest is None
    assert keys.refusals == 0


async def test_the_key_that_was_assigned_is_tried(keys: Keys) -> None:
    await keys.begin(FIRST)
    assert keys.newest == FIRST
    assert in_turn(keys) == [FIRST]
    await keys.proven(FIRST)
    assert (keys.newest, in_turn(keys)) == (FIRST, [FIRST])


async def test_a_fresh_key_is_tried_first_and_the_older_one_until_it_is_proven(keys: Keys) -> None:
    await keys.begin(FIRST)
    await keys.add(FRESH)
    assert keys.newest == FRESH
    assert in_turn(keys) == [FRESH, FIRST]
    await keys.proven(FRESH)
    assert (keys.newest, in_turn(keys)) == (FRESH, [FRESH])


async def test_one_that_is_refused_is_not_forgotten(keys: Keys) -> None:
    """Anybody in between can refuse: the device must not lose its way in for that."""
    await keys.begin(FIRST)
    await keys.add(FRESH)
    for _ in range(7):
        assert in_turn(keys) == [FRESH, FIRST]
    assert keys.newest == FRESH
    assert keys.refusals == 14


async def test_the_newest_stays_the_newest_whoevers_turn_it_is(keys: Keys) -> None:
    await keys.begin(FIRST)
    await keys.add(FRESH)
    keys.refused(keys.to_try())
    assert (keys.to_try(), keys.newest) == (FIRST, FRESH)
    keys.refused(keys.to_try())
    assert (keys.to_try(), keys.newest) == (FRESH, FRESH)


async def test_the_older_one_proven_after_the_fresh_one_was_refused_is_the_only_one(keys: Keys) -> None:
    """The server does not have the fresh one: what it agreed on last is another."""
    await keys.begin(FIRST)
    await keys.add(FRESH)
    keys.refused(FRESH)
    await keys.proven(FIRST)
    assert (keys.newest, in_turn(keys)) == (FIRST, [FIRST])


async def test_refusals_are_counted_in_a_row(keys: Keys) -> None:
    await keys.begin(FIRST)
    keys.refused(FIRST)
    keys.refused(FIRST)
    assert keys.refusals == 2
    await keys.proven(FIRST)
    assert keys.refusals == 0
    keys.refused(FIRST)
    await keys.add(FRESH)
    assert (keys.refusals, keys.to_try()) == (0, FRESH)
    keys.refused(FRESH)
    await keys.begin(OTHER)
    assert (keys.refusals, keys.to_try()) == (0, OTHER)


async def test_a_turn_begins_anew_with_what_is_proven(keys: Keys) -> None:
    await keys.begin(FIRST)
    keys.refused(FIRST)
    await keys.proven(FIRST)
    await keys.add(FRESH)
    assert keys.to_try() == FRESH


async def test_a_new_id_replaces_all_that_was(keys: Keys) -> None:
    await keys.begin(FIRST)
    await keys.add(FRESH)
    await keys.begin(OTHER)
    assert (keys.newest, in_turn(keys)) == (OTHER, [OTHER])
    await keys.begin(FIRST)
    assert (keys.newest, in_turn(keys)) == (FIRST, [FIRST])


async def test_several_fresh_keys_are_tried_from_the_newest_on(keys: Keys) -> None:
    for add, key in ((keys.begin, FIRST), (keys.add, FRESH), (keys.add, FRESHER)):
        await add(key)
    assert in_turn(keys) == [FRESHER, FRESH, FIRST]
    await keys.proven(FRESHER)
    assert in_turn(keys) == [FRESHER]


async def test_all_can_be_forgotten(keys: Keys) -> None:
    """The server says that the ID is not this device's."""
    await keys.begin(FIRST)
    await keys.add(FRESH)
    await keys.forget()
    assert keys.newest is None
    await keys.load()
    assert keys.newest is None
    await keys.begin(OTHER)
    assert in_turn(keys) == [OTHER]


# --- what outlasts a restart


async def test_without_a_store_nothing_does(vault: FileVault) -> None:
    keys = await loaded(None, vault)
    await keys.begin(FIRST)
    assert (await loaded(None, vault)).newest is None


@pytest.mark.parametrize("order", [(FIRST, FRESH), (FRESH, FIRST)])
async def test_all_keys_are_there_again_the_newest_first(
    store: GatewayStore, vault: FileVault, order: tuple[CmKey, CmKey]
) -> None:
    for key in order:
        await Keys(store, vault).add(key)
    again = await loaded(store, vault)
    assert again.newest == FRESH
    assert in_turn(again) == [FRESH, FIRST]


async def test_every_step_is_kept_when_it_returns(path: Path, vault: FileVault) -> None:
    steps = [("begin", FIRST), ("add", FRESH), ("proven", FRESH), ("add", FRESHER), ("begin", OTHER)]
    expected = [[FIRST], [FRESH, FIRST], [FRESH], [FRESHER, FRESH], [OTHER]]
    for (step, key), then in zip(steps, expected, strict=True):
        store = GatewayStore.open(path)
        keys = await loaded(store, vault)
        await getattr(keys, step)(key)
        await store.close()
        store = GatewayStore.open(path)
        assert in_turn(await loaded(store, vault)) == in_turn(keys) == then, step
        await store.close()


async def test_a_proven_key_drops_the_others_in_the_store(store: GatewayStore, vault: FileVault) -> None:
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    await keys.add(FRESH)
    assert await held(store) == [(CM1, 1), (CM1, 0)]
    await keys.proven(FRESH)
    assert await held(store) == [(CM1, 1)]


async def test_one_of_another_id_with_the_same_generation_goes_too(store: GatewayStore, vault: FileVault) -> None:
    keys = await loaded(store, vault)
    await keys.begin(OTHER)
    await keys.add(FIRST)  # both of generation 0
    await keys.proven(FIRST)
    assert await held(store) == [(CM1, 0)]


async def test_what_is_proven_again_and_again_writes_nothing(
    store: GatewayStore, vault: FileVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every connection proves it: a flush of the disk each time would be one too many."""
    keys = await loaded(store, vault)
    await keys.begin(FIRST)

    async def drop(but: HeldCmKey | None) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(store, "drop_cm_keys", drop)
    await keys.proven(FIRST)
    assert in_turn(keys) == [FIRST]


async def test_a_key_that_could_not_be_kept_is_not_taken(store: GatewayStore, vault: FileVault) -> None:
    """Else the server would wait for a key that is gone after a restart."""
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    await store.close()
    with pytest.raises(Unavailable):
        await keys.add(FRESH)
    assert (keys.newest, in_turn(keys)) == (FIRST, [FIRST])


async def test_a_key_of_the_same_generation_replaces_the_older_one(store: GatewayStore, vault: FileVault) -> None:
    """The server's answer was lost, and they agreed again."""
    keys, again = await loaded(store, vault), key_of(generation=1)
    for key in (FIRST, FRESH, again):
        await keys.add(key)
    assert keys.to_try() == again
    assert in_turn(await loaded(store, vault)) == [again, FIRST]


# --- the vault


async def test_a_key_of_another_vault_is_not_loaded(
    store: GatewayStore, vault: FileVault, caplog: pytest.LogCaptureFixture
) -> None:
    another = FileVault(Secret(random_bytes(32)), random_bytes)
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    await keys.add(FRESH)
    with caplog.at_level(logging.WARNING, "cpns.node"):
        assert (await loaded(store, another)).newest is None
    assert [CM1 in record.getMessage() for record in caplog.records] == [True, True]
    assert in_turn(await loaded(store, vault)) == [FRESH, FIRST]  # they are there still


async def test_one_that_does_not_open_does_not_hide_the_others(store: GatewayStore, vault: FileVault) -> None:
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    await keys.add(FRESH)
    (fresh, _) = await store.cm_keys()
    damaged = fresh.sealed_key[:-1] + bytes([fresh.sealed_key[-1] ^ 1])
    await store.keep_cm_key(HeldCmKey(CM1, 1, damaged))
    again = await loaded(store, vault)
    assert (again.newest, in_turn(again)) == (FIRST, [FIRST])


@pytest.mark.parametrize("place", [(CM1, 1), (CM2, 0)])
async def test_a_key_moved_to_another_row_is_not_loaded(
    store: GatewayStore, vault: FileVault, place: tuple[EntityId, int]
) -> None:
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    (first,) = await store.cm_keys()
    await store.drop_cm_keys([(CM1, 0)])
    await store.keep_cm_key(HeldCmKey(*place, first.sealed_key))
    assert (await loaded(store, vault)).newest is None


async def test_it_is_sealed_as_cm_device_key_of_this_id_and_generation(store: GatewayStore, vault: FileVault) -> None:
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    (first,) = await store.cm_keys()
    assert vault.open("cm device key", f"{CM1} 0", first.sealed_key) == FIRST.key
    for purpose, owner in (("cm device key", f"{CM1} 1"), ("cm device key", CM1), ("local_eukey", f"{CM1} 0")):
        with pytest.raises(AuthenticationFailed):
            vault.open(purpose, owner, first.sealed_key)


# --- what nobody reads


async def test_no_key_can_be_read_in_the_file(path: Path, vault: FileVault) -> None:
    store = GatewayStore.open(path)
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    await keys.add(FRESH)
    files = [file.read_bytes() for file in path.parent.iterdir()]  # the write-ahead log too
    await store.close()
    files += [file.read_bytes() for file in path.parent.iterdir()]
    assert any(CM1.encode() in file for file in files)
    for secret in (FIRST.key.reveal(), FRESH.key.reveal()):
        for part in (secret[:8], secret[-8:], secret.hex().encode()):
            assert not [file for file in files if part in file]


async def test_no_key_is_printed(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await keys.begin(FIRST)
        await keys.add(FRESH)
        keys.refused(keys.to_try())
        await keys.proven(FRESH)
    shown = caplog.text + "".join(map(repr, (keys, vars(keys), keys.newest, FIRST))) + f"{FIRST} {keys}"
    assert CM1 in shown
    for secret in (FIRST.key.reveal(), FRESH.key.reveal()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


async def test_what_is_held_is_sealed(store: GatewayStore, vault: FileVault) -> None:
    keys = await loaded(store, vault)
    await keys.begin(FIRST)
    (first,) = await store.cm_keys()
    assert len(first.sealed_key) == 28 + 32
    assert FIRST.key.reveal() not in first.sealed_key


# What happens while an activation is under way


async def test_a_key_that_came_meanwhile_is_not_dropped(keys: Keys) -> None:
    await keys.begin(FIRST)
    used = keys.to_try()
    await keys.add(FRESH)
    await keys.proven(used)
    assert keys.newest == FRESH


async def test_a_key_that_was_forgotten_meanwhile_does_not_come_back(keys: Keys) -> None:
    await keys.begin(FIRST)
    used = keys.to_try()
    await keys.forget()
    await keys.proven(used)
    assert keys.newest is None


async def test_an_uplink_that_tries_on_without_a_key_is_refused(keys: Keys) -> None:
    await keys.begin(FIRST)
    await keys.forget()
    with pytest.raises(Refused):
        keys.to_try()
