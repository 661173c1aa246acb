"""EUKeys at the server: fetched sealed, opened by the vault, and replaced by a decoy key where there is none to use."""

from collections.abc import Sequence
from dataclasses import dataclass

from cpns.crypto.local_eukey import decoy_key, decoy_prk
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Credential, Kind, State
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.ports import Randomness, Vault
from cpns.ports.entities import EntityStore

EUKEY_PURPOSE = "eukey"


@dataclass(frozen=True, slots=True)
class Opened:
    """The key to go on with for one ID; `reason` says why it is a decoy key, and is empty where it is the EUKey."""

    key: Secret
    reason: str


class Keyring:
    """Gives a key for every ID that a peer may claim.

    For an unknown, revoked or not admitted entity it is a decoy key made from the ID and a secret of this process: the
    run goes on with the same work and fails at its proof like one with a wrong key, so nobody learns which IDs exist.
    """

    def __init__(self, store: EntityStore, vault: Vault, random: Randomness) -> None:
        self._store = store
        self._vault = vault
        self._prk = decoy_prk(Secret(random(32)))
        self._decoy = vault.seal(EUKEY_PURPOSE, "", Secret(random(32)))

    async def open(self, ids: Sequence[EntityId], kind: Kind, via: EntityId | None) -> dict[EntityId, Opened]:
        """Return a key for each of *ids*, claimed as *kind* and (a PNE) coming through *via*."""
        credentials = await self._store.credentials(ids)
        return {entity: self._open(entity, credentials.get(entity), kind, via) for entity in ids}

    def _open(self, entity: EntityId, credential: Credential | None, kind: Kind, via: EntityId | None) -> Opened:
        substitute = decoy_key(self._prk, entity)  # made for every ID, so that the work does not tell
        sealed, owner = (self._decoy, "") if credential is None else (credential.sealed_key, str(entity))
        try:
            key = self._vault.open(EUKEY_PURPOSE, owner, sealed)
        except AuthenticationFailed:  # a damaged row is that entity's failure, not that of its batch
            key = None
        if credential is None:
            return Opened(substitute, "unknown")
        if credential.kind is not kind:
            return Opened(substitute, f"not_a_{kind.value}")
        if key is None:
            return Opened(substitute, "stored_key_does_not_open")
        if credential.state is not State.ACTIVE:
            return Opened(substitute, "revoked")
        if credential.only_via not in (None, via):
            return Opened(substitute, "not_admitted_through_this_gateway")
        return Opened(key, "")
