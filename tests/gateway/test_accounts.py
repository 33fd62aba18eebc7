"""Several keys of one provider, over real sockets: who is asked with which, and what becomes of the rest."""

import datetime as dt
import json

import pytest
from tests.gateway.pairs import good
from tests.support.gateway import (
    answer,
    chain,
    error,
    node,
    openai_engine,
    provider,
    running_gateway,
    settings,
)
from tests.support.upstreams import respond_json

from fleetgate.errors import FailureClass as F
from fleetgate.routing.accounts import Standing, standing

pytestmark = pytest.mark.asyncio

FIRST, SECOND = "first-provider-key-1234", "second-provider-key-5678"
KEYS = {"FIRST": FIRST, "SECOND": SECOND}
WEB = "%a, %d %b %Y %H:%M:%S GMT"
DATE = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)


def two_keys(at, *models, **members):
    block = provider(at, *models, **members)
    del block["key"]
    return {**block, "keys": ["${FIRST}", "${SECOND}"]}


def text_of(a, b=None, *models, **blocks):
    providers = {"p": two_keys(a, *models)}
    if b is not None:
        providers["q"] = provider(b)
        blocks.setdefault("roles", {"both": chain("p/m", "q/m")})
    return settings(providers=providers, **blocks)


def written(at, *keys):
    """With keys as they are: a reload knows the environment of the process alone."""
    return settings(providers={"p": {**two_keys(at), "keys": keys}})


def asked_with(upstream):
    names = {f"Bearer {FIRST}": 1, f"Bearer {SECOND}": 2}
    return [names[request.header("authorization")] for request in upstream.requests]


def stands(gateway, model="m"):
    now = gateway.app.gateway.clock()
    return [standing(one, model, now) for one in gateway.engine("p").accounts]


def refuses(key, status, message="no", headers=()):
    """Answers this key with an error and the other one well."""
    bad = respond_json(status, error(message), headers)
    fine = respond_json(200, answer("fine"))
    return lambda request: bad if request.header("authorization") == f"Bearer {key}" else fine


async def nothing_leaked(gateway, *replies):
    text = json.dumps(gateway.log.lines) + b"".join(reply.body for reply in replies).decode()
    assert FIRST not in text
    assert SECOND not in text


async def test_accounts_take_turns(tmp_path):
    async with good() as a, running_gateway(text_of(a), tmp_path, KEYS) as gateway:
        for _ in range(4):
            assert (await gateway.chat("p/m")).text == "fine"
        assert asked_with(a) == [1, 2, 1, 2]
        entries = [await gateway.entry(number) for number in (1, 2)]
        assert [entry.attempts[0].account for entry in entries] == ["p/1", "p/2"]


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ([("Retry-After", "7")], 6, 7),
        (
            [("Date", DATE.strftime(WEB)), ("Retry-After", (DATE + dt.timedelta(seconds=20)).strftime(WEB))],
            19,
            20,
        ),
        ([("Retry-After", "1000000000")], 290, 300),
    ],
)
async def test_a_limited_account_is_left_alone_and_the_other_is_used_then_the_next_deployment(
    tmp_path, headers, low, high
):
    async with (
        openai_engine(route=refuses(FIRST, 429, "slow down", headers)) as a,
        good("the next") as b,
        running_gateway(text_of(a, b), tmp_path, KEYS) as gateway,
    ):
        reply = await gateway.chat("both")
        assert (reply.text, reply.header("x-fleetgate-attempts")) == ("fine", "2")
        attempts = (await gateway.entry()).attempts
        assert [(one.deployment, one.account, one.outcome) for one in attempts] == [
            ("p/m", "p/1", F.RATE_LIMITED),
            ("p/m", "p/2", "ok"),
        ]
        first, second = gateway.engine("p").accounts
        assert low < first.models_out["m"][0] - gateway.app.gateway.clock() <= high
        assert gateway.app.gateway._budget.retrying == 0
        for _ in range(3):
            assert (await gateway.chat("both")).text == "fine"
        assert asked_with(a) == [1, 2, 2, 2, 2]
        second.models_out["m"] = first.models_out["m"]
        reply = await gateway.chat("both")
        assert (reply.text, reply.header("x-fleetgate-attempts")) == ("the next", "1")
        assert len(a.requests) == 5
        reply = await gateway.chat("p/m")
        assert (reply.status, reply.error["code"]) == (429, "rate_limited")
        assert low <= int(reply.header("retry-after")) <= high + 1
        one = gateway.deployment("p/m")
        assert one.breaker.fails_in_row == one.engine.breaker.fails_in_row == 0


