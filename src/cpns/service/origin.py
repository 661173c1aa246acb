"""Which server a store is of: one value in it opens with that server's vault alone.

So a wrong `kek`, or the store of another server, is told at once. Without it the server would start, refuse all, and
seal new keys so that nobody could ever open them.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from cpns.crypto.secret import Secret
from cpns.domain.inventory import Origin
from cpns.errors import AuthenticationFailed, BadInput, Conflict
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Vault
from cpns.ports.entities import EntityStore
from cpns.service.keyring import EUKEY_PURPOSE

PURPOSE: Final = "origin"


def check(server_id: EntityId, origin: Origin | None, older: tuple[EntityId, bytes] | None, vault: Vault) -> None:
    """Check that a store is *server_id*'s, and that *vault* opens what is in it.

    Args:
        server_id: the server.
        origin: what the store says of itself.
        older: a sealed EUKey out of a store that says nothing, as an older cpns made it.
        vault: of the server.

    Raises:
        Conflict: ``store_in_use``: it is of another server.
        BadInput: ``kek_wrong``.
    """
    if origin is not None and origin.server_id != server_id:
        raise Conflict("store_in_use", f"That store is of the server {origin.server_id}, not of {server_id}.")
    try:
        if origin is not None:
            vault.open(PURPOSE, origin.server_id, origin.sealed)
        elif older is not None:
            vault.open(EUKEY_PURPOSE, *older)
    except AuthenticationFailed as error:
        raise BadInput(
            "kek_wrong", "The keys in the store are sealed under another kek: put the right one into the data folder."
        ) from error


async def checker(store: EntityStore, server_id: EntityId) -> Callable[[Vault], None]:
    """Return `check` of what *store* says now, for the vault when it is open."""
    origin = await store.origin()
    return partial(check, server_id, origin, await store.some_key() if origin is None else None)


async def claim(store: EntityStore, server_id: EntityId, vault: Vault, clock: Clock, random: Randomness) -> None:
    """As `check`; a store that says nothing of itself yet says it from now on."""
    (await checker(store, server_id))(vault)
    if await store.origin() is None:
        await store.keep_origin(Origin(server_id, clock.now(), vault.seal(PURPOSE, server_id, Secret(random(32)))))
