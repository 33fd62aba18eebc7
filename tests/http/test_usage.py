"""What was used, over HTTP, on a whole gateway."""

import csv
import io
import json

import pytest
from tests.support.gateway import MASTER_KEY, answer, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.http.usage import as_csv

pytestmark = pytest.mark.asyncio
USAGE, ENTRIES = "/admin/api/usage", "/admin/api/exchanges"


async def ask(gateway, path, key=MASTER_KEY, method="GET", form=None):
    headers = {"host": "x", "authorization": f"Bearer {key}", "content-type": "application/json"}
    body = json.dumps(form).encode() if form is not None else b""
    async with gateway.caller() as caller:
        await caller.ask(method, path, headers, body)
        await caller.head()
        return await caller.rest()


async def rows(gateway, query=""):
    reply = await ask(gateway, f"{USAGE}?{query}")
    assert reply.status == 200, reply.body
    return reply.json()["rows"]


async def test_what_was_asked_is_what_was_used(tmp_path):
    """From the request to the report: who asked, for what, where it was answered."""
    engine = openai_engine(respond_json(200, answer("hi")))
    async with engine as one, running_gateway(settings(nodes={"box": node(one)}), tmp_path) as gateway:
        made = await ask(gateway, "/admin/api/keys", method="POST", form={"alias": "laptop"})
        key = made.json()["secret"]
        chat = {"model": "m", "messages": []}
        for _ in range(3):
            assert (await ask(gateway, "/v1/chat/completions", key, "POST", chat)).status == 200
        await ask(gateway, "/v1/chat/completions", MASTER_KEY, "POST", {**chat, "model": "nothing"})
        await gateway.entry(4)
        await gateway.store.flush()
        (row,) = await rows(gateway)
        assert list(row)[:4] == ["key", "alias", "model", "deployment"]
        assert (row["alias"], row["model"], row["deployment"]) == ("laptop", "m", "box/openai/m")
        assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (3, 9, 6)
        assert (row["cost_nano_usd"], row["cost_unknown_requests"]) == (0, 0)
        by_key = {row["alias"]: row["requests"] for row in await rows(gateway, "by=key")}
        assert by_key == {"laptop": 3, "": 1}
        assert [row["requests"] for row in await rows(gateway, "by=&key=laptop&since=1d")] == [3]
        document = (await ask(gateway, f"{USAGE}?by=day&model=m")).json()
        assert document["total"]["requests"] == 3
        assert document["currency"] == {"code": "USD", "rate": 10**9}
        assert (document["by"], document["zone"], document["more"]) == (["day"], "UTC", False)
        assert document["since"] < document["until"]

        (first, *others) = (await ask(gateway, f"{ENTRIES}?limit=2")).json()["rows"]
        assert (first["outcome"], first["attempts"], first["deployment"]) == ("model_not_found", [], None)
        assert others[0]["attempts"][0]["deployment"] == "box/openai/m"
        assert (others[0]["input_tokens"], others[0]["status"]) == (3, 200)
        older = (await ask(gateway, f"{ENTRIES}?below={others[0]['request_id']}")).json()["rows"]
        assert len(older) == 2
        assert not {row["request_id"] for row in older} & {first["request_id"], others[0]["request_id"]}


def paid(number, at):
    attempt = Attempt(
        "cloud/big", "ok", 0.0, 1.0, account="cloud/1", usage=Usage(10, 5, 2), cost=2_160_000_000, price="1/2"
    )
    return Entry(
        f"r{number}",
        at,
        "=cmd|' /C calc'!A0",
        "/v1/chat/completions",
        "big",
        200,
        "ok",
        1.0,
        deployment="cloud/big",
        attempts=(attempt,),
        user="@anna",
    )