async def test_when_both_are_limited_the_next_deployment_answers_the_same_request(tmp_path):
    async with (
        openai_engine(respond_json(429, error("slow down"), [("Retry-After", "7")])) as a,
        good("the next") as b,
        running_gateway(text_of(a, b), tmp_path, KEYS) as gateway,
    ):
        reply = await gateway.chat("both")
        assert (reply.text, reply.header("x-fleetgate-attempts")) == ("the next", "3")
        assert asked_with(a) == [1, 2]
        assert stands(gateway) == [Standing.LIMITED] * 2


@pytest.mark.parametrize(
    ("status", "failure", "out", "event"),
    [
        (401, F.KEY_INVALID, Standing.BENCHED, "key_refused"),
        (402, F.KEY_UNFUNDED, Standing.BENCHED, "key_refused"),
        (403, F.KEY_FORBIDDEN, Standing.FORBIDDEN, "key_forbidden"),
    ],
)
async def test_a_refused_key_is_benched_and_the_other_is_used(tmp_path, status, failure, out, event):
    script = refuses(FIRST, status, f"Incorrect API key provided: {FIRST}")
    async with (
        openai_engine(route=script) as a,
        running_gateway(text_of(a, None, "m", "n"), tmp_path, KEYS) as gateway,
    ):
        replies = [await gateway.chat("p/m") for _ in range(3)]
        assert [reply.text for reply in replies] == ["fine"] * 3
        assert asked_with(a) == [1, 2, 2, 2]
        assert (await gateway.entry()).attempts[0].outcome == failure
        assert stands(gateway) == [out, Standing.FREE]
        assert (stands(gateway, "n")[0] is Standing.FREE) is (failure is F.KEY_FORBIDDEN)
        assert await gateway.count_logged(event) == 1
        await gateway.logged(event, account="p/1")
        await nothing_leaked(gateway, *replies)


async def test_with_every_key_refused_there_is_one_line_for_each_and_no_key_in_any(tmp_path):
    async with (
        openai_engine(respond_json(401, error(f"bad key {FIRST} or {SECOND}"))) as a,
        running_gateway(text_of(a), tmp_path, KEYS) as gateway,
    ):
        reply = await gateway.chat("p/m")
        assert (reply.status, reply.error["class"]) == (502, F.KEY_INVALID)
        again = await gateway.chat("p/m")
        assert (again.status, again.error["code"]) == (503, "nothing_available")
        assert "p/1: key_invalid, for another 30 min; p/2: key_invalid" in again.error["message"]
        assert asked_with(a) == [1, 2]
        assert await gateway.count_logged("key_refused") == 2
        await nothing_leaked(gateway, reply, again)


async def test_a_fault_of_the_deployment_does_not_move_on_to_its_other_account(tmp_path):
    async with (
        openai_engine(respond_json(500, error("boom"))) as a,
        good("the next") as b,
        running_gateway(text_of(a, b), tmp_path, KEYS) as gateway,
    ):
        reply = await gateway.chat("both")
        assert reply.text == "the next"
        assert stands(gateway) == [Standing.FREE] * 2
        assert gateway.deployment("p/m").breaker.fails_in_row == len(a.requests)


async def test_a_quota_is_out_until_its_reset_and_the_other_account_answers(tmp_path):
    script = refuses(FIRST, 429, "requests per day (RPD) limit reached", [("Retry-After", "7200")])
    async with openai_engine(route=script) as a, running_gateway(text_of(a), tmp_path, KEYS) as gateway:
        assert (await gateway.chat("p/m")).text == "fine"
        line = await gateway.logged("quota_exhausted", account="p/1", model="m")
        assert line["seconds"] == 7200
        assert stands(gateway) == [Standing.EXHAUSTED, Standing.FREE]
        assert not gateway.app.gateway._budget._retries
        assert gateway.deployment("p/m").breaker.fails_in_row == 0


