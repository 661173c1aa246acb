"""The data folder of a server: what lies where, who may look in, and who works on it.

server.toml     the server's ID and where its store is, and settings of ``cpns server run``
kek             opens the vault
server.db       the store, where that is not on PostgreSQL
server.lock     held by who works on the store
admin.sock      the API of the running server

The lock keeps apart those who work on one folder. Processes of one server on other machines have copies of it
(server.toml and kek) over the same PostgreSQL, and learn over NATS what the others decide. A folder that is new would
have another vault, so it refuses a database that holds a server already.
"""

import contextlib
import fcntl
import json
import os
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cpns.crypto.secret import Secret
from cpns.errors import BadInput, Conflict, NotFound, UserError
from cpns.ids import EntityId, entity_id
from cpns.ports import Randomness
from cpns.service import origin
from cpns.service.system import SystemClock
from cpns.store.files import create_private, private_folder
from cpns.store.vault import create_kek_file, create_passphrase_kek, open_vault

if TYPE_CHECKING:
    from cpns.store.server_store import ServerStore

COMMAND_PATIENCE: Final = 5.0
"""Seconds that a starting server waits for a command that works on the folder."""

_MAX_PID: Final = 16
"""Characters that the number of a process takes at most."""

_TOML = """\
# Settings of this server. A key is a flag of `cpns server run` with underscores; a flag or CPNS_SERVER_* goes before.
id = {id}
{store}\
# listen = "0.0.0.0:5683"
# lowest_suite = 2
"""


class Folder:
    """The data folder at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "server.toml"
        self.kek = path / "kek"
        self.file = path / "server.db"
        self.lock = path / "server.lock"
        self.socket = path / "admin.sock"

    async def create(
        self, server_id: str, passphrase: Secret | None, random: Randomness, store: str | None = None
    ) -> EntityId:
        """Set up a server here, in a folder that is open to its owner alone; return its ID.

        Args:
            server_id: the name that gateways and devices will know it by.
            passphrase: opens the vault; None makes a key file instead.
            random: makes the vault's key.
            store: ``postgresql://...``; None puts it into the folder.

        Raises:
            BadInput: ``bad_id``, ``bad_store``, ``password_in_url``, ``data_open_to_others`` or ``data_not_made``.
            Conflict: ``exists``: there is one, or a part of one; ``store_in_use``: a server has that store.
            Unavailable: ``store_unavailable``.
        """
        from cpns.store.server_store import ServerStore  # half a second, and most commands do without

        server = entity_id(server_id)
        private_folder(self.path)
        if any(path.exists() for path in (self.settings, self.kek, self.file)):
            raise Conflict("exists", f"{self.path} holds a server already: give another --data, or use that one.")
        opened = ServerStore.open(self.file if store is None else store)
        try:
            if await opened.origin() is not None or await opened.audit(None, 1):
                raise Conflict("store_in_use", "That database holds the store of a server already: make another one.")
            if passphrase is None:
                create_kek_file(self.kek, random)
            else:
                create_passphrase_kek(self.kek, passphrase, random)
            await origin.claim(opened, server, open_vault(self.kek, random, passphrase), SystemClock(), random)
        finally:
            await opened.close()
        line = "" if store is None else f"store = {json.dumps(store)}\n"
        create_private(self.settings, _TOML.format(id=json.dumps(server), store=line).encode())
        return server

    def server_id(self) -> EntityId:
        """Return the ID of the server that was set up here.

        Raises:
            NotFound: ``no_server``.
            BadInput: ``bad_settings``.
        """
        found = self._read_settings().get("id")
        if not isinstance(found, str):
            raise BadInput("bad_settings", f'{self.settings} names no server: it needs a line id = "server.example".')
        return entity_id(found)

    def store(self) -> Path | str:
        """Return where the store is: ``server.db``, or the ``postgresql://...`` of server.toml, for `ServerStore.open`.

        Raises:
            NotFound: ``no_server``.
            BadInput: ``bad_settings``.
        """
        found = self._read_settings().get("store", self.file)
        if not isinstance(found, str | Path):
            raise BadInput("bad_settings", f'{self.settings} names no store: it needs store = "postgresql://...".')
        return found

    def open_store(self) -> "ServerStore":
        """Open the store of the server that was set up here. Blocks.

        Raises:
            NotFound: ``no_server``; ``store_empty``: it was lost.
            BadInput: ``bad_settings``, or as `ServerStore.open`.
            Unavailable: as `ServerStore.open`.
        """
        from cpns.store.server_store import ServerStore

        store = self.store()
        made = (self.kek if self.kek.exists() else self.settings).stat().st_mtime
        return ServerStore.open(store, datetime.fromtimestamp(made, UTC).date().isoformat())

    def _read_settings(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.settings.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise self._no_server() from error
        except (OSError, ValueError) as error:
            raise BadInput("bad_settings", f"{self.settings} can't be read: {error}.") from error

    def _no_server(self) -> UserError:
        return NotFound("no_server", f"There is no server in {self.path}: run cpns server init, or give --data.")

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the folder to oneself while a server runs.

        Raises:
            Conflict: ``server_running``.
            NotFound: ``no_server``.
        """
        with self._locked_file() as descriptor:
            deadline = time.monotonic() + COMMAND_PATIENCE
            while not _lock(descriptor, fcntl.LOCK_EX):
                if not _lock(descriptor, fcntl.LOCK_SH) or time.monotonic() > deadline:
                    holder = os.pread(descriptor, _MAX_PID, 0).decode("ascii", "replace").strip()
                    which = f" (process {holder})" if holder.isdigit() else ""
                    raise Conflict(
                        "server_running",
                        f"A server runs on {self.path} already{which}: stop that one, or give another --data.",
                    )
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                time.sleep(0.05)  # a command holds it, not a server
            os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # on a full disk nobody is told which process it is
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            yield

    @contextlib.contextmanager
    def visit(self) -> Iterator[bool]:
        """Keep servers from starting here; False where one runs.

        Raises:
            NotFound: ``no_server``.
        """
        with self._locked_file() as descriptor:
            yield _lock(descriptor, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def _locked_file(self) -> Iterator[int]:
        if not self.settings.exists():
            raise self._no_server()
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadInput("data_not_yours", f"{self.lock} can't be opened: {error.strerror}.") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
