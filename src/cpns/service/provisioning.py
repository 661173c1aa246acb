"""Provisioning: entities come in with a fresh EUKey, and go by revocation."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cpns.domain.credential import KEY_BYTES, DeviceCredential, checked_eukey, fingerprint
from cpns.domain.group import ChangedGroup
from cpns.domain.inventory import Kind, NewEntity
from cpns.domain.network import Network
from cpns.errors import BadInput, NotFound, UserError
from cpns.ids import EntityId, entity_id
from cpns.ports import Clock, Randomness, Store, Vault
from cpns.service.keyring import EUKEY_PURPOSE

CSV_COLUMNS = ("id", "gateway", "note", "key")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of an import that can't be taken, and why."""

    line: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or (dry run) would do: with any bad row, nothing."""

    rows: int
    bad: tuple[BadRow, ...]
    credentials: tuple[DeviceCredential, ...] = field(repr=False)


class Sessions(Protocol):
    """What a revocation asks of a running server."""

    async def bar(self, entity: EntityId) -> None:
        """From now on no session of *entity* begins."""
        ...

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """End what a revoked entity has open, and tell the PN GWs of the PNs that it has *left*; return how many."""
        ...

    def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """Tell the members of service groups that a revoked entity was in."""
        ...


class NoSessions:
    """Where no server runs, nobody has a session to end."""

    async def bar(self, entity: EntityId) -> None:
        """Do nothing."""

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """End none."""
        return 0

    def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """Do nothing."""


class Provisioning:
    """Adds, imports and revokes entities of one server.

    Args:
        sessions: of the running server.
    """

    def __init__(
        self,
        server_id: EntityId,
        store: Store,
        vault: Vault,
        clock: Clock,
        random: Randomness,
        sessions: Sessions,
    ) -> None:
        self._server_id = server_id
        self._store = store
        self._vault = vault
        self._clock = clock
        self._random = random
        self._sessions = sessions

    async def add(self, kind: Kind, name: str, only_via: str | None, note: str) -> DeviceCredential:
        """Provision one entity and return its credential; it can't be had a second time.

        Raises:
            BadInput: the ID, or that of the gateway, can't name an entity.
            Conflict: the ID exists.
        """
        credential, new = self._new(kind, name, only_via, note, self._random(KEY_BYTES))
        await self._store.add_entities([new])
        return credential

    def _new(
        self, kind: Kind, name: str, only_via: str | None, note: str, key: bytes
    ) -> tuple[DeviceCredential, NewEntity]:
        entity, eukey = entity_id(name), checked_eukey(key)
        via = entity_id(only_via) if only_via else None
        if entity == self._server_id:
            raise BadInput("bad_id", f"{entity} is the server's own ID: each entity has one of its own.")
        sealed = self._vault.seal(EUKEY_PURPOSE, entity, eukey)
        new = NewEntity(entity, kind, via, note[:200], sealed, fingerprint(eukey), self._clock.now())
        return DeviceCredential(kind, entity, self._server_id, eukey), new

    async def import_csv(self, text: str, *, dry_run: bool) -> ImportReport:
        """Provision a PNE for each row of a CSV with a header: ``id``, and if wanted ``gateway``, ``note``, ``key``.

        A ``key`` is 64 hex digits; without one a fresh key is made. All rows are taken, or none.

        Raises:
            BadInput: ``bad_csv``: no CSV, no header, or a column that is not known.
        """
        try:
            rows = _read_csv(text)
        except csv.Error as error:
            raise BadInput("bad_csv", f"This is no CSV: {error}.") from error
        bad: list[BadRow] = []
        news: list[NewEntity] = []
        credentials: list[DeviceCredential] = []
        lines: dict[EntityId, int] = {}
        keys: dict[bytes, EntityId] = {}
        for line, row in rows:
            try:
                key = bytes.fromhex(row["key"]) if row.get("key") else self._random(KEY_BYTES)
                credential, new = self._new(Kind.PNE, row["id"], row.get("gateway"), row.get("note") or "", key)
                if new.entity_id in lines:
                    raise BadInput("id_twice", f"{new.entity_id} stands in line {lines[new.entity_id]} already.")
                if new.fingerprint in keys:
                    raise BadInput(
                        "key_twice", f"This key is that of {keys[new.fingerprint]}: each device has its own."
                    )
                lines[new.entity_id], keys[new.fingerprint] = line, new.entity_id
                news.append(new)
                credentials.append(credential)
            except UserError as error:
                bad.append(BadRow(line, error.code, error.sentence))
            except ValueError:
                bad.append(BadRow(line, "bad_key", "The key is not hexadecimal."))
        for entity in await self._store.credentials(list(lines)):
            bad.append(BadRow(lines[entity], "id_exists", f"{entity} exists: take the row out, or revoke the device."))
        if not bad and not dry_run:
            await self._store.add_entities(news)
        return ImportReport(len(rows), tuple(sorted(bad, key=lambda row: row.line)), tuple(credentials))

    async def revoke(self, name: str) -> int:
        """Revoke an entity: nothing of it opens from the moment this returns; return how many sessions ended.

        Raises:
            NotFound: ``unknown_entity``.
        """
        entity = EntityId(name)
        if await self._store.entity(entity) is None:
            raise NotFound("unknown_entity", f"There is no {name}: see `cpns device list` and `cpns gateway list`.")
        await self._sessions.bar(entity)  # first, so that no run under way can bring it back behind the commit
        revocation = await self._store.revoke(entity, self._clock.now())
        ended = await self._sessions.end(entity, revocation.left)
        for device in revocation.also:
            await self._sessions.bar(device)
            ended += await self._sessions.end(device, ())
        self._sessions.left_groups(revocation.groups)
        return ended


def _read_csv(text: str) -> Sequence[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    header = reader.fieldnames or []
    if "id" not in header:
        raise BadInput("bad_csv", "The file needs a header line with at least the column id.")
    unknown = [name for name in header if name not in CSV_COLUMNS]
    if unknown:
        raise BadInput("bad_csv", f"Unknown column {unknown[0]!r}: known are {', '.join(CSV_COLUMNS)}.")
    rows = []
    for row in reader:
        clean = {name: (row.get(name) or "").strip() for name in header}
        rows.append((reader.line_num, clean))
    return rows
