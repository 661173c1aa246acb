"""Credentials on their way out: drawn here, written down and flushed, and only then made good by the server.

So no disk that is full and no pipe that is closed loses the key of an entity that exists.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from cpns.admin.client import answer_of
from cpns.cli import output as o
from cpns.cli import talk
from cpns.cli.options import Output
from cpns.crypto.secret import Secret
from cpns.domain.credential import KEY_BYTES, DeviceCredential
from cpns.domain.inventory import Kind
from cpns.errors import BadInput, Conflict, NotFound, Unavailable, UserError
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.store.files import create_private

T = TypeVar("T")
Ask = Callable[[httpx.AsyncClient], Awaitable[T]]

KINDS: Final = {"devices": Kind.PNE, "gateways": Kind.GATEWAY}
_NOTHING: Final = "Nothing was provisioned."
_REFUSALS: Final = (BadInput, Conflict, NotFound)
"""What the API answers where it changed nothing; after any other failure nobody knows."""


def draw() -> bytes:
    """Return a fresh EUKey."""
    return random_bytes(KEY_BYTES)


def line_of(kind: Kind, made: dict[str, Any], key: bytes) -> str:
    """Return the credential of an entity that the API would make, with the key that it is asked to take."""
    credential = DeviceCredential(kind, EntityId(made["id"]), EntityId(made["server"]), Secret(key))
    return credential.line().reveal().decode()


class Place:
    """Where credentials go: a new file of mode 0600, or (None) standard output.

    The file is `PATH.part` until the server has said yes.

    Raises:
        Conflict: ``file_exists``.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._part = None if path is None else path.with_name(f"{path.name}.part")
        if path is not None and os.path.lexists(path):
            raise Conflict("file_exists", f"{path} exists already: move it away first.")

    def provision(self, data: Path, text: str, ask: Ask[T], passphrase_file: Path | None) -> T:
        """Write *text*, have the server do what *ask* asks of it, and return the answer.

        Raises:
            UserError: nothing was provisioned; or ``not_known``, where nobody can say.
        """
        self._write(text)
        try:
            answer = self._twice(data, ask, passphrase_file)
        except _REFUSALS as error:
            self._take_back()
            raise type(error)(error.code, f"{error.sentence} {_NOTHING}") from error
        self._keep()
        return answer

    def _twice(self, data: Path, ask: Ask[T], passphrase_file: Path | None) -> T:
        """Ask, and where no answer comes ask the same again: it is done once, whoever lost the first answer."""
        kept = "the credential above" if self._part is None else f"the credential in {self._part}"
        unknown = f"If `cpns device list` or `cpns gateway list` has it, keep {kept}; if not, that is void."
        try:
            try:
                return talk.ask(data, ask, passphrase_file)
            except _REFUSALS:
                raise
            except UserError:
                return talk.ask(data, ask, passphrase_file)
        except _REFUSALS:
            raise
        except UserError as error:
            told = f"No answer came, so it may be provisioned, or not. {error.sentence} {unknown}"
            raise Unavailable("not_known", told) from error
        except KeyboardInterrupt:
            print(unknown, file=sys.stderr)
            raise

    def _write(self, text: str) -> None:
        try:
            if self._part is None:
                print(text, flush=True)
            else:
                create_private(self._part, f"{text}\n".encode())
        except BrokenPipeError as error:
            raise Unavailable("output_closed", f"Nobody reads standard output. {_NOTHING}") from error
        except UserError as error:
            raise type(error)(error.code, f"{error.sentence.rstrip('.')}. {_NOTHING}") from error

    def _take_back(self) -> None:
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        else:
            print("The credential above is void.", file=sys.stderr)

    def _keep(self) -> None:
        if self._part is None or self._path is None:
            return
        try:
            os.link(self._part, self._path)  # not os.rename: it would write over what came there meanwhile
            self._part.unlink()
        except FileExistsError as error:
            raise Conflict("file_exists", f"Provisioned; but {self._path} exists by now: see {self._part}.") from error
        except OSError:  # a file system without links
            self._part.rename(self._path)


def add(
    plural: str,
    data: Path,
    new: dict[str, Any],
    out: Path | None,
    passphrase_file: Path | None,
    output: Output,
    *,
    qr: bool,
) -> None:
    """Make an entity, and show its credential once, or write it to *out*."""
    place, kind, key = Place(out), KINDS[plural], draw()
    post_new = partial(_post, f"/{plural}", {**new, "key": key.hex()})
    would = talk.ask(data, partial(post_new, dry_run=True), passphrase_file)
    line = line_of(kind, would, key)
    if would["id"] != new["id"]:
        print(f"{o.plain(new['id'])} is written {would['id']} from now on.", file=sys.stderr)
    shown = line
    if out is None and output is Output.JSON:
        shown = o.json_text({"id": would["id"], "credential": line})
    place.provision(data, shown, post_new, passphrase_file)
    if out is not None:
        o.say(f"{would['id']}: credential in {out}", {"id": would["id"], "file": str(out)}, output)
        return
    if output is Output.JSON:
        return
    if qr:
        _print_qr(line)
    print("Shown once: keep it, or put it into the device now.", file=sys.stderr)


def approve(
    data: Path, id: str, decision: dict[str, Any], out: Path | None, passphrase_file: Path | None, output: Output
) -> None:
    """Let a waiting device in; the credential of one that had none is shown once, or written to *out*."""
    path, place = talk.resource("devices", id, "/approve"), Place(out)
    would = talk.ask(data, partial(_post, path, decision, dry_run=True), passphrase_file)
    if would["server"] is None:
        let_in = talk.post(data, path, decision, passphrase_file)
        o.say(f"{id} is let in: it comes at its next attempt", let_in, output)
        return
    key = draw()
    line = line_of(Kind.PNE, would, key)
    shown = o.json_text({"id": id, "credential": line}) if out is None and output is Output.JSON else line
    place.provision(data, shown, partial(_post, path, {**decision, "key": key.hex()}), passphrase_file)
    if out is not None:
        o.say(f"{id}: provisioned; credential in {out}", {"id": id, "file": str(out)}, output)
    elif output is Output.TABLE:
        print("Shown once: put it into the device now.", file=sys.stderr)


async def _post(path: str, body: object, client: httpx.AsyncClient, *, dry_run: bool = False) -> dict[str, Any]:
    return answer_of(await client.post(path, json=body, params={"dry_run": "true"} if dry_run else None))


def _print_qr(text: str) -> None:
    """Print *text* as a QR code for the camera of a device."""
    import segno

    segno.make(text, error="m", micro=False).terminal(compact=True)