async def test_a_spreadsheet_gets_no_formula(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        gateway.store.post(paid(1, gateway.app.gateway.wall()))
        await gateway.store.flush()
        reply = await ask(gateway, f"{USAGE}?by=key,user&format=csv")
        assert reply.header("content-type") == "text/csv; charset=utf-8"
        assert (reply.header("x-fleetgate-more"), reply.status) == ("false", 200)
        head, row = csv.reader(io.StringIO(reply.body.decode()))
        assert head[:4] == ["key", "alias", "user", "requests"]
        assert row[:4] == ["'=cmd|' /C calc'!A0", "", "'@anna", "1"]
        assert dict(zip(head, row, strict=True))["cost_nano_usd"] == "2160000000"


@pytest.mark.parametrize("begin", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
async def test_every_begin_of_a_formula_is_made_text(begin):
    (row,) = list(csv.reader(io.StringIO(as_csv(["a", "b"], [{"a": begin, "b": -1}]), newline="")))[1:]
    assert row == [f"'{begin}", "-1"]


async def test_the_currency_of_the_house_is_told(tmp_path):
    house = settings(currency={"code": "EUR", "rate": "1.08 USD"})
    async with running_gateway(house, tmp_path) as gateway:
        document = (await ask(gateway, USAGE)).json()
        assert document["currency"] == {"code": "EUR", "rate": 1_080_000_000}


QUESTIONS = (
    ("by=colour", "nothing is summed by 'colour'"),
    ("by=key,", None),
    ("since=soon", "`since` is no time"),
    ("since=2026-13-01", "`since` is no time"),
    ("until=2026-02-30", "`until` is no time"),
    ("since=9e99d", "`since` is no time"),
    ("since=1d&until=2d", "not before `until`"),
    ("zone=Mars/Olympus", "no time zone"),
    ("zone=../../etc/passwd", "no time zone"),
    ("limit=0", "`limit` must be a number"),
    ("limit=many", "`limit` must be a number"),
    ("limit=999999", None),
    ("format=xml", "`format` is json or csv"),
    ("modell=x", "no parameter 'modell'"),
    ("since=0001-01-01", None),
    ("until=9999-12-31", None),
    ("since=2026-11&zone=Europe/Berlin&by=day,month,hour,cache", None),
    ("since=2026-11-01T08:00:00%2B01:00", None),
    ("since=9999d", None),
)
"""and what is said against them"""


async def test_what_is_misunderstood_is_refused(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        for query, said in QUESTIONS:
            reply = await ask(gateway, f"{USAGE}?{query}")
            if said is None:
                assert (query, reply.status, reply.json()["rows"]) == (query, 200, [])
            else:
                assert (query, reply.status, reply.error["code"]) == (query, 400, "malformed")
                assert said in reply.error["message"]
        for query in ("limit=x", "below=1&above=2", "limit=-1"):
            assert (await ask(gateway, f"{ENTRIES}?{query}")).status == 400
        assert (await ask(gateway, ENTRIES)).json() == {"rows": []}


async def test_an_entry_tells_everything_of_its_attempts(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        gateway.store.post(paid(1, 1_790_000_000.25))
        await gateway.store.flush()
        (row,) = (await ask(gateway, ENTRIES)).json()["rows"]
        assert (row["at"], row["cost_nano_usd"], row["cost_unknown"]) == (
            "2026-09-21T14:13:20.250Z",
            2_160_000_000,
            False,
        )
        (attempt,) = row["attempts"]
        assert (attempt["account"], attempt["price"], attempt["cached_tokens"]) == ("cloud/1", "1/2", 2)


async def test_who_asks_models_does_not_see_what_others_use(tmp_path):
    async with openai_engine() as one:
        house = settings(providers={"cloud": provider(one)})
        async with running_gateway(house, tmp_path) as gateway:
            made = await ask(gateway, "/admin/api/keys", method="POST", form={"alias": "k"})
            for path in (USAGE, ENTRIES):
                assert (await ask(gateway, path, made.json()["secret"])).status == 403
