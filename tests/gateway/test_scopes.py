"""For whom limits count, on a whole gateway: callers, candidates, pairs; and what they leave to answer."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.gateway import (
    answer,
    chain,
    node,
    openai_engine,
    provider,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import close, head, respond_json, send, stall, stream_sse

from fleetgate.store import ledger
from fleetgate.store.retention import full_check

if TYPE_CHECKING:
    from tests.support.gateway import Gateway

pytestmark = pytest.mark.asyncio

PRICE = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
COST = 3 * 1_000 + 2 * 2_000
"""nano-dollars of the usual answer"""


def paid(at: Any, *models: dict[str, Any]) -> dict[str, Any]:
    return provider(at, models=list(models) or [{"name": "m", "price": PRICE, "context": 4_096}])


async def key_of(gateway: Gateway, alias: str, user: str | None = None, team: str | None = None) -> str:
    """A new key, with its user and team if they are not there yet."""
    if team is not None:
        await gateway.post("/admin/api/teams", {"name": team})
    if user is not None:
        await gateway.post("/admin/api/users", {"name": user, **({"team": team} if team else {})})
    made = await gateway.post("/admin/api/keys", {"alias": alias, **({"user": user} if user else {})})
    return str(made.json()["secret"])


async def status(gateway: Gateway, key: str, model: str = "m") -> int:
    headers = {"authorization": f"Bearer {key}"}
    reply = await gateway.chat(model, headers=headers)
    while reply.status == 503 and reply.error["code"] == "keys_unavailable":  # a busy disk
        reply = await gateway.chat(model, headers=headers)
    assert reply.status in (200, 429), reply.body
    return reply.status


async def sums_are_right(gateway: Gateway) -> None:
    await gateway.store.flush()
    assert await full_check(gateway.store, (ledger.check,)) == []


# --- callers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [
        ("global", [200, 429, 429, 429]),
        ({"key": "ci"}, [200, 429, 200, 200]),
        ({"key": "*"}, [200, 429, 200, 200]),
        ({"user": "anna"}, [200, 429, 429, 200]),
        ({"user": "*"}, [200, 429, 429, 200]),
        ({"team": "x"}, [200, 429, 429, 429]),
        ({"role": "m", "user": "*"}, [200, 429, 429, 200]),
        ({"role": "other", "user": "*"}, [200, 200, 200, 200]),
        ({"key": "ci", "model": "m"}, [200, 429, 200, 200]),
        ({"team": "x", "node": "box"}, [200, 429, 429, 429]),
    ],
    ids=str,
)
@pytest.mark.parametrize("measure", ["requests", "tokens"])
async def test_callers_and_pairs(tmp_path, scope, statuses, measure):
    """Asked in turn: anna with her key ci, twice, and with her other one; then bert of the same team."""
    roles = {"other": chain("box/m")}
    if measure == "tokens":  # five are used of six
        limit = {"scope": scope, "tokens": 6, "per": "day"}
    else:
        limit = {"scope": scope, "requests": 1, "per": "day"}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, roles=roles, limits=[limit]), tmp_path) as g,
    ):
        ci, other = await key_of(g, "ci", "anna", "x"), await key_of(g, "laptop", "anna")
        bert = await key_of(g, "bert", "bert", "x")
        found = [await status(g, key) for key in (ci, ci, other, bert)]
        assert found == statuses
        assert len(a.requests) == statuses.count(200)
        await sums_are_right(g)


@pytest.mark.parametrize(
    "scope", [{"user": "anna"}, {"team": "x"}, {"key": "ci"}, {"key": "ci", "provider": "p"}]
)
async def test_budgets_of_people(tmp_path, scope):
    limit = {"scope": scope, "money": "0.00001 USD"}
    free_input = {"name": "m", "price": {"input": "0 USD/Mtok", "output": "3.5 USD/Mtok"}}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(providers={"p": paid(a, free_input)}, limits=[limit]), tmp_path) as g,
    ):
        ci, stranger = await key_of(g, "ci", "anna", "x"), await key_of(g, "stranger")
        for key, expected in ((ci, 200), (ci, 429), (stranger, 200)):
            headers = {"authorization": f"Bearer {key}"}
            assert (await g.chat("m", max_tokens=2, headers=headers)).status == expected
        await g.store.flush()
        counts = await asyncio.to_thread(g.store.counters)
        assert [(one.spent, one.held) for one in counts] == [(7_000, 0)]
        await sums_are_right(g)


async def test_a_refusal_tells_what_is_left_like_an_answer_does(tmp_path):
    limits = [{"scope": "global", "requests": 1, "tokens": 9_000, "per": "minute"}]
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=limits), tmp_path) as g,
    ):
        assert (await g.chat("m")).header("x-ratelimit-remaining-requests") == "0"
        refused = await g.chat("m")
        assert refused.status == 429
        assert refused.header("x-ratelimit-limit-requests") == "1"
        assert refused.header("x-ratelimit-remaining-requests") == "0"
        assert 0 < float((refused.header("x-ratelimit-reset-requests") or "0s").rstrip("s")) <= 60
        assert 8_900 < int(refused.header("x-ratelimit-remaining-tokens") or 0) < 9_000


# --- candidates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope",
    [
        {"model": "m"},
        {"model": "m*"},
        {"deployment": "box/openai/m"},
        {"node": "box"},
        {"node": "box", "key": "*"},
        {"role": "r", "deployment": "box/*"},
    ],
    ids=str,
)
@pytest.mark.parametrize("measure", [{"requests": 1}, {"tokens": 6}, {"requests": 1, "per": "day"}], ids=str)
async def test_a_candidate_over_its_limit_is_left_out_and_the_next_one_answers(tmp_path, scope, measure):
    async with (
        openai_engine(respond_json(200, answer("first"))) as a,
        openai_engine(respond_json(200, answer("next")), models=("n",)) as b,
    ):
        blocks = settings(
            nodes={"box": node(a), "spare": node(b)},
            roles={"r": chain("box/m", "spare/n")},
            limits=[{"scope": scope, **measure}],
        )
        async with running_gateway(blocks, tmp_path) as g:
            for _ in range(3):
                assert (await g.chat("r")).status == 200
            assert (len(a.requests), len(b.requests)) == (1, 2)
            alone = await g.chat("box/m")  # and where there is no next one, it says why
            if "role" not in scope:
                assert (alone.status, alone.error["code"]) == (429, "limit_reached")
            await sums_are_right(g)


@pytest.mark.parametrize("scope", [{"model": "m"}, {"deployment": "box/openai/m"}, {"node": "box"}], ids=str)
async def test_a_place_at_a_candidate_is_taken_to_the_end_of_its_stream(tmp_path, scope):
    go_on = asyncio.Event()
    frames = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in said("hi")[:-1])
    slow = [
        send(head(200, [("content-type", "text/event-stream")])),
        stall(go_on),
        send(frames + b"data: [DONE]\n\n"),
        close(),
    ]
    async with (
        openai_engine(slow, stream_sse(said("first"))) as a,
        openai_engine(respond_json(200, answer("next")), models=("n",)) as b,
    ):
        blocks = settings(
            nodes={"box": node(a), "spare": node(b)},
            roles={"r": chain("box/m", "spare/n")},
            limits=[{"scope": scope, "parallel": 1}],
        )
        async with running_gateway(blocks, tmp_path) as g:
            first = asyncio.get_running_loop().create_task(g.chat("r", stream=True))
            await a.wait_for_requests(1)
            assert (await g.chat("r")).status == 200
            assert len(b.requests) == 1
            go_on.set()
            assert (await first).status == 200
            await g.entry(2)
            assert (await g.chat("r", stream=True)).status == 200
            assert (len(a.requests), len(b.requests)) == (2, 1)


async def test_a_place_comes_back_from_an_attempt_that_fails_and_from_a_caller_who_leaves(tmp_path):
    async with (
        openai_engine(
            respond_json(500, {"error": {"message": "no"}}), [stall()], respond_json(200, answer("hi"))
        ) as a,
        running_gateway(
            settings(
                nodes={"box": node(a)},
                limits=[{"scope": {"node": "box"}, "parallel": 1}, {"scope": "global", "parallel": 1}],
                attempts=1,
            ),
            tmp_path,
        ) as g,
    ):
        assert (await g.chat("m")).status == 502
        async with g.asking("m"):
            await a.wait_for_requests(2)
        await g.entry(2)
        assert (await g.chat("m")).status == 200


async def test_a_limit_of_a_model_that_leaves_own_machines_only_lets_those_go_on(tmp_path):
    limit = {"scope": {"model": "m"}, "requests": 1, "then": "local_only"}
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
            for _ in range(4):
                assert (await g.chat("r")).status == 200
            assert (len(a.requests), len(b.requests)) == (1, 3)
            assert (await g.chat("p/m")).status == 429


@pytest.mark.parametrize("scope", ["global", {"model": "m"}], ids=["of callers", "of candidates"])
async def test_a_limit_that_only_warns_lets_it_pass(tmp_path, scope):
    limit = {"scope": scope, "requests": 1, "then": "warn"}
    async with (
        openai_engine(respond_json(200, answer("own"))) as a,
        running_gateway(settings(nodes={"box": node(a)}, limits=[limit]), tmp_path) as g,
    ):
        assert [(await g.chat("m")).status for _ in range(3)] == [200, 200, 200]
        await g.logged("limit_warning")
        assert await g.count_logged("limit_warning") == 1
        # What passes it in spite of it makes no debt: it is whole again within its minute.
        (level,) = g.app.gateway.budgets.levels()
        assert (level["used"], level["frees_in_s"] <= 60) == (1, True)


async def test_a_budget_that_is_taken_away_and_made_again_has_forgotten_nothing(tmp_path):
    budget = {"scope": "global", "money": "0.00001 USD"}
    free_input = {"name": "m", "price": {"input": "0 USD/Mtok", "output": "3.5 USD/Mtok"}}
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(providers={"p": paid(a, free_input)}), tmp_path) as g,
    ):
        made = (await g.post("/admin/api/limits", budget)).json()
        (name,) = made["ids"] if "ids" in made else [row["id"] for row in made["rows"]]
        assert (await g.chat("m", max_tokens=2)).status == 200
        assert (await g.chat("m", max_tokens=2)).status == 429
        assert (await g.request("DELETE", f"/admin/api/limits/{name}")).status == 200
        assert (await g.chat("m", max_tokens=2)).status == 200
        assert (await g.post("/admin/api/limits", budget)).status == 201
        assert (await g.chat("m", max_tokens=2)).status == 429
        assert len(a.requests) == 2
        await sums_are_right(g)


# --- what is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "given", "cost"),
    [
        (
            "/v1/embeddings",
            {"input": ["x", "y"]},
            {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 8}},
            8 * 1_000,
        ),
        (
            "/v1/completions",
            {"prompt": ["x", "y"], "max_tokens": 9},
            {
                "choices": [{"index": at, "text": "hi", "finish_reason": "stop"} for at in range(2)],
                "usage": {"prompt_tokens": 4, "completion_tokens": 6},
            },
            4 * 1_000 + 6 * 2_000,
        ),
    ],
    ids=["embeddings", "completions"],
)
async def test_embeddings_and_completions_are_held_and_priced(tmp_path, path, body, given, cost):
    model = {"name": "m", "price": PRICE, "does": ["embed" if "embed" in path else "complete"]}
    async with (
        openai_engine(respond_json(200, given)) as a,
        running_gateway(
            settings(
                providers={"p": paid(a, model)},
                limits=[{"scope": "global", "money": "1 USD"}, {"scope": "global", "tokens": 10_000}],
            ),
            tmp_path,
        ) as g,
    ):
        reply = await g.post(path, {"model": "m", **body})
        assert reply.status == 200, reply.body
        assert reply.header("x-ratelimit-limit-tokens") == "10000"
        entry = await g.entry()
        assert (entry.cost, entry.attempts[0].estimated) == (cost, False)
        assert entry.settlements[0].excess == 0
        await g.store.flush()
        counts = await asyncio.to_thread(g.store.counters)
        assert [(one.spent, one.held) for one in counts] == [(cost, 0)]
        await sums_are_right(g)


# --- and what was used, in sums ---------------------------------------------------------------------------


async def test_the_report_says_by_everything_what_was_used_paid_and_drawn(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("paid"))) as a,
        openai_engine(respond_json(200, answer("own"))) as b,
    ):
        blocks = settings(
            providers={"p": paid(a)},
            nodes={"box": {**node(b), "energy": {"busy": "900kW"}}},
            energy={"price": "0.30 USD/kWh"},
        )
        async with running_gateway(blocks, tmp_path) as g:
            anna, bert = await key_of(g, "a", "anna", "x"), await key_of(g, "b", "bert", "x")
            for key, model in ((anna, "p/m"), (anna, "box/m"), (bert, "p/m")):
                assert await status(g, key, model) == 200
            own = (await g.entry(2)).attempts[0]
            assert own.energy > 0
            assert own.energy_cost > 0
            await g.store.flush()

            async def sums(by: str) -> dict[str, tuple[float, ...]]:
                rows = (await g.get(f"/admin/api/usage?by={by}")).json()["rows"]
                names = ("requests", "input_tokens", "output_tokens", "cost_nano_usd", "energy_wh")
                return {row[by]: tuple(row[name] for name in names) for row in rows}

            drawn = own.energy / 1e6
            two_paid, one_own = (2, 6, 4, 2 * COST, 0), (1, 3, 2, 0, drawn)
            everything = (3, 9, 6, 2 * COST, drawn)
            assert await sums("user") == {"anna": (2, 6, 4, COST, drawn), "bert": (1, 3, 2, COST, 0)}
            assert await sums("team") == {"x": everything}
            assert await sums("node") == {"": two_paid, "box": one_own}
            assert await sums("provider") == {"p": two_paid, "": one_own}
            assert await sums("account") == {"p/1": two_paid, "": one_own}
            assert list((await sums("day")).values()) == [everything]
            await sums_are_right(g)
