"""Provisioning: entities come in with a fresh EUKey, and go by revocation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from cpns.crypto.secret import Secret
from cpns.domain.actor import Actor
from cpns.domain.credential import KEY_BYTES, DeviceCredential, checked_eukey, fingerprint
from cpns.domain.group import ChangedGroup
from cpns.domain.inventory import Entity, Kind, NewEntity, Provisioned, State
from cpns.domain.network import Network
from cpns.domain.sheet import BadRow, Row, read_sheet
from cpns.errors import BadInput, Conflict, NotFound, UserError
from cpns.ids import EntityId, entity_id, is_name, sameness, spelled, spellings
from cpns.ports import Clock, Randomness, Vault
from cpns.ports.entities import EntityStore
from cpns.service.keyring import EUKEY_PURPOSE

MAX_NOTE_CHARS = 200
YES_OR_NO = {"": False, "no": False, "yes": True}


@dataclass(frozen=True, slots=True)
class Made:
    """An entity that is made, or (dry run) would be.

    Attributes:
        line: of the sheet that it stands in.
        given: its ID as it was given, which may be another spelling.
    """

    credential: DeviceCredential
    line: int
    given: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or (dry run) would do: with any bad row, nothing.

    Attributes:
        rows: of the sheet, the bad ones included.
        separator: what stands between the cells of the sheet.
        unchanged: the devices that exist as the sheet has them.
    """

    rows: int
    separator: str
    bad: tuple[BadRow, ...]
    made: tuple[Made, ...] = field(repr=False)
    unchanged: tuple[EntityId, ...]


class Sessions(Protocol):
    """What a revocation asks of a running server."""

    async def bar(self, entity: EntityId) -> None:
        """From now on no session of *entity* begins."""
        ...

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """End what a revoked entity has open, and tell the PN GWs of the PNs that it has *left*; return how many."""
        ...

    async def bound(self, pne: EntityId, via: EntityId, left: Sequence[Network]) -> int:
        """End the session of a PNE through another PN GW than *via*, and tell those of the PNs that it has *left*."""
        ...

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """Tell the members of service groups that a revoked entity was in."""
        ...


class NoSessions:
    """Where no server runs, nobody has a session to end."""

    async def bar(self, entity: EntityId) -> None:
        """Do nothing."""

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """End none."""
        return 0

    async def bound(self, pne: EntityId, via: EntityId, left: Sequence[Network]) -> int:
        """End none."""
        return 0

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """Do nothing."""


