from __future__ import annotations

import math
import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.store.rows import COLUMNS, MOST, bent, document_of, entry_in, entry_of, values_of

text = st.text(st.characters(codec="utf-8"), max_size=40)
millis = st.integers(0, 4_000_000_000_000).map(lambda n: n / 1e3)
micros = st.integers(0, 10**12).map(lambda n: n / 1e6)
counts = st.integers(0, MOST)
usages = st.builds(
    Usage,
    *(st.none() | counts for _ in range(3)),
    st.booleans(),
    *(st.none() | counts for _ in range(7)),
)
attempts = st.builds(
    Attempt,
    deployment=text,
    outcome=text,
    began=micros,
    ended=micros,
    step=st.integers(0, 9),
    dispatched=st.booleans(),
    status=st.none() | st.integers(100, 599),
    first_content=st.none() | micros,
    text=text,
    number=st.integers(0, 9),
    account=st.none() | text,
    usage=usages,
    cost=st.none() | st.integers(0, 10**15),
    estimated=st.booleans(),
    price=text,
    energy=st.integers(0, 10**15),
    energy_cost=st.integers(0, 10**15),
)
entries = st.builds(
    Entry,
    request_id=text,
    at=millis,
    principal=text,
    route=text,
    model=text,
    status=st.integers(100, 599),
    outcome=text,
    duration=micros,
    deployment=st.none() | text,
    streamed=st.booleans(),
    first_content=st.none() | micros,
    usage=st.builds(
        Usage, st.none() | counts, st.none() | counts, st.none() | counts, estimated=st.booleans()
    ),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    bytes_in=counts,
    bytes_out=counts,
    note=text,
    user=st.none() | text,
    team=st.none() | text,
    end_user=st.none() | text,
    cache=st.sampled_from(["", "hit", "joined"]),
    tags=st.lists(text, max_size=3).map(tuple),
)


def through_sqlite(values):
    names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
    connection = sqlite3.connect(":memory:")
    try:
        connection.row_factory = sqlite3.Row
        connection.execute(f"CREATE TABLE t ({names})")
        connection.execute(f"INSERT INTO t VALUES ({marks})", values)
        return dict(connection.execute("SELECT * FROM t").fetchone())
    finally:
        connection.close()


@given(entries)
def test_an_entry_comes_back_from_its_row_as_it_was(entry):
    assert entry_of(through_sqlite(values_of(entry, str))) == entry


@given(entries)
def test_an_exchange_that_is_not_over_comes_back_from_its_document(entry):
    assert entry_in(document_of(values_of(entry, str))) == entry


def test_a_row_has_the_sums_of_its_attempts(entry):
    attempts = (
        Attempt("a/b/c", "ok", 0, 1, cost=7, energy=3, energy_cost=2),
        Attempt("a/b/c", "ok", 0, 1, cost=None),
        Attempt("a/b/c", "ok", 0, 1, cost=5, energy=1, energy_cost=1),
    )
    row = dict(zip(COLUMNS, values_of(entry(attempts=attempts), str), strict=True))
    assert (row["cost"], row["cost_unknown"], row["energy"], row["energy_cost"]) == (12, True, 4, 3)


def test_what_an_attempt_does_not_say_takes_no_room(entry):
    row = dict(zip(COLUMNS, values_of(entry(attempts=(Attempt("a/b/c", "ok", 0, 1),)), str), strict=True))
    assert row["attempts"] == '[{"deployment":"a/b/c","outcome":"ok","began_us":0,"ended_us":1000000}]'
    unknown = Attempt("a/b/c", "ok", 0, 1, cost=None, usage=Usage(3))
    row = dict(zip(COLUMNS, values_of(entry(attempts=(unknown,)), str), strict=True))
    assert '"usage":{"input_tokens":3},"cost":null' in row["attempts"]


wild = st.text(st.characters(), max_size=20)


@given(
    st.builds(
        Entry,
        request_id=wild,
        at=st.floats(),
        principal=wild,
        route=wild,
        model=wild,
        status=st.integers(),
        outcome=wild,
        duration=st.floats(),
        usage=st.builds(Usage, st.integers(), st.integers(), st.integers()),
        attempts=st.lists(
            st.builds(Attempt, wild, wild, st.floats(), st.floats(), text=wild), max_size=2
        ).map(tuple),
        note=wild,
    )
)
def test_whatever_an_entry_holds_it_can_be_bent_into_a_row(entry):
    row = through_sqlite(values_of(bent(entry), str))
    assert row["status"] == max(-MOST, min(MOST, entry.status))
    assert math.isfinite(entry_of(row).duration)


def test_free_text_is_scrubbed_before_it_becomes_a_row(entry):
    told = entry(
        attempts=(Attempt("a/b/c", "key_invalid", 0, 1, text="no such key: hush"),), note="hush, too"
    )
    row = entry_of(through_sqlite(values_of(told, lambda text: text.replace("hush", "…"))))
    assert row.attempts[0].text == "no such key: …"
    assert row.note == "…, too"
