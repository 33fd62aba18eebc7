"""The one thread that writes to the database, and its queue.

Rules: it commits whatever queued while the last commit ran: exchanges, dispatches and settlements are
one transaction, however many there are. Nobody who waits for durability waits for a timer; rows that
nobody waits for gather a moment, which makes them several times cheaper. A failing database is tried
again with growing pauses while the queue fills up to its bound; free exchanges that come after that
are dropped and counted, settlements never. A batch may be written twice (a commit whose outcome is
unknown): everything in it is unique, so a replay changes nothing (`batch.py`).

This is one of the few places that catch everything: the thread must outlive any error, and it
reports each change between working and failing to the log.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, delete, exc

from fleetgate.domain import Entry, Settlement
from fleetgate.store.adding import adding
from fleetgate.store.batch import Dispatch, Doubled, RunLedger, Work, Written
from fleetgate.store.failures import StoreError, Trouble, cause_of, repeatable, said
from fleetgate.store.rows import bent, document_of, values_of
from fleetgate.store.schema import learned

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from sqlalchemy import Engine

LIMIT: Final = 20_000
"""Exchanges that may wait: about 30 MB, six seconds of the fastest traffic one process carries."""
BATCH: Final = 1_024
GATHER: Final = 0.05
"""Seconds that rows nobody waits for may gather before they are written."""
PAUSE_FIRST: Final = 0.05
PAUSE_LONGEST: Final = 2.0

Found = TypeVar("Found")

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


Item = Entry | Dispatch | Settlement | Mark | Job | Stop

# What one row can be guilty of. Everything else is the database's own trouble and is tried again.
_ROW_ERRORS: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    exc.DataError,
    exc.IntegrityError,
    ArithmeticError,
    ValueError,
    TypeError,
    AttributeError,
)


class Unfit(Exception):
    """What is to be written does not fit, at any time: trying again is no use."""


class Writer:
    """Owns the writing connection. All but the thread's own part may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        ledger: RunLedger,
        scrub: Callable[[str], str],
        *,
        limit: int = LIMIT,
        gather: float = GATHER,
    ) -> None:
        self._engine = engine
        self.ledger = ledger
        self.shared = engine.dialect.name == "postgresql"
        """other gateways may use the database"""
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
        self._beat = False
        self.begun = threading.Event()
        """the ledger is recovered, and this run has its row; or that cannot be"""
        self._thread = threading.Thread(target=self._run, name="fleetgate-store", daemon=True)
        self.dropped = 0
        """exchanges lost because the queue was full, or at a stop while the database failed"""
        self.spoiled = 0
        """exchanges lost because no row could be made of them"""
        self.doubles = 0
        """exchanges not added because their request id was there already"""
        self.written = 0
        self.commits = 0
        self.last_error: str | None = None
        """the latest failure, kept after recovery"""
        self.failing = False

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def post(self, entry: Entry) -> None:
        """Hot: one call per exchange on the event loop. What ends reservations is never too much."""
        if self._queue.qsize() < self._limit or (entry.settlements and not self._stopping.is_set()):
            self._queue.put(entry)
        else:
            self.dropped += 1

    def settle(self, settlement: Settlement) -> None:
        self._queue.put(settlement)

    def beat(self) -> None:
        """With the next batch."""
        if not self._beat:
            self._beat = True
            self._queue.put(Mark(_nobody))

    def learn(self, kind: str, key: str, lesson: Lesson) -> None:
        """Only the latest lesson per key waits, so that this cannot grow past what there is to know."""
        with self._lessons_lock:
            first = not self._lessons
            self._lessons[kind, key] = lesson
        if first:
            self._queue.put(Mark(_nobody))

    @property
    def full(self) -> bool:
        return self._queue.qsize() >= self._limit >= 0

    def put(self, item: Dispatch | Mark | Job) -> None:
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
        self._begin()
        ended = False
        while not ended:
            first = self._queue.get()
            if isinstance(first, Entry) and not first.settlements:
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
        self._leave()
        self._close()
        late = [self._queue.get() for _ in range(self._queue.qsize())]
        self.dropped += sum(isinstance(item, Entry) for item in late)
        self._refuse(late)

    def _begin(self) -> None:
        """Before anything else is written: end what earlier runs left open, and begin this one."""
        try:
            self._insist(lambda: self._transact(self.ledger.begin))
        except Exception:  # what is left open can be ended at the next start  # noqa: BLE001
            self._log.exception("the ledger was not recovered")
        self.begun.set()
        found = self.ledger.recovered
        if found is not None and found.requests:
            self._log.warning(
                "requests that were open when a gateway ended were charged by estimate",
                extra={
                    "requests": found.requests,
                    "attempts": found.attempts,
                    "estimated_cost": found.estimated_cost,
                },
            )

    def _leave(self) -> None:
        if self._given_up:
            return
        try:
            self._transact(self.ledger.leave)
        except Exception as error:  # noqa: BLE001  (the next start does it)
            self._log.warning("the leases were not given back", extra={"why": said(error)})

    def _settle(self, items: list[Item]) -> None:
        with self._lessons_lock:
            lessons, self._lessons = self._lessons, {}
        work = self._work(items)
        if (lessons or not work.empty) and not self._store(work, lessons):
            self.dropped += len(work.rows)
            self._refuse(items)
            return
        _tell(work.dispatches)
        for item in items:
            if isinstance(item, Mark):
                item.reached(None)
            elif isinstance(item, Job):
                self._do(item)

    # Making rows of it

    def _work(self, items: list[Item]) -> Work:
        work = Work()
        for item in items:
            if isinstance(item, Entry):
                work.entries.append(item)
            elif isinstance(item, Dispatch):
                work.dispatches.append(item)
            elif isinstance(item, Settlement):
                work.settlements.append(item)
        work.beat, self._beat = self._beat, False
        try:
            work.rows = [values_of(entry, self._scrub) for entry in work.entries]
        except _ROW_ERRORS:
            self._rows_one_by_one(work)
        for one in work.dispatches:
            self._document(one)
        return work

    def _rows_one_by_one(self, work: Work) -> None:
        entries, work.entries, work.rows = work.entries, [], []
        for entry in entries:
            try:
                fitting = bent(entry)
                work.rows.append(values_of(fitting, self._scrub))
                work.entries.append(fitting)
            except _ROW_ERRORS as error:
                self._spoil(entry, error)
                work.settlements.extend(entry.settlements)

    def _document(self, dispatch: Dispatch) -> None:
        entry = dispatch.reservation.entry
        try:
            dispatch.document = document_of(values_of(entry, self._scrub))
        except _ROW_ERRORS:
            try:
                dispatch.document = document_of(values_of(bent(entry), self._scrub))
            except _ROW_ERRORS as error:
                self._log.error("an exchange has no form", extra={"why": said(error)})

    def _spoil(self, entry: Entry, error: BaseException) -> None:
        self.spoiled += 1
        self._log.error(
            "an exchange was not recorded", extra={"request_id": entry.request_id, "why": said(error)}
        )

    # Writing it

    def _store(self, work: Work, lessons: Lessons) -> bool:
        """Writes until it succeeds. False: told to stop while the database fails."""
        try:
            return self._insist(lambda: self._write(work, lessons))
        except Unfit as error:
            parts = list(work.parts())
            if len(parts) + bool(lessons) > 1:
                return self._one_by_one(parts, lessons)
            fitting = _bent(work)
            if fitting is not None:
                return self._store(fitting, {})
            return self._give_up(work, cause_of(error.__cause__ or error))

    def _one_by_one(self, parts: list[Work], lessons: Lessons) -> bool:
        if lessons and not self._store(Work(), lessons):
            return False
        return all(self._store(part, {}) for part in parts)

    def _give_up(self, work: Work, error: BaseException) -> bool:
        """Something alone that fits in no form."""
        for entry in work.entries:
            self._spoil(entry, error)
            if entry.settlements:
                return self._store(Work(settlements=list(entry.settlements)), {})
        for dispatch in work.dispatches:
            dispatch.error = StoreError(Trouble.DATABASE, f"the database does not take it: {said(error)}")
        for settlement in work.settlements:
            self._log.error(
                "a settlement was not recorded",
                extra={"request_id": settlement.request_id, "why": said(error)},
            )
        return True

    def _insist(self, write: Callable[[], None]) -> bool:
        """Tries until it succeeds. Raises `Unfit`. False: told to stop while the database fails."""
        pause = PAUSE_FIRST
        while not self._given_up:
            last = self._stopping.is_set()
            try:
                write()
            except Exception as error:
                if isinstance(error, _ROW_ERRORS) or isinstance(cause_of(error), _ROW_ERRORS):
                    raise Unfit from error
                # Another gateway was in the way: that is no failure unless it stays so.
                if pause > PAUSE_FIRST or not repeatable(error):
                    self._failed(error)
            else:
                self._worked()
                return True
            self._given_up = last
            self._stopping.wait(pause)
            pause = min(pause * 2, PAUSE_LONGEST)
        return False

    def _write(self, work: Work, lessons: Lessons) -> None:
        try:
            written = self._transact(lambda connection: self._both(connection, work, lessons, exact=False))
        except Doubled:
            written = self._transact(lambda connection: self._both(connection, work, lessons, exact=True))
        self.ledger.committed(written)
        self.written += written.exchanges
        self.doubles += written.doubles
        for dispatch in written.refused:
            dispatch.error = StoreError(
                Trouble.DATABASE, "this gateway was taken for dead: its budgets have to be granted anew"
            )

    def _both(self, connection: Connection, work: Work, lessons: Lessons, *, exact: bool) -> Written:
        for (kind, key), lesson in lessons.items():
            _teach(connection, kind, key, lesson)
        return self.ledger.write(connection, work, exact=exact)

    def _transact(self, act: Callable[[Connection], Found]) -> Found:
        connection = self._connected()
        try:
            with connection.begin():
                found = act(connection)
        except Doubled:
            raise
        except BaseException:
            self._close()
            raise
        self.commits += 1
        return found

    def _do(self, job: Job) -> None:
        if not job.done.set_running_or_notify_cancel():
            return  # whoever asked has given up, and was told that nothing happened
        try:
            result = self._transact(job.act)
        except Exception as error:  # noqa: BLE001  (whoever asked gets it)
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
            elif isinstance(item, Dispatch):
                item.error = gone
        _tell(item for item in items if isinstance(item, Dispatch))

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