async def test_the_head_of_a_good_answer_says_that_nothing_is_left(tmp_path):
    told = [("X-RateLimit-Remaining-Requests", "0"), ("X-RateLimit-Reset-Requests", "42s")]
    async with (
        openai_engine(respond_json(200, answer("last"), told), respond_json(200, answer("fine"))) as a,
        running_gateway(text_of(a), tmp_path, KEYS) as gateway,
    ):
        assert (await gateway.chat("p/m")).text == "last"
        first = gateway.engine("p").accounts[0]
        assert 41 < first.models_out["m"][0] - gateway.app.gateway.clock() <= 42
        for _ in range(3):
            assert (await gateway.chat("p/m")).text == "fine"
        assert asked_with(a) == [1, 2, 2, 2]


async def test_nothing_is_read_from_the_heads_of_own_machines(tmp_path):
    told = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "42s")]
    async with (
        openai_engine(respond_json(200, answer("mine"), told)) as a,
        running_gateway(settings(nodes={"a": node(a)}), tmp_path) as gateway,
    ):
        for _ in range(2):
            assert (await gateway.chat("a/m")).text == "mine"
        assert gateway.engine("a/openai").account.models_out == {}
        assert (await gateway.entry()).attempts[0].account is None


async def test_a_reload_gives_a_changed_key_another_chance_and_leaves_the_others_as_they_are(tmp_path):
    async with (
        openai_engine(
            respond_json(401, error("no")), respond_json(401, error("no")), respond_json(200, answer("new"))
        ) as a,
        running_gateway(written(a, FIRST, SECOND), tmp_path) as gateway,
    ):
        assert (await gateway.chat("p/m")).status == 502
        gateway.config.write_text(written(a, FIRST, "third-provider-key-9012"))
        told = await gateway.app.reload_now()
        assert told["applied"], told
        assert stands(gateway) == [Standing.BENCHED, Standing.FREE]
        assert (await gateway.chat("p/m")).text == "new"
        assert a.requests[-1].header("authorization") == "Bearer third-provider-key-9012"


async def test_a_benched_key_is_not_tried_again_by_a_restart(tmp_path):
    script = refuses(FIRST, 401)
    async with openai_engine(route=script) as a:
        async with running_gateway(text_of(a), tmp_path, KEYS) as gateway:
            assert (await gateway.chat("p/m")).text == "fine"
        async with running_gateway(text_of(a), tmp_path, KEYS) as gateway:
            assert stands(gateway) == [Standing.BENCHED, Standing.FREE]
            assert (await gateway.chat("p/m")).text == "fine"
            row = (await gateway.get("/admin/api/providers")).json()["rows"][0]
            assert row["accounts"][0]["remembered"]
        assert asked_with(a) == [1, 2, 2]


async def test_what_people_see_of_accounts(tmp_path):
    script = refuses(FIRST, 429, "requests per day (RPD) limit reached", [("Retry-After", "10800")])
    async with openai_engine(route=script) as a:
        quota = {"requests": 100, "per": "day", "reset": "00:00 UTC", "per_key": True}
        block = two_keys(a, limits=[quota])
        block["models"].append({"name": "riddle"})
        async with running_gateway(settings(providers={"p": block}), tmp_path, KEYS) as gateway:
            assert (await gateway.chat("p/m")).text == "fine"
            (row,) = (await gateway.get("/admin/api/providers")).json()["rows"]
            first, second = row["accounts"]
            assert (first["account"], first["state"], first["until"]) == ("p/1", "limited", None)
            (out,) = first["models_out"]
            assert (out["model"], out["state"], out["why"]) == ("m", "exhausted", "quota_exhausted")
            assert 10_700 < out["seconds"] <= 10_800
            assert out["until"].endswith("Z")
            assert (second["account"], second["state"], second["models_out"]) == ("p/2", "free", [])
            shown = ("deployment", "model", "price", "price_known")
            assert [{name: one[name] for name in shown} for one in row["models"]] == [
                {"deployment": "p/m", "model": "m", "price": "free", "price_known": True},
                {"deployment": "p/riddle", "model": "riddle", "price": None, "price_known": False},
            ]
            assert {(one["of"], one["ceiling"]) for one in row["quotas"]} == {("p/1", 100), ("p/2", 100)}
            plan = (await gateway.get("/admin/api/explain?model=p/m")).json()
            assert "p/1: quota_exhausted, for another 3.0 h" in plan["steps"][0]["candidates"][0]["text"]
            shown = await gateway.get("/admin/api/providers")
            assert FIRST.encode() not in shown.body
