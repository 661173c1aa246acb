"""Group commit, on SQLite or PostgreSQL.

A durable commit costs a flush of the disk, and there is one writer at a time. So callers queue what they want done;
all that is queued runs in one transaction, is committed once, and then all of them are told. While it commits, the next
group gathers: the busier the server, the more each flush carries.

    queued ......... in a transaction ......... committed ......... awaiters resume
                     | one raises: all is undone and run again, each in a savepoint; only that one fails
                     | the commit fails: nothing was stored, all of the group fail

Whose work an operation is, `cpns.shares.party.acting` says. While operations of several parties wait, a group carries
twice as many as there are parties, two of each by turns over the uplinks: what one party queues by the thousand makes
the others wait for two of them.

What fails because of others (a connection that was lost, a deadlock) is thereby tried twice, the second time on a new
connection, and then told.

SQLite's SQL runs in the loop's own thread, as it takes microseconds; the flush runs in another, as it may take
milliseconds. (A thread for both was tried: SQLite's driver hands the interpreter lock over at every row, and a busy
loop is slow to give it back.) PostgreSQL's rows come over a socket, so all of it runs in the other thread.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cpns.errors import NotFound, StoreFails, Unavailable
from cpns.shares.party import acting
from cpns.shares.turns import QUANTUM, UNLIMITED, Turns
from cpns.store import migrate
from cpns.store.backend import Backend
from cpns.store.condition import Condition
from cpns.store.dialect import run_text
from cpns.store.event_queries import LEFT
from cpns.store.postgres import Postgres
from cpns.store.schema import meta
from cpns.store.sqlite import Sqlite
from cpns.store.worker import Worker

T = TypeVar("T")

ANSWER_SECONDS = 30
"""How long a database that is away may be silent in the middle of a transaction, before its connection is given up."""

EACH: Final = int(QUANTUM)
"""Operations of one session that a group carries while others wait, and sessions of one uplink likewise in a turn."""
MAX_GROUP: Final = 128
"""Operations of one group."""


class _Queued(Generic[T]):
    """An operation, whose it is and who waits for it, and in the end what became of it."""

    __slots__ = ("error", "future", "operation", "party", "result", "write")

    def __init__(self, operation: Callable[[Connection], T], write: bool, future: asyncio.Future[T]) -> None:
        self.operation = operation
        self.write = write
        self.future = future
        party = acting.get()
        self.party: tuple[Hashable, Hashable] = ("", "") if party is None else (party.uplink, party.session)
        self.result: T | None = None
        self.error: Exception | None = None


class Database:
    """The store at *place*, brought to this version's schema.

    The constructor blocks. It, `run` and `close` belong to one event loop's thread.

    Args:
        place: a SQLite file, made when missing (mode 0600); or ``postgresql://...``, a database that exists.
        set_up: the day on which a server was set up there; then an empty store is none of its.

    Raises:
        NotFound: code ``store_empty``.
        Unavailable: code ``store_unavailable`` or ``store_too_new``.
        BadInput: code ``bad_store`` or ``password_in_url``.
    """

    def __init__(self, place: Path | str, set_up: str | None = None) -> None:
        self._backend: Backend = Sqlite(place) if isinstance(place, Path) else Postgres(place)
        self._set_up = set_up
        if isinstance(place, Path) and (not place.exists() or place.stat().st_size == 0):
            self._is_empty()  # before SQLite throws away the log beside it, which may hold all data
        self._closed = False
        self._queue: list[_Queued[Any]] = []
        self._many: dict[tuple[Hashable, Hashable], int] = defaultdict(int)  # of each party, in that queue
        self._turns: Turns[_Queued[Any]] = Turns(UNLIMITED, UNLIMITED, 0)  # what a group did not carry
        self._settling: asyncio.Task[None] | None = None
        self._away: StoreFails | None = None  # what the last group met
        try:
            self._engine = self._backend.make_engine()
            self._connection = self._open()
        except (OSError, SQLAlchemyError) as error:
            raise self._backend.translate(error) from error
        self._worker = Worker(f"store {self._backend.name}")
        self.on_events: Callable[[], None] = _nobody_follows
        self._condition = Condition(self._backend.name, lambda: self.run(_probe))

    @property
    def trouble(self) -> str:
        """What fails, in a sentence; empty while the store works."""
        return self._condition.trouble

    @property
    def name(self) -> str:
        """What the store is called."""
        return self._backend.name

    @property
    def shared(self) -> bool:
        """Whether several processes of one server may work on it."""
        return self._backend.away

    async def run(self, operation: Callable[[Connection], T], *, write: bool = True) -> T:
        """Return what *operation* returns, once all that it wrote is durable.

        *operation* runs inside a transaction that others share, maybe in another thread. It may be run twice, so it
        changes rows and nothing else. ``write=False`` says that it only reads. Cancelling the wait does not undo it.

        Raises:
            Unavailable: code ``store_unavailable``: nothing of it was stored; or PostgreSQL was lost in the middle of
                the commit, and nobody knows. Then the sentence says so, and to repeat it has to be harmless.
            Conflict: code ``store_conflict``: it contradicts what is stored; nothing of it was stored.
            BadInput: code ``store_refuses``: PostgreSQL has no place for such a value; nothing of it was stored.
            Exception: what *operation* itself raised; nothing of it was stored.
        """
        if self._closed:
            raise Unavailable("store_unavailable", f"the store {self._backend.name} is closed: start the process again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        queued = _Queued(operation, write, future)
        self._queue.append(queued)
        self._many[queued.party] += 1
        if self._settling is None:
            self._settling = loop.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Finish what is queued, take no more, let go of the store. May be called again."""
        if self._closed:
            return
        await self._condition.close()
        self._closed = True
        while self._settling is not None:
            await asyncio.wait([self._settling])
        self._worker.close()
        self._connection.close()
        self._engine.dispose()

    def _open(self) -> Connection:
        try:
            connection = self._engine.connect()
            try:
                with connection.begin():
                    connection.exec_driver_sql(self._backend.begin_to_write)  # of two that start together one migrates
                    if not migrate.has_begun(connection):
                        self._is_empty()
                    migrate.upgrade(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._engine.dispose()
            raise
        return connection

    def _is_empty(self) -> None:
        if self._set_up is not None:
            raise NotFound(
                "store_empty",
                f"The store {self._backend.name} is empty, but this server was set up on {self._set_up}: put the store "
                "back from a copy. For a new server give another --data.",
            )

    async def _work(self) -> None:
        """Settle what is queued, group after group, until nothing is."""
        try:
            while self._queue or self._turns:
                await self._settle(self._next())
                if self._away is not None:
                    self._fail_all(self._away)
        finally:
            self._settling = None

    def _fail_all(self, error: StoreFails) -> None:
        """Tell who came while nobody could be served: none of them waits for an attempt of its own."""
        waiting = [*self._queue]
        while (turn := self._turns.take()) is not None:
            turn.done()
            waiting.append(turn.item)
        self._queue.clear()
        self._many.clear()
        for queued in waiting:
            queued.error = StoreFails(error.sentence, away=True)
        _resolve(waiting)

    def _next(self) -> list[_Queued[Any]]:
        """Return the next group."""
        queue, self._queue = self._queue, []
        crowded = len(queue) > MAX_GROUP or max(self._many.values(), default=0) > EACH
        self._many.clear()
        if not crowded and not self._turns:
            return queue
        for queued in queue:
            self._turns.put(*queued.party, queued, 1.0)
        sessions = self._turns.sessions
        most = min(EACH * sessions, MAX_GROUP) if sessions > 1 else MAX_GROUP
        group: list[_Queued[Any]] = []
        while len(group) < most and (turn := self._turns.take()) is not None:
            turn.done()
            group.append(turn.item)
        return group

    async def _settle(self, group: list[_Queued[Any]]) -> None:
        self._away = None
        # Who only reads must not wait for another process that writes.
        writes = any(queued.write for queued in group)
        try:
            if self._backend.away:
                working = self._worker.run(self._transact, group, writes)
                while not (await asyncio.wait([working], timeout=ANSWER_SECONDS))[0]:
                    self._backend.cut()
                await working
            else:
                self._stage(group, writes)
                if writes:
                    await self._worker.run(self._backend.commit, self._connection)
                else:
                    self._connection.rollback()
            if self._connection.info.pop(LEFT, False) and writes:
                self.on_events()
        except Exception as error:
            for queued in group:
                queued.error = self._backend.translate(error)
            self._backend.undo(self._connection)
        failure = next((one.error for one in group if isinstance(one.error, StoreFails)), None)
        if failure is not None:
            self._condition.failed(failure)
            self._away = failure if failure.away else None
        _resolve(group)

    def _transact(self, group: list[_Queued[Any]], writes: bool) -> None:
        self._stage(group, writes)
        if writes:
            self._backend.commit(self._connection)
        else:
            self._connection.rollback()

    def _stage(self, group: list[_Queued[Any]], writes: bool) -> None:
        """Run *group* in a transaction, and leave that open."""
        self._begin(writes)
        if not self._together(group):
            self._connection.rollback()
            self._begin(writes)
            self._apart(group)

    def _begin(self, writes: bool) -> None:
        begin = self._backend.begin_to_write if writes else self._backend.begin_to_read
        self._connection.begin()  # says nothing by itself: a listener for it would cost at each statement
        try:
            run_text(self._connection, begin)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._connection.rollback()
            self._connection.begin()
            run_text(self._connection, begin)  # it was lost while nobody used it: on a new one

    def _together(self, group: list[_Queued[Any]]) -> bool:
        """Run *group*; False when one of it raised."""
        for queued in group:
            try:
                queued.result = queued.operation(self._connection)
            except Exception:
                return False
        return True

    def _apart(self, group: list[_Queued[Any]]) -> None:
        """Run each of *group* in its own savepoint, so that one that raises undoes itself alone.

        In plain SQL, as SQLAlchemy's own savepoints cost four times as much.
        """
        for queued in group:
            run_text(self._connection, "SAVEPOINT operation")
            try:
                queued.result = queued.operation(self._connection)
            except Exception as error:
                queued.error = self._backend.translate(error)
                try:
                    run_text(self._connection, "ROLLBACK TO SAVEPOINT operation")
                except SQLAlchemyError:  # it is undone as a whole: by SQLite on a full disk, by a lost connection
                    raise error from None
            run_text(self._connection, "RELEASE SAVEPOINT operation")


def _nobody_follows() -> None:
    """Wake nobody."""


def _probe(connection: Connection) -> None:
    """Write what takes room, and take it away again."""
    connection.execute(insert(meta), {"key": "probe", "value": "x" * 8192})
    connection.execute(delete(meta).where(meta.c.key == "probe"))


def _resolve(group: list[_Queued[Any]]) -> None:
    """Wake all who wait for *group*; some may have been cancelled."""
    for queued in group:
        if queued.future.done():
            continue
        if queued.error is not None:
            queued.future.set_exception(queued.error)
        else:
            queued.future.set_result(queued.result)
