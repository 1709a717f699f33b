"""Connections, threads and transactions: readers with one snapshot each, and one writer with group commit (DEC-10).

A transaction is a function that runs in a thread of ours, `body(tx)`: nothing waits for the network or the loop while
locks are held, and bodies that queued while the last commit ran share the next one. Each body stands in a savepoint,
so one that raises takes nobody else with it; every result is handed out after the commit, never before. A body may be
run again when the engine asks for it (deadlock, lost connection): it must have no effect but through its `tx`.
Knows engines, not tables. Database errors leave here as `StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.model.errors import GatewayError, OverCapacity, StoreUnavailable
from gateway.model.faults import faultpoint
from storage.engines import DatabaseSettings, open_engine
from storage.tables.chain import ChainEnd
from storage.tables.commits import CommitMarks

T = TypeVar("T")
Now = Callable[[], datetime]
NewId = Callable[[], str]

_ATTEMPTS_MAX = 3
"""How often a group is run when the engine asks for it again."""

_SWITCH_INTERVAL_S = 0.0005
"""How long one thread may keep the interpreter while another waits for it."""

_READ_BACK_ATTEMPTS_MAX = 20
_READ_BACK_PAUSE_S = 0.25
"""How long the server may take to come back before a lost commit is given up as unknown."""


class Read:
    """One snapshot of the store."""

    __slots__ = ("connection", "node", "now")

    def __init__(self, connection: Connection, node: str, now: datetime) -> None:
        self.connection = connection
        self.node = node
        self.now = now


class Tx(Read):
    """One write transaction, in the eyes of one body."""

    __slots__ = ("chain", "new_id")

    def __init__(self, connection: Connection, node: str, now: datetime, chain: ChainEnd, new_id: NewId) -> None:
        super().__init__(connection, node, now)
        self.chain = chain
        self.new_id = new_id


class _Job(Generic[T]):
    """A body on its way through a lane. Touched by its thread until delivered, then by its loop."""

    __slots__ = ("appends_only", "body", "error", "future", "given_up", "loop", "result")

    def __init__(self, body: Callable[[Tx], T], loop: asyncio.AbstractEventLoop, appends_only: bool) -> None:
        self.body = body
        self.appends_only = appends_only
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.given_up = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]  # None is a T when the body returned None


class Database:
    """The threads over one engine. `async with`; `read` and `write` may be called from any event loop."""

    def __init__(self, settings: DatabaseSettings, node: str, now: Now, new_id: NewId) -> None:
        self.settings = settings
        self.node = node
        self.now = now
        self.new_id = new_id
        self.engine = open_engine(settings)
        self._writes = _Queue(settings.waiting_max)
        self._reads = _Queue(settings.waiting_max)
        self._threads: list[threading.Thread] = []

    @property
    def is_sqlite(self) -> bool:
        """Whether the engine is SQLite."""
        return self.engine.dialect.name == "sqlite"

    async def __aenter__(self) -> Database:
        # A busy event loop gives the interpreter up often, each time for a moment too short for a waiting thread, and
        # that resets the thread's patience of 5 ms: measured, a read of 3 ms then took up to 26 s. At 0.5 ms it takes
        # 40 ms at the worst, and throughput at sixteen callers rises by a fifth.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        writer = _Writer(self)
        self._threads = [threading.Thread(target=writer.run, args=(self._writes,), name="store-writer", daemon=True)]
        for number in range(self.settings.readers):
            reader = _Reader(self)
            name = f"store-reader-{number}"
            self._threads.append(threading.Thread(target=reader.run, args=(self._reads,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is queued, then stop the threads."""
        self._writes.close()
        self._reads.close()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self.engine.dispose()

    async def read(self, body: Callable[[Read], T]) -> T:
        """Run `body` on one snapshot; raises `StoreUnavailable` or `OverCapacity`, or what `body` raises."""
        return await _through(self._reads, body)

    async def write(self, body: Callable[[Tx], T], *, appends_only: bool = False) -> T:
        """Run `body` in a transaction and return once it is durable; raises as `read` does.

        A caller that is cancelled while its body runs leaves the transaction whole: it may be committed all the same.
        A body that does nothing but append to the chain says so, and needs no savepoint.
        """
        return await _through(self._writes, body, appends_only)


