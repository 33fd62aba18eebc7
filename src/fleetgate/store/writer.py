"""The one thread that writes to the database, and its queue.

Rules: it commits whatever queued while the last commit ran. Nobody who waits for durability waits
for a timer; rows that nobody waits for gather a moment, which makes them several times cheaper. A
failing database is tried again with growing pauses while the queue fills up to its bound; what comes
after that is dropped and counted. A batch may be written twice (a commit whose outcome is unknown):
rows are unique by request id, so a replay changes nothing.

This is one of the few places that catch everything: the thread must outlive any error, and it
reports each change between working and failing to the log.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.sqlite import insert

from fleetgate.domain import Entry
from fleetgate.store.failures import StoreError, Trouble, cause_of, said
from fleetgate.store.rows import Values, bent, values_of
from fleetgate.store.schema import learned
from fleetgate.store.sqlite import insert_exchanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from sqlalchemy import Engine

LIMIT: Final = 20_000
"""Exchanges that may wait: about 30 MB, six seconds of the fastest traffic one process carries."""
BATCH: Final = 1_024
GATHER: Final = 0.05
"""Seconds that rows nobody waits for may gather before they are written."""
PAUSE_FIRST: Final = 0.05
PAUSE_LONGEST: Final = 2.0

Lesson = tuple[str, int] | None
"""A document and its time (unix milliseconds), or None: to be forgotten."""
Lessons = dict[tuple[str, str], Lesson]
"""By kind and key."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Somebody waits until everything before this is durable; told None, or why it never will be."""

    reached: Callable[[StoreError | None], None]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do in its own transaction; `done` gets what it returns or raises."""

    act: Callable[[Connection], Any]
    done: Future[Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """Write what is queued, once, and end."""


Item = Entry | Mark | Job | Stop

# What one row can be guilty of. Everything else is the database's own trouble and is tried again.
_ROW_ERRORS: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    ValueError,
    TypeError,
    AttributeError,
)


class Writer:
    """Owns the writing connection. `put` and `learn` may be called from any thread."""

    def __init__(
        self, engine: Engine, scrub: Callable[[str], str], *, limit: int = LIMIT, gather: float = GATHER
    ) -> None:
        self._engine = engine
        self._scrub = scrub
        self._limit = limit
        self._gather = gather
        self._log = logging.getLogger("fleetgate.store")
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._lessons: Lessons = {}
        self._lessons_lock = threading.Lock()
        self._connection: Connection | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="fleetgate-store", daemon=True)
        self.dropped = 0
        """exchanges lost because the queue was full, or at a stop while the database failed"""
        self.spoiled = 0
        """exchanges lost because no row could be made of them"""
        self.doubles = 0
        """exchanges not added because their request id was there already"""
        self.written = 0
        self.last_error: str | None = None
        """the latest failure, kept after recovery"""
        self.failing = False

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def post(self, entry: Entry) -> None:
        """Hot: one call per exchange on the event loop."""
        if self._queue.qsize() < self._limit:
            self._queue.put(entry)
        else:
            self.dropped += 1

    def learn(self, kind: str, key: str, lesson: Lesson) -> None:
        """Only the latest lesson per key waits, so that this cannot grow past what there is to know."""
        with self._lessons_lock:
            first = not self._lessons
            self._lessons[kind, key] = lesson
        if first:
            self._queue.put(Mark(_nobody))

    def put(self, item: Mark | Job) -> None:
        """For what somebody waits for."""
        if self._stopping.is_set():
            self._refuse([item])
            return
        self._queue.put(item)
        self._hurry.set()

    def stop(self, patience: float) -> bool:
        """Ends the thread; False: it is still stuck in the database after `patience` seconds."""
        self._limit = -1
        self._stopping.set()
        self._queue.put(Stop())
        self._hurry.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    # The thread's own part from here on.

    def _run(self) -> None:
        ended = False
        while not ended:
            first = self._queue.get()
            if isinstance(first, Entry):
                self._hurry.wait(self._gather)
            self._hurry.clear()
            items = [first, *(self._queue.get() for _ in range(min(self._queue.qsize(), BATCH)))]
            if self._queue.qsize():
                self._hurry.set()
            ended = any(isinstance(item, Stop) for item in items)
            try:
                self._settle(items)
            except Exception as error:  # noqa: BLE001  (the thread must live on)
                self._log.exception("the database writer failed on a batch")
                self.last_error = said(error)
                self._refuse(items)
        self._close()
        late = [self._queue.get() for _ in range(self._queue.qsize())]
        self.dropped += sum(isinstance(item, Entry) for item in late)
        self._refuse(late)

    def _settle(self, items: list[Item]) -> None:
        with self._lessons_lock:
            lessons, self._lessons = self._lessons, {}
        rows = self._rows([item for item in items if isinstance(item, Entry)])
        if (rows or lessons) and not self._store(rows, lessons):
            self.dropped += len(rows)
            self._refuse(items)
            return
        for item in items:
            if isinstance(item, Mark):
                item.reached(None)
            elif isinstance(item, Job):
                self._do(item)

    def _rows(self, entries: list[Entry]) -> list[Values]:
        try:
            return [values_of(entry, self._scrub) for entry in entries]
        except _ROW_ERRORS:
            return [row for entry in entries if (row := self._row(entry)) is not None]

    def _row(self, entry: Entry) -> Values | None:
        try:
            return values_of(bent(entry), self._scrub)
        except _ROW_ERRORS as error:
            self._spoil(entry.request_id, error)
            return None

    def _spoil(self, request_id: object, error: Exception) -> None:
        self.spoiled += 1
        self._log.error("an exchange was not recorded", extra={"request_id": request_id, "why": said(error)})

    def _store(self, rows: list[Values], lessons: Lessons) -> bool:
        """Writes until it succeeds. False: told to stop while the database fails."""
        pause = PAUSE_FIRST
        while not self._given_up:
            last = self._stopping.is_set()
            try:
                self._write(rows, lessons)
            except Exception as error:  # noqa: BLE001  (whatever it is, the rows must wait for better times)
                if isinstance(cause_of(error), _ROW_ERRORS) and len(rows) > 1:
                    return self._one_by_one(rows, lessons)
                if isinstance(cause_of(error), _ROW_ERRORS) and rows:
                    return self._bend_or_give_up(rows[0], error, lessons)
                self._failed(error)
            else:
                self._worked()
                return True
            self._given_up = last
            self._stopping.wait(pause)
            pause = min(pause * 2, PAUSE_LONGEST)
        return False

    def _one_by_one(self, rows: list[Values], lessons: Lessons) -> bool:
        if lessons and not self._store([], lessons):
            return False
        return all(self._store([row], {}) for row in rows)

    def _bend_or_give_up(self, row: Values, error: Exception, lessons: Lessons) -> bool:
        fitting = bent(row)
        if fitting != row:
            return self._store([fitting], lessons)
        self._spoil(row[0], error)
        return not lessons or self._store([], lessons)

    def _write(self, rows: list[Values], lessons: Lessons) -> None:
        connection = self._connected()
        try:
            with connection.begin():
                new = insert_exchanges(connection, rows)
                for (kind, key), lesson in lessons.items():
                    _teach(connection, kind, key, lesson)
        except BaseException:
            self._close()
            raise
        self.written += new
        self.doubles += len(rows) - new

    def _do(self, job: Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return  # whoever asked has given up, and was told that nothing happened
        try:
            connection = self._connected()
            with connection.begin():
                result = job.act(connection)
        except Exception as error:  # noqa: BLE001  (whoever asked gets it)
            self._close()
            job.done.set_exception(error)
        else:
            job.done.set_result(result)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except Exception as error:  # noqa: BLE001  (it is given up either way)
            self._log.warning("closing the database failed", extra={"why": said(error)})

    def _refuse(self, items: list[Item]) -> None:
        """Tells everybody who waits that it will not be."""
        gone = StoreError(Trouble.CLOSED, "the database was closed before this was written")
        for item in items:
            if isinstance(item, Mark):
                item.reached(gone)
            elif isinstance(item, Job) and not item.done.done():
                item.done.set_exception(gone)

    def _failed(self, error: Exception) -> None:
        self.last_error = said(error)
        if not self.failing:
            self.failing = True
            self._log.error(
                "the database fails: exchanges wait in memory, and requests are answered as before",
                extra={"why": self.last_error, "room_for": self._limit},
            )

    def _worked(self) -> None:
        if self.failing:
            self.failing = False
            self._log.warning("the database works again", extra={"dropped": self.dropped})


def _nobody(_error: StoreError | None) -> None:
    """Nobody waits: the mark only wakes the thread."""


def _teach(connection: Connection, kind: str, key: str, lesson: Lesson) -> None:
    if lesson is None:
        connection.execute(delete(learned).where(learned.c.kind == kind, learned.c.key == key))
        return
    document, at = lesson
    row = insert(learned).values(kind=kind, key=key, document=document, at=at)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[learned.c.kind, learned.c.key],
            set_={"document": row.excluded.document, "at": row.excluded.at},
        )
    )
