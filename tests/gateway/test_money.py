"""What an answer costs, and what stands in its way: the path of the exchange with money and limits."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from tests.support.gateway import (
    answer,
    chain,
    content_frame,
    error,
    node,
    openai_engine,
    provider,
    role_frame,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import close, head, respond_json, send, stall, stream_sse, tell

from fleetgate.store import ledger
from fleetgate.store.retention import full_check
from fleetgate.store.schema import money_event

if TYPE_CHECKING:
    from tests.support.gateway import Gateway

pytestmark = pytest.mark.asyncio

PRICE = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
COST = 3 * 1_000 + 2 * 2_000
"""nano-dollars of the usual answer: 3 tokens in, 2 out"""


def paid(at: Any, **members: Any) -> dict[str, Any]:
    """A provider whose one model has a price."""
    model = {"name": "m", "price": PRICE, "context": 4_096}
    return provider(at, **{"models": [model], **members})


def priced_by_answer(at: Any) -> dict[str, Any]:
    """A provider that takes 2,000 nano-dollars for a token out and nothing for what goes in."""
    price = {"input": "0 USD/Mtok", "output": "2 USD/Mtok"}
    return provider(at, models=[{"name": "m", "price": price}])


def budget(amount: str, **members: Any) -> dict[str, Any]:
    return {"scope": "global", "money": amount, **members}


async def events(gateway: Gateway) -> list[tuple[str, int, str]]:
    await gateway.store.flush()
    columns = (money_event.c.kind, money_event.c.amount, money_event.c.request_id)
    query = select(*columns).order_by(money_event.c.at, money_event.c.seq)
    return [tuple(row) for row in gateway.store.ask(lambda connection: connection.execute(query).all())]


async def kinds(gateway: Gateway) -> list[str]:
    return sorted(kind for kind, _, _ in await events(gateway))


async def spent(gateway: Gateway) -> tuple[int, int]:
    """What all budgets together have spent and hold, as the database says."""
    await gateway.store.flush()
    counts = await asyncio.to_thread(gateway.store.counters)
    return sum(one.spent for one in counts), sum(one.held for one in counts)


async def sums_are_right(gateway: Gateway) -> None:
    await gateway.store.flush()
    assert await full_check(gateway.store, (ledger.check,)) == []


# --- what it costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_paid_answer_is_held_before_it_is_sent_and_settled_at_its_cost(tmp_path, stream):
    seen: list[list[str]] = []
    reply = stream_sse(said("hi")) if stream else respond_json(200, answer("hi"))
    async with openai_engine(reply) as a, running_gateway(settings(providers={"p": paid(a)}), tmp_path) as g:
        note = a.note

        def noting(request: Any) -> None:
            seen.append([kind for kind, _, _ in _events_now(tmp_path)])
            note(request)

        a.note = noting  # type: ignore[method-assign]
        reply = await g.chat("m", stream=stream)
        assert reply.status == 200
        entry = await g.entry()
        assert entry.cost == COST
        assert entry.attempts[0].price == "input 1 output 2 USD/Mtok (file)"
        assert entry.attempts[0].account == "p/1"
        assert not entry.cost_unknown
        assert await kinds(g) == ["dispatch", "reserve", "settle"]
        assert sorted(seen[0]) == ["dispatch", "reserve"]
        await sums_are_right(g)


def _events_now(tmp_path: Any) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(tmp_path / "state" / "fleetgate.db")) as database:
        return database.execute("SELECT kind, amount, request_id FROM money_event").fetchall()


async def test_own_machines_are_free_and_one_row(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[budget("1 USD")]), tmp_path) as g,
    ):
        assert (await g.chat("m")).status == 200
        assert (await g.entry()).cost == 0
        assert await events(g) == []
        assert await spent(g) == (0, 0)
        await sums_are_right(g)


async def test_each_attempt_has_its_own_price_and_a_refused_one_costs_nothing(tmp_path):
    dear = {"name": "m", "price": {"input": "10 USD/Mtok", "output": "10 USD/Mtok"}}
    blocks = {
        "providers": {"p": None, "q": None},
        "roles": {"r": chain("p/m", "q/m")},
        "limits": [budget("1 USD")],
    }
    async with (
        openai_engine(respond_json(429, error("slow down"))) as a,
        openai_engine(respond_json(200, answer("hi"))) as b,
    ):
        blocks["providers"] = {"p": provider(a, models=[dear]), "q": paid(b)}
        async with running_gateway(settings(**blocks), tmp_path) as g:
            assert (await g.chat("r")).status == 200
            entry = await g.entry()
            assert [one.cost for one in entry.attempts] == [0, COST]
            assert await kinds(g) == ["dispatch", "dispatch", "release", "reserve", "reserve", "settle"]
            assert await spent(g) == (COST, 0)
            await sums_are_right(g)


async def test_an_answer_that_breaks_off_before_content_is_charged_as_an_estimate(tmp_path):
    async with (
        openai_engine([send(head()[:10]), close()], respond_json(200, answer("hi"))) as a,
        running_gateway(
            settings(providers={"p": paid(a)}, limits=[budget("1 USD")], attempts=2), tmp_path
        ) as g,
    ):
        assert (await g.chat("m", max_tokens=50)).status == 200
        first, second = (await g.entry()).attempts
        assert first.estimated
        assert first.cost is not None
        assert first.cost > 0
        assert (second.cost, second.estimated) == (COST, False)
        assert (await spent(g)) == (first.cost + COST, 0)
        await sums_are_right(g)


async def test_a_caller_who_leaves_pays_for_what_came(tmp_path):
    frames = b"".join(
        b"data: " + frame + b"\n\n"
        for frame in (_json(role_frame()), *(_json(content_frame("x")) for _ in range(5)))
    )
    begun = head(200, [("content-type", "text/event-stream")])
    async with (
        openai_engine([send(begun + frames), stall()]) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=[budget("1 USD")]), tmp_path) as g,
    ):
        async with g.asking("m") as caller:
            await caller.head()
            await caller.piece()
        entry = await g.entry()
        assert entry.outcome == "caller_gone"
        attempt = entry.attempts[0]
        assert attempt.estimated
        assert attempt.usage.output_tokens is not None
        assert attempt.usage.output_tokens >= 5
        assert attempt.cost is not None
        assert await spent(g) == (attempt.cost, 0)
        await sums_are_right(g)


@pytest.mark.parametrize("said_first", [True, False], ids=["in the middle", "before any content"])
async def test_where_it_is_read_on_a_caller_who_leaves_pays_the_exact_cost(tmp_path, said_first):
    go_on, asked = asyncio.Event(), asyncio.Event()
    pieces = [b"data: " + _json(frame) + b"\n\n" for frame in said("a", "b")[:-1]]
    begun = send(head(200, [("content-type", "text/event-stream")]) + b"".join(pieces[: 2 * said_first]))
    rest = send(b"".join(pieces[2 * said_first :]) + b"data: [DONE]\n\n")
    async with openai_engine([begun, tell(asked), stall(go_on), rest, close()]) as a:
        blocks = settings(
            ledger={"on_disconnect": "read_on"}, limits=[budget("1 USD")], providers={"p": paid(a)}
        )
        async with running_gateway(blocks, tmp_path) as g:
            async with g.asking("m") as caller:
                await asked.wait()
                if said_first:
                    await caller.head()
                    await caller.piece()
            await g.until(lambda: g.app.gateway.reading_on)
            go_on.set()
            entry = await g.entry()
            assert (entry.outcome, entry.status) == ("caller_gone", 499)
            assert "read to its end" in entry.note
            (attempt,) = entry.attempts
            assert (attempt.outcome, attempt.cost, attempt.estimated) == ("ok", COST, False)
            assert await spent(g) == (COST, 0)
            assert g.app.gateway.reading_on == 0
            await sums_are_right(g)


async def test_a_whole_answer_is_read_on_too_and_a_failure_is_not_followed_by_another_attempt(tmp_path):
    go_on = [asyncio.Event(), asyncio.Event()]
    async with (
        openai_engine(
            [stall(go_on[0]), *respond_json(200, answer("hi"))],
            [stall(go_on[1]), *respond_json(500, error("broken"))],
        ) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
        running_gateway(
            settings(
                providers={"p": paid(a)},
                nodes={"box": node(b)},
                roles={"r": chain("p/m", "box/m")},
                ledger={"on_disconnect": "read_on"},
                limits=[budget("1 USD")],
            ),
            tmp_path,
        ) as g,
    ):
        for turn, let_go in enumerate(go_on, 1):
            async with g.asking("r", stream=False):
                await a.wait_for_requests(turn)
            await g.until(lambda: g.app.gateway.reading_on)
            let_go.set()
            assert (await g.entry(turn)).outcome == "caller_gone"
        assert [one.cost for one in (await g.entry(1)).attempts] == [COST]
        assert [(one.outcome, one.cost) for one in (await g.entry(2)).attempts] == [("server_error", 0)]
        assert b.requests == []
        assert await spent(g) == (COST, 0)
        await sums_are_right(g)


async def test_nobody_is_read_for_longer_than_a_minute(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetgate.gateway.absence.READ_ON", 0.0)
    begun = send(
        head(200, [("content-type", "text/event-stream")]) + b"data: " + _json(content_frame("x")) + b"\n\n"
    )
    async with (
        openai_engine([begun, stall()]) as a,
        running_gateway(
            settings(providers={"p": paid(a)}, ledger={"on_disconnect": "read_on"}, limits=[budget("1 USD")]),
            tmp_path,
        ) as g,
    ):
        async with g.asking("m") as caller:
            await caller.head()
            await caller.piece()
        entry = await g.entry()
        (attempt,) = entry.attempts
        assert (entry.outcome, attempt.outcome, attempt.estimated) == ("caller_gone", "cancelled", True)
        assert await spent(g) == (attempt.cost, 0)
        await sums_are_right(g)


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("usage", "estimated"),
    [
        (None, True),
        ({"prompt_tokens": -5, "completion_tokens": 2}, True),
        ({"prompt_tokens": 3, "completion_tokens": 10**15}, True),
        ({"prompt_tokens": 0, "completion_tokens": 0}, False),
    ],
    ids=["missing", "negative", "absurd", "truly nothing"],
)
async def test_usage_that_is_missing_or_cannot_be(tmp_path, usage, estimated):
    body = answer("hi")
    body.pop("usage")
    if usage is not None:
        body["usage"] = usage
    async with (
        openai_engine(respond_json(200, body)) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=[budget("100 USD")]), tmp_path) as g,
    ):
        assert (await g.chat("m", max_tokens=100)).status == 200
        attempt = (await g.entry()).attempts[0]
        assert attempt.estimated is estimated
        assert attempt.cost is not None
        assert (attempt.cost > 0) is estimated
        assert await spent(g) == (attempt.cost, 0)
        await sums_are_right(g)


async def test_what_a_free_model_says_that_it_used_is_believed(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}), tmp_path) as g,
    ):
        assert (await g.chat("m")).status == 200
        entry = await g.entry()
        assert (entry.attempts[0].usage.input_tokens, entry.attempts[0].usage.output_tokens) == (3, 2)
        assert not entry.attempts[0].usage.estimated
        assert entry.note == ""


async def test_what_nobody_knows_the_price_of_is_not_asked(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        written = {"p": provider(a, models=[{"name": "m"}])}
        async with running_gateway(settings(providers=written), tmp_path) as g:
            reply = await g.chat("m")
            assert reply.status == 503
            assert "price" in reply.body.decode()
            assert a.requests == []
            assert await events(g) == []


async def test_a_ceiling_stands_for_an_unknown_price(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        written = {"p": provider(a, models=[{"name": "m", "price": {"ceiling": "0.05 USD"}}])}
        blocks = settings(providers=written, limits=[budget("0.12 USD")])
        async with running_gateway(blocks, tmp_path) as g:
            for _ in range(2):
                assert (await g.chat("m")).status == 200
            attempt = (await g.entry()).attempts[0]
            assert (attempt.cost, attempt.estimated) == (50_000_000, True)
            assert (await g.chat("m")).status == 429
            assert await spent(g) == (100_000_000, 0)


# --- budgets ------------------------------------------------------------------------------------------------


async def test_a_spent_budget_refuses_and_says_which_and_that_retries_are_no_use(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(
            settings(providers={"p": paid(a)}, limits=[budget("0.00001 USD", name="pocket money")]), tmp_path
        ) as g,
    ):
        refused = await g.chat("m", max_tokens=1_000)
        assert refused.status == 429
        told = refused.json()["error"]
        assert told["code"] == "limit_reached"
        assert "pocket money" in told["message"]
        assert refused.header("x-should-retry") == "false"
        assert a.requests == []
        assert await spent(g) == (0, 0)
        assert (await g.entry()).outcome == "limit_reached"


async def test_of_an_answer_without_a_bound_as_much_is_asked_as_the_budget_allows(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=[budget("0.001 USD")]), tmp_path) as g,
    ):
        reply = await g.chat("m")
        assert reply.status == 200
        asked = a.requests[0].json()["max_tokens"]
        assert 64 <= asked < 500
        assert reply.header("x-fleetgate-max-tokens") == str(asked)
        assert "allowed an answer of" in (await g.entry()).note


@pytest.mark.parametrize(("then", "status"), [("refuse", 429), ("local_only", 200)])
async def test_what_follows_a_spent_budget(tmp_path, then, status):
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
    ):
        blocks = settings(
            providers={"p": paid(a)},
            nodes={"box": node(b)},
            roles={"r": chain("p/m", "box/m")},
            limits=[budget("0.0000001 USD", then=then)],
        )
        async with running_gateway(blocks, tmp_path) as g:
            reply = await g.chat("r")
            assert reply.status == status
            assert a.requests == []
            assert (await g.chat("box/m")).status == 200


async def test_a_budget_of_a_candidate_stands_against_that_candidate_alone(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("also paid"))) as b,
        openai_engine(respond_json(200, answer("and this"))) as c,
    ):
        spent_up = {"scope": {"provider": "p"}, "money": "0.0000001 USD"}
        blocks = settings(
            providers={"p": paid(a), "q": paid(b, limits=[{"money": "0.0000001 USD"}]), "r": paid(c)},
            roles={"chat": chain("p/m", "q/m", "r/m")},
            limits=[spent_up],
        )
        async with running_gateway(blocks, tmp_path) as g:
            assert (await g.chat("chat")).status == 200
            assert (len(a.requests), len(b.requests), len(c.requests)) == (0, 0, 1)


async def test_a_budget_that_only_warns_makes_no_answer_shorter(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(
            settings(providers={"p": paid(a)}, limits=[budget("0.001 USD", then="warn")]), tmp_path
        ) as g,
    ):
        assert (await g.chat("m")).status == 200
        assert "max_tokens" not in a.requests[0].json()


async def test_a_spent_budget_says_when_it_is_free_again(tmp_path):
    body = answer("hi") | {"usage": {"prompt_tokens": 3, "completion_tokens": 60}}
    async with (
        openai_engine(respond_json(200, body)) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=[budget("0.0003 USD")]), tmp_path) as g,
    ):
        assert (await g.chat("m")).status == 200
        refused = await g.chat("m")
        assert refused.status == 429
        assert int(refused.header("retry-after") or 0) > 0
        assert refused.header("x-should-retry") == "false"
        larger = await g.chat("m", max_tokens=4_000)
        assert "more than the whole limit" in larger.json()["error"]["message"]
        assert larger.header("retry-after") is None
        assert len(a.requests) == 1


async def test_a_whole_answer_without_usage_is_charged_for_what_was_said(tmp_path):
    body = answer("word " * 100)
    body.pop("usage")
    async with (
        openai_engine(respond_json(200, body)) as a,
        running_gateway(settings(providers={"p": paid(a)}), tmp_path) as g,
    ):
        assert (await g.chat("m")).status == 200
        (attempt,) = (await g.entry()).attempts
        assert attempt.usage.output_tokens == 250
        assert attempt.estimated


async def test_what_is_spent_is_told_after_a_restart_before_anybody_asks(tmp_path):
    limits = [budget("1 USD", name="house"), {"scope": {"key": "*"}, "money": "2 USD"}]
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        blocks = settings(providers={"p": paid(a)}, limits=limits)
        told = []
        for turn in range(2):
            async with running_gateway(blocks, tmp_path) as g:
                if not turn:
                    assert (await g.chat("m")).status == 200
                    await g.store.flush()
                rows = (await g.get("/admin/api/budget")).json()["rows"]
                told.append([(one["name"], one["of"], one["spent_nano_usd"]) for one in rows])
                of_limits = (await g.get("/admin/api/limits")).json()["rows"]
                assert [one["counters"][0]["used"] for one in of_limits] == [COST, COST]
        assert told[0] == told[1] == [("house", None, COST), ("", "master", COST)]


async def test_a_warning_lets_it_pass_and_is_logged(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(
            settings(providers={"p": paid(a)}, limits=[budget("0.0000001 USD", then="warn")]), tmp_path
        ) as g,
    ):
        assert (await g.chat("m", max_tokens=10)).status == 200
        await g.logged("limit_warning")
        assert (await spent(g))[0] == COST
        await sums_are_right(g)


async def test_thresholds_are_told_once(tmp_path):
    alerts = [{"when": "budget", "at": "50%"}]
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(
            settings(providers={"p": priced_by_answer(a)}, limits=[budget("0.000012 USD")], alerts=alerts),
            tmp_path,
        ) as g,
    ):
        statuses = [(await g.chat("m", max_tokens=2)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        await g.logged("budget_spent", at="100%")
        await g.logged("budget_threshold", at="50%")
        assert await g.count_logged("budget_threshold") == 1


async def test_the_switch_stops_what_costs_money_and_nothing_else(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
        running_gateway(settings(providers={"p": paid(a)}, nodes={"box": node(b)}), tmp_path) as g,
    ):
        assert (await g.post("/admin/api/budget/pause", {"why": "enough"})).status == 200
        refused = await g.chat("p/m")
        assert refused.status == 503
        assert "switched off" in refused.body.decode()
        assert (await g.chat("box/m")).status == 200
        assert (await g.post("/admin/api/budget/resume", {})).status == 200
        assert (await g.chat("p/m")).status == 200


async def test_a_restart_forgets_nothing_that_was_spent(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        blocks = settings(providers={"p": priced_by_answer(a)}, limits=[budget("0.000006 USD")])
        for turn in range(2):
            async with running_gateway(blocks, tmp_path) as g:
                reply = await g.chat("m", max_tokens=2)
                assert reply.status == (200 if turn == 0 else 429), reply.body
                await sums_are_right(g)
        assert len(a.requests) == 1


async def test_without_the_database_own_machines_answer_and_paid_ones_do_not(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
        running_gateway(
            settings(providers={"p": paid(a)}, nodes={"box": node(b)}, limits=[budget("1 USD")]), tmp_path
        ) as g,
    ):
        assert (await g.chat("p/m")).status == 200
        with closing(sqlite3.connect(tmp_path / "state" / "fleetgate.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            own, refused = await asyncio.gather(g.chat("box/m"), g.chat("p/m"))
            assert own.status == 200
            assert refused.status == 503
            assert refused.json()["error"]["code"] == "ledger_unavailable"
            assert refused.header("retry-after") is not None
            other.execute("ROLLBACK")
        await g.store.flush()
        assert (await g.chat("p/m")).status == 200
        assert len(a.requests) == 2
        assert (await spent(g)) == (2 * COST, 0)
        await sums_are_right(g)


@pytest.mark.parametrize("first", [True, False], ids=["asking for a grant", "being made durable"])
async def test_a_caller_who_leaves_while_the_ledger_is_asked_leaves_nothing_behind(tmp_path, first):
    limits = [budget("1 USD"), {"scope": "global", "parallel": 1}, {"scope": {"model": "m"}, "parallel": 1}]
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=limits), tmp_path) as g,
    ):
        if not first:
            assert (await g.chat("m")).status == 200
            await g.store.flush()
        waiting = asyncio.Event()
        for name in ("dispatch", "grants"):
            setattr(g.store, name, _telling(getattr(g.store, name), waiting))
        with closing(sqlite3.connect(tmp_path / "state" / "fleetgate.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with g.asking("m"):
                await waiting.wait()
            entry = await g.entry(1 if first else 2)
            assert (entry.outcome, entry.attempts) == ("caller_gone", ())
            other.execute("ROLLBACK")
        await g.store.flush()
        assert await spent(g) == (0 if first else COST, 0)
        assert (await g.chat("m")).status == 200
        assert len(a.requests) == 2 - first
        await sums_are_right(g)


def _telling(call: Any, event: asyncio.Event) -> Any:
    def told(*given: Any) -> Any:
        event.set()
        return call(*given)

    return told


async def test_the_first_request_does_not_wait_long_for_a_database_that_does_not_answer(tmp_path):
    limits = [budget("1 USD"), {"scope": "global", "requests": 9, "per": "day"}]
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
        running_gateway(
            settings(providers={"p": paid(a)}, nodes={"box": node(b)}, limits=limits), tmp_path
        ) as g,
    ):
        with closing(sqlite3.connect(tmp_path / "state" / "fleetgate.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            own, refused = await asyncio.gather(g.chat("box/m"), g.chat("p/m"))
            assert (own.status, refused.status) == (200, 503)
            assert refused.error["code"] == "ledger_unavailable"
            other.execute("ROLLBACK")
        assert a.requests == []


# --- limits -------------------------------------------------------------------------------------------------


async def test_a_rate_of_a_key_refuses_with_the_time_and_the_usual_headers(tmp_path):
    limit = {"scope": {"key": "*"}, "requests": 2, "per": "minute"}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[limit]), tmp_path) as g,
    ):
        replies = [await g.chat("m") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert [reply.header("x-ratelimit-remaining-requests") for reply in replies[:2]] == ["1", "0"]
        assert replies[0].header("x-ratelimit-limit-requests") == "2"
        refused = replies[2]
        assert 1 <= float(refused.header("retry-after") or 0) <= 31
        assert "2 requests per minute" in refused.json()["error"]["message"]
        assert len(a.requests) == 2


async def test_tokens_are_taken_by_estimate_and_put_right_by_usage(tmp_path):
    limit = {"scope": "global", "tokens": 2_000, "per": "minute"}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[limit]), tmp_path) as g,
    ):
        for _ in range(20):  # each is estimated at more than a thousand, and uses five
            assert (await g.chat("m")).status == 200
        assert (await g.chat("m", max_tokens=100)).header("x-ratelimit-remaining-tokens") is not None


async def test_streams_count_as_running_to_their_end(tmp_path):
    limit = {"scope": "global", "parallel": 1}
    go_on = asyncio.Event()
    begun = head(200, [("content-type", "text/event-stream")])
    rest = b"".join(b"data: " + _json(frame) + b"\n\n" for frame in said("hi")[:-1]) + b"data: [DONE]\n\n"
    async with (
        openai_engine([send(begun), stall(go_on), send(rest)], respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[limit]), tmp_path) as g,
    ):
        first = asyncio.get_running_loop().create_task(g.chat("m", stream=True))
        await g.until(lambda: len(a.requests) == 1)
        refused = await g.chat("m")
        assert refused.status == 429
        assert "at a time" in refused.json()["error"]["message"]
        go_on.set()
        await first
        await g.entry(2)
        assert (await g.chat("m")).status == 200


async def test_a_limit_that_leaves_own_machines_only(tmp_path):
    limit = {"scope": {"role": "r"}, "requests": 1, "per": "day", "then": "local_only"}
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
    ):
        blocks = settings(
            providers={"p": paid(a)},
            nodes={"box": node(b)},
            roles={"r": chain("p/m", "box/m")},
            limits=[limit],
        )
        async with running_gateway(blocks, tmp_path) as g:
            for _ in range(3):
                assert (await g.chat("r")).status == 200
            assert (len(a.requests), len(b.requests)) == (1, 2)


async def test_a_quota_for_each_key_of_a_provider_goes_through_them_and_then_on(tmp_path):
    quota = {"per_key": True, "requests": 2, "per": "day", "reset": "00:00 UTC"}
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
    ):
        written = paid(a, keys=["${KEY}", "${KEY2}"], limits=[quota])
        written.pop("key")
        blocks = settings(
            providers={"p": written}, nodes={"box": node(b)}, roles={"r": chain("p/m", "box/m")}
        )
        async with running_gateway(blocks, tmp_path, {"KEY2": "provider-key-2"}) as g:
            for _ in range(6):
                assert (await g.chat("r")).status == 200
            assert (len(a.requests), len(b.requests)) == (4, 2)
            used = [(await g.entry(turn)).attempts[0].account for turn in range(1, 5)]
            assert sorted(used) == ["p/1", "p/1", "p/2", "p/2"]
            plan = (await g.get("/admin/api/explain?model=r")).json()
            refused = plan["steps"][0]["candidates"][0]
            assert refused["reason"] == "quota", refused
            await sums_are_right(g)
        async with running_gateway(blocks, tmp_path, {"KEY2": "provider-key-2"}) as g:
            assert (await g.chat("r")).status == 200
            assert (len(a.requests), len(b.requests)) == (4, 3)


async def test_limits_of_a_reload_go_on_counting(tmp_path):
    limit = {"scope": "global", "requests": 2, "per": "hour"}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[limit]), tmp_path) as g,
    ):
        assert [(await g.chat("m")).status for _ in range(3)] == [200, 200, 429]
        raised = settings(nodes={"box": node(a)}, limits=[{**limit, "requests": 3}])
        g.config.write_text(raised, encoding="utf-8")
        assert (await g.post("/admin/api/reload", {})).json()["applied"]
        assert [(await g.chat("m")).status for _ in range(2)] == [200, 429]


async def test_a_providers_own_price_is_for_models_that_nobody_else_prices(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        models = [{"name": "m"}, {"name": "n", "price": PRICE}]
        written = {"p": provider(a, models=models, price={"ceiling": "0 USD"})}
        async with running_gateway(settings(providers=written, limits=[budget("1 USD")]), tmp_path) as g:
            assert (await g.chat("m")).status == 200
            assert (await g.chat("n")).status == 200
            unknown, known = (await g.entry(1)).attempts[0], (await g.entry(2)).attempts[0]
            assert unknown.cost is None  # let through, and still nobody knows: it is not zero
            assert (await g.entry(1)).cost_unknown
            assert known.cost == COST
            assert await spent(g) == (COST, 0)


async def test_a_plan_tells_which_limits_stand_against_a_caller(tmp_path):
    limit = {"scope": {"role": "r"}, "requests": 1, "per": "minute"}
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        blocks = settings(nodes={"box": node(a)}, roles={"r": chain("box/m")}, limits=[limit])
        async with running_gateway(blocks, tmp_path) as g:
            before = (await g.get("/admin/api/explain?model=r")).json()["limits"]
            assert [(one["used"], one["passes"]) for one in before] == [(0, True)]
            assert (await g.chat("r")).status == 200
            (after,) = (await g.get("/admin/api/explain?model=r")).json()["limits"]
            assert (after["used"], after["passes"], after["then"]) == (1, False, "refuse")
            assert after["frees_in_s"] > 0
            assert (await g.get("/admin/api/explain?model=box/m")).json()["limits"] == []


async def test_a_quota_that_is_used_up_says_when_it_is_free_and_is_seen(tmp_path):
    quota = {"requests": 1, "per": "day", "per_key": True}
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        blocks = settings(providers={"p": paid(a, limits=[quota])})
        async with running_gateway(blocks, tmp_path) as g:
            assert (await g.chat("m")).status == 200
            refused = await g.chat("m")
            assert refused.status == 429
            assert refused.error["code"] == "quota_exhausted"
            assert int(refused.header("retry-after") or 0) > 30 or refused.header("x-should-retry") is None
            (row,) = (await g.get("/admin/api/providers")).json()["rows"]
            assert [(one["state"], one["why"]) for one in row["accounts"]] == [
                ("exhausted", "1 request per day for each account and provider p")
            ]