def _tell(dispatches: Iterable[Dispatch]) -> None:
    """All that wait on a loop with one call to it."""
    loops: dict[asyncio.AbstractEventLoop, list[Dispatch]] = {}
    for one in dispatches:
        loops.setdefault(one.loop, []).append(one)
    for loop, waiting in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, waiting)
        except RuntimeError:  # the loop is closed, and nobody waits
            continue


def _resolve(waiting: list[Dispatch]) -> None:
    for one in waiting:
        if one.done.done():
            continue
        if one.error is None:
            one.done.set_result(None)
        else:
            one.done.set_exception(one.error)


def _bent(work: Work) -> Work | None:
    """One thing alone, made to fit; None: it did fit, and something else is wrong."""
    entries = [bent(entry) for entry in work.entries]
    settlements = [bent(settlement) for settlement in work.settlements]
    rows = [bent(row) for row in work.rows]
    if (entries, settlements, rows) == (work.entries, work.settlements, work.rows):
        return None
    return Work(entries, rows, settlements=settlements)


def _teach(connection: Connection, kind: str, key: str, lesson: Lesson) -> None:
    if lesson is None:
        connection.execute(delete(learned).where(learned.c.kind == kind, learned.c.key == key))
        return
    document, at = lesson
    row = adding(connection, learned).values(kind=kind, key=key, document=document, at=at)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[learned.c.kind, learned.c.key],
            set_={"document": row.excluded.document, "at": row.excluded.at},
        )
    )