async def _through(queue: _Queue, body: Callable[[Tx], T], appends_only: bool = False) -> T:
    job = _Job(body, asyncio.get_running_loop(), appends_only)
    queue.put(job)
    try:
        return await job.future
    except asyncio.CancelledError:
        job.given_up = True
        raise


class _Queue:
    """A bounded queue from event loops to threads."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._jobs: deque[_Job[object]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, job: _Job[T]) -> None:
        with self._changed:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            if len(self._jobs) >= self._waiting_max:
                self._jobs = deque(waiting for waiting in self._jobs if not waiting.given_up)
            if len(self._jobs) >= self._waiting_max:
                raise OverCapacity("too many transactions wait for the database")
            self._jobs.append(job)  # type: ignore[arg-type]  # what a job yields matters to its caller alone
            self._changed.notify()

    def take(self, count_max: int) -> Sequence[_Job[object]]:
        """Wait for jobs that somebody still waits for; empty once closed and drained."""
        with self._changed:
            while True:
                taken: list[_Job[object]] = []
                while self._jobs and len(taken) < count_max:
                    job = self._jobs.popleft()
                    if not job.given_up:
                        taken.append(job)
                if taken or (self._is_closed and not self._jobs):
                    return taken
                self._changed.wait()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _hand_out(jobs: Sequence[_Job[object]]) -> None:
    """Deliver outcomes, one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job[object]]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_deliver, theirs)


def _deliver(jobs: Sequence[_Job[object]]) -> None:
    for job in jobs:
        job.deliver()


def _as_ours(error: BaseException) -> BaseException:
    """The error that a caller sees: ours as they are, the engine's and the operating system's as unavailability."""
    if isinstance(error, SQLAlchemyError | OSError) and not isinstance(error, GatewayError):
        unavailable = StoreUnavailable(f"the database refused a transaction: {type(error).__name__}")
        unavailable.__cause__ = error
        return unavailable
    return error