class Provisioning:
    """Adds, imports and revokes entities of one server.

    Args:
        sessions: of the running server.
    """

    def __init__(
        self,
        server_id: EntityId,
        store: EntityStore,
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

    async def add(
        self,
        actor: Actor,
        kind: Kind,
        name: str,
        only_via: str | None,
        note: str,
        *,
        key: str | None = None,
        allow_unknown_gateway: bool = False,
        may_own: bool = False,
        heard: bool = False,
        dry_run: bool = False,
    ) -> DeviceCredential:
        """Provision one entity and return its credential; it can't be had a second time.

        Args:
            actor: who does so.
            kind: a PNE or a PN GW.
            name: its ID, which may be respelled, unless it is *heard*.
            only_via: the one PN GW through which a PNE is admitted; None for any.
            note: for the operator.
            key: 64 hex digits; None: one is made. The same entity with the same key, asked for again, is done.
            allow_unknown_gateway: whether *only_via* may be one that is not provisioned.
            may_own: whether a PNE may own a PN.
            heard: the PNE says that ID by itself.
            dry_run: only check it.

        Raises:
            BadInput: the ID, that of the gateway, the key or the note can't be taken.
            NotFound: ``unknown_gateway``.
            Conflict: the ID or the key exists.
        """
        entity = entity_id(name) if heard else spelled(name)
        row = Row(0, entity, only_via or "", note, key, "yes" if may_own else "no")
        known = await self._known([row], allow_unknown_gateway)
        credential, new = self._new(kind, row, known)
        known.check(new)
        if not dry_run:
            await self._store.add_entities([new], actor)
        return credential

    async def _known(self, rows: Sequence[Row], allow_unknown_gateway: bool) -> "_Known":
        names = [name for row in rows for name in (row.id, row.gateway or "") if is_name(name)]
        ids = [spelling for name in dict.fromkeys(names) for spelling in spellings(name)]
        keys = [fingerprint(Secret(key)) for row in rows if (key := _key(row)) is not None]
        return _Known(await self._store.provisioned(ids, keys), allow_unknown_gateway)

    def _new(self, kind: Kind, row: Row, known: "_Known") -> tuple[DeviceCredential, NewEntity]:
        entity, eukey = entity_id(row.id), checked_eukey(_checked_key(row) or self._random(KEY_BYTES))
        via = known.gateway(row.gateway) if row.gateway else None
        if entity == self._server_id:
            raise BadInput("bad_id", f"{entity} is the server's own ID: each entity has one of its own.")
        sealed = self._vault.seal(EUKEY_PURPOSE, entity, eukey)
        note = checked_note(row.note or "")
        owns = _may_own(row)
        new = NewEntity(entity, kind, via, note, sealed, fingerprint(eukey), self._clock.now(), owns)
        return DeviceCredential(kind, entity, self._server_id, eukey), new

    async def import_csv(
        self, actor: Actor, text: str, *, dry_run: bool, new_only: bool = False, allow_unknown_gateway: bool = False
    ) -> ImportReport:
        """Provision a PNE for each row of a sheet (see `cpns.domain.sheet`). All rows are taken, or none.

        Args:
            actor: who does so.
            text: the sheet.
            dry_run: only check it.
            new_only: leave devices that exist as the sheet has them.
            allow_unknown_gateway: whether a gateway may be one that is not provisioned.

        Raises:
            BadInput: ``bad_csv``, ``no_rows``.
        """
        sheet = read_sheet(text)
        known = await self._known([_spelled(row) for row in sheet.rows], allow_unknown_gateway)
        bad = list(sheet.bad)
        news: list[NewEntity] = []
        made: list[Made] = []
        unchanged: list[EntityId] = []
        lines: dict[str, int] = {}
        keys: dict[bytes, EntityId] = {}
        for given in sheet.rows:
            row = _spelled(given)
            try:
                if (line := lines.setdefault(sameness(row.id), row.line)) != row.line:
                    raise BadInput("id_twice", f"{given.id} stands in line {line} already.")
                if new_only and known.is_unchanged(row):
                    unchanged.append(EntityId(row.id))
                    continue
                credential, new = self._new(Kind.PNE, row, known)
                if (owner := keys.setdefault(new.fingerprint, new.entity_id)) != new.entity_id:
                    raise BadInput("key_twice", f"This key is that of {owner}: each device has its own.")
                known.check(new)
                news.append(new)
                made.append(Made(credential, row.line, given.id))
            except UserError as error:
                bad.append(BadRow(row.line, error.code, error.sentence))
        if not bad and not dry_run:
            await self._store.add_entities(news, actor)
        bad.sort(key=lambda one: one.line)
        return ImportReport(sheet.size, sheet.separator, tuple(bad), tuple(made), tuple(unchanged))

    async def update(
        self,
        actor: Actor,
        entity: EntityId,
        only_via: str | None,
        note: str | None,
        *,
        allow_unknown_gateway: bool = False,
    ) -> int:
        """Change through which PN GW a PNE is admitted, or a note; return how many sessions ended with that.

        Args:
            actor: who does so.
            entity: a PNE, or (its note) a PN GW.
            only_via: that PN GW; empty for any, None leaves it.
            note: None leaves it.
            allow_unknown_gateway: as in `add`.

        Raises:
            BadInput: the note, or the ID of the gateway, can't be taken.
            NotFound: ``unknown_gateway``, ``unknown_entity``.
            Conflict: ``revoked``, ``gateway_revoked``.
        """
        if note is not None:
            checked_note(note)
        if only_via:
            known = await self._known([Row(0, entity, only_via)], allow_unknown_gateway)
            only_via = known.gateway(only_via)
        left = await self._store.update_entity(entity, only_via, note, self._clock.now(), actor)
        return await self._sessions.bound(entity, EntityId(only_via), left) if only_via else 0

    async def revoke(self, actor: Actor, name: str) -> int:
        """Revoke an entity: nothing of it opens from the moment this returns; return how many sessions ended.

        Raises:
            NotFound: ``unknown_entity``.
        """
        entity = EntityId(name)
        if await self._store.entity(entity) is None:
            raise NotFound("unknown_entity", f"There is no {name}: see `cpns device list` and `cpns gateway list`.")
        await self._sessions.bar(entity)  # first, so that no run under way can bring it back behind the commit
        revocation = await self._store.revoke(entity, self._clock.now(), actor)
        ended = await self._sessions.end(entity, revocation.left)
        for device in revocation.also:
            await self._sessions.bar(device)
            ended += await self._sessions.end(device, ())
        await self._sessions.left_groups(revocation.groups)
        return ended


class _Known:
    """What is provisioned already, as far as new entities are about it."""

    def __init__(self, there: Iterable[Provisioned], allow_unknown_gateway: bool) -> None:
        self._allow_unknown_gateway = allow_unknown_gateway
        self._by_id = {one.entity_id: one for one in there}
        self._names = {sameness(one): one for one in self._by_id}
        self._keys = {one.fingerprint: one.entity_id for one in self._by_id.values()}

    def _named(self, name: str) -> Provisioned | None:
        """Return what *name* names, in whatever spelling."""
        return self._by_id.get(EntityId(name)) or self._by_id.get(self._names.get(sameness(name), EntityId("")))

    def gateway(self, name: str) -> EntityId:
        """Return the PN GW that *name* names. Raises as `Provisioning.add`."""
        via, found = spelled(name), self._named(name)
        if found is not None and found.kind is not Kind.PNE and found.state is State.ACTIVE:
            return found.entity_id
        if self._allow_unknown_gateway:
            return via
        if found is not None and found.kind is not Kind.PNE:
            raise Conflict("gateway_revoked", f"The gateway {via} is revoked: name another one.")
        raise NotFound("unknown_gateway", f"There is no gateway {via}: add it first, or give --allow-unknown-gateway.")

    def check(self, new: NewEntity) -> None:
        """Raise `Conflict` where *new* collides with what is there, and is not the same."""
        found = self._named(new.entity_id)
        if found is not None and found != new.as_provisioned():
            raise Conflict("id_exists", _exists(new, found))
        owner = self._keys.get(new.fingerprint, new.entity_id)
        if owner != new.entity_id:
            raise Conflict("key_exists", f"The key of {new.entity_id} is that of {owner}: each has its own.")

    def is_unchanged(self, row: Row) -> bool:
        """Whether the device of *row* exists, as far as the sheet says how it is to be.

        Raises:
            Conflict: ``differs``.
        """
        found = self._by_id.get(EntityId(row.id))
        if found is None or found.kind is not Kind.PNE or found.state is not State.ACTIVE:
            return False
        key = _checked_key(row)
        if key is not None and fingerprint(checked_eukey(key)) != found.fingerprint:
            raise Conflict("differs", f"{found.entity_id} exists with another key: take the row out.")
        via = found.only_via or ""
        if row.gateway is not None and sameness(row.gateway) != sameness(via):
            raise Conflict("differs", _differs(found, "gateway", via, row.gateway))
        if row.note is not None and row.note != found.note:
            raise Conflict("differs", _differs(found, "note", found.note, row.note))
        if row.owner is not None and _may_own(row) != found.may_own:
            raise Conflict(
                "differs", f"{found.entity_id} exists, and may {'not ' * (not found.may_own)}own: mend the row."
            )
        return True


def _differs(found: Provisioned, what: str, there: str, here: str) -> str:
    cure = f"mend the row, or run cpns device set {found.entity_id} --{what}"
    return f"{found.entity_id} exists with the {what} {there!r}, and here it is {here!r}: {cure}."


def _exists(new: NewEntity, found: Provisioned) -> str:
    nouns = {Kind.PNE: "device", Kind.GATEWAY: "gateway", Kind.CM_DEVICE: "CM Device"}
    name, noun = found.entity_id, nouns[found.kind]
    what = f"{name} exists as a {noun}" if found.state is State.ACTIVE else f"{name} was a {noun}, and is revoked"
    if name != new.entity_id:
        what = f"{new.entity_id} is another spelling of {name}: {what}"
    return f"{what}. An ID serves once: choose another ID."


def _spelled(row: Row) -> Row:
    """Return *row* with the ID as it is to be; one that can't be one stays, and is refused later."""
    try:
        return replace(row, id=spelled(row.id))
    except BadInput:
        return row


def _may_own(row: Row) -> bool:
    try:
        return YES_OR_NO[(row.owner or "").casefold()]
    except KeyError:
        raise BadInput("bad_owner", f"Whether {row.id} may own a network is yes or no.") from None


def _key(row: Row) -> bytes | None:
    try:
        return bytes.fromhex(row.key) if row.key else None
    except ValueError:
        return None


def _checked_key(row: Row) -> bytes | None:
    key = _key(row)
    if row.key and key is None:
        raise BadInput("bad_key", "The key is not hexadecimal.")
    return key


def checked_note(note: str) -> str:
    """Return *note*. Raises `BadInput`, ``bad_note``, where it can't be kept as it is."""
    if len(note) > MAX_NOTE_CHARS:
        raise BadInput("bad_note", f"A note has up to {MAX_NOTE_CHARS} characters; this one has {len(note)}.")
    if any(char == "\0" or 0xD800 <= ord(char) < 0xE000 for char in note):
        raise BadInput("bad_note", f"The note {note!r} has what is no character.")
    return note


async def find_entity(store: EntityStore, name: str) -> Entity | None:
    """Return the entity that *name* names, in whatever spelling of a MAC address; exactly that one before others.

    Raises:
        Conflict: ``ambiguous_id``.
    """
    found = await store.entity(EntityId(name)) if is_name(name) else None
    others = spellings(name)[1:]
    if found is not None or not others:
        return found
    named = await store.provisioned(others, [])
    if len(named) > 1:
        ids = ", ".join(one.entity_id for one in named)
        raise Conflict("ambiguous_id", f"{name[:80]} is the same as each of {ids}: give one of these.")
    return await store.entity(named[0].entity_id) if named else None