class _Lane:
    """A thread's own connection, opened when needed and dropped after an error that leaves it in doubt."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.connection: Connection | None = None

    def connected(self) -> Connection:
        if self.connection is None:
            self.connection = self.database.engine.connect()
        return self.connection

    def drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, OSError):
                connection.invalidate()
            with suppress(SQLAlchemyError, OSError):
                connection.close()

    def roll_back(self) -> None:
        try:
            if self.connection is not None:
                self.connection.exec_driver_sql("ROLLBACK")
        except (SQLAlchemyError, OSError):
            self.drop()


class _Reader(_Lane):
    """Runs one body at a time on a snapshot of its own."""

    def connected(self) -> Connection:
        is_new = self.connection is None
        connection = super().connected()
        if is_new and not self.database.is_sqlite:
            timeout_ms = int(self.database.settings.read_lock_timeout_s * 1000)
            connection.exec_driver_sql(f"SET lock_timeout = {timeout_ms}")
        return connection

    def run(self, queue: _Queue) -> None:
        while jobs := queue.take(1):
            self._serve(jobs[0])
            _hand_out(jobs)
        self.drop()

    def _serve(self, job: _Job[object]) -> None:
        try:
            try:
                job.result = self._read(job.body)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self.drop()  # the server was restarted since our last visit: once more, on a new connection
                job.result = self._read(job.body)
        except BaseException as error:  # noqa: BLE001  # the outermost frame of this thread: the caller gets it
            self.roll_back()
            job.error = _as_ours(error)

    def _read(self, body: Callable[[Tx], object]) -> object:
        connection = self.connected()
        begin = "BEGIN" if self.database.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        connection.exec_driver_sql(begin)
        result = body(Read(connection, self.database.node, self.database.now()))  # type: ignore[arg-type]  # see read
        connection.exec_driver_sql("COMMIT")
        return result


class _CommitInDoubt(Exception):
    """COMMIT was sent and its answer was lost."""

    def __init__(self, token: str) -> None:
        super().__init__("the connection broke during commit")
        self.token = token


class _Writer(_Lane):
    """Runs the bodies that wait as one group, and commits them together."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._marks = None if database.is_sqlite else CommitMarks()
        self._has_swept = False

    def run(self, queue: _Queue) -> None:
        while jobs := queue.take(self.database.settings.group_max):
            self._serve(jobs)
            _hand_out(jobs)
        self.drop()

    def _serve(self, jobs: Sequence[_Job[object]]) -> None:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            is_last = attempt == _ATTEMPTS_MAX
            for job in jobs:
                job.result, job.error = None, None
            try:
                self._transact(jobs)
                return
            except _CommitInDoubt as doubt:
                self.drop()
                took_place = self._took_place(doubt)
                if took_place:
                    return
                if took_place is None or is_last:
                    _fail(jobs, StoreUnavailable("the database was lost during commit: the outcome is not known"))
                    return
            except BaseException as error:  # noqa: BLE001  # the outermost frame of this thread: callers get it
                self.roll_back()
                if is_last or not _is_worth_repeating(error):
                    _fail(jobs, _as_ours(error))
                    return

    def _took_place(self, doubt: _CommitInDoubt) -> bool | None:
        """Whether the commit happened, as the server tells once it is back; None: it is not back in time."""
        for _ in range(_READ_BACK_ATTEMPTS_MAX):
            try:
                return self._marks is not None and self._marks.is_committed(self.connected(), doubt.token)
            except (SQLAlchemyError, OSError):
                self.drop()
                time.sleep(_READ_BACK_PAUSE_S)
        return None

    def _transact(self, jobs: Sequence[_Job[object]]) -> None:
        connection = self.connected()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if self.database.is_sqlite else "BEGIN")
        faultpoint("store.begin.after")
        chain = ChainEnd(connection, self.database.node)
        for job in jobs:
            self._run_body(
                job, Tx(connection, self.database.node, self.database.now(), chain, self.database.new_id), len(jobs) > 1
            )
        chain.flush()
        token = self._mark(connection)
        faultpoint("store.commit.before")
        try:
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            if error.connection_invalidated and token:
                raise _CommitInDoubt(token) from error
            raise
        faultpoint("store.commit.after")

    def _mark(self, connection: Connection) -> str:
        """Leave what a lost commit is settled by, where an answer can be lost."""
        if self._marks is None:
            return ""
        if not self._has_swept:
            self._marks.sweep(connection, self.database.now())
            self._has_swept = True
        return self._marks.leave(connection, self.database.now())

    def _run_body(self, job: _Job[object], tx: Tx, is_shared: bool) -> None:
        """Run one body; what it raises is its own, unless the whole transaction is lost with it."""
        if not is_shared:
            job.result = job.body(tx)
            return
        mark = tx.chain.mark()
        if not job.appends_only:
            tx.connection.exec_driver_sql("SAVEPOINT body")
        try:
            job.result = job.body(tx)
        except Exception as error:  # whatever it is belongs to this body's caller
            if _is_worth_repeating(error) or (job.appends_only and isinstance(error, SQLAlchemyError)):
                raise
            if not job.appends_only:
                tx.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT body")
            tx.chain.reset(mark)
            job.error = _as_ours(error)
        if not job.appends_only:
            tx.connection.exec_driver_sql("RELEASE SAVEPOINT body")


def _fail(jobs: Sequence[_Job[object]], error: BaseException) -> None:
    for job in jobs:
        job.error = error


def _is_worth_repeating(error: BaseException) -> bool:
    """A lost connection, or a conflict that the engine settles by asking one side to start again."""
    if not isinstance(error, DBAPIError):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or sqlstate in ("40001", "40P01")
