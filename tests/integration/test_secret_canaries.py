"""Secrets and prompts that were given in, looked for in everything that comes out."""

import json
import sqlite3
import subprocess
from contextlib import closing

import pytest
from tests.support.caller import MASTER_KEY
from tests.support.gateway import (
    chain,
    content_frame,
    error,
    node,
    openai_engine,
    provider,
    role_frame,
    running_gateway,
    settings,
)
from tests.support.process import PROGRAMS
from tests.support.upstreams import ScriptedUpstream, respond_json, stream_sse

KEY = "canary-of-a-provider/7f3a+9c"
"""like no key that a pattern would find"""
CALLER = "canary-of-a-caller-4d1b"
PROMPT = "canary in a prompt"
ECHO = f"the key {KEY} is not good for this, nor is Bearer {KEY}"


def script(request):
    """Every way in which an upstream can repeat what it was given."""
    model, streamed = request.json()["model"], request.json().get("stream")
    if model == "in-band":
        return respond_json(200, error(ECHO))
    if model == "breaks" and streamed:
        return stream_sse([role_frame(), content_frame("so far "), error(ECHO)])
    if model.isdigit():
        return respond_json(int(model), error(ECHO, code=ECHO, type=ECHO))
    return respond_json(500, {"detail": ECHO})


MODELS = ("400", "403", "404", "413", "429", "500", "503", "in-band", "breaks", "other", "401")
"""the last one ends the account's use"""
ADMIN = (
    "/admin/api/config",
    "/admin/api/models",
    "/admin/api/status",
    "/readyz?verbose",
    "/health",
    "/v1/models",
    *(f"/admin/api/explain?model=p/{model}" for model in MODELS),
)


def rows(file):
    with closing(sqlite3.connect(file)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return json.dumps(
            [database.execute(f"SELECT * FROM {name}").fetchall() for name in tables], default=repr
        )


@pytest.mark.asyncio
async def test_nothing_that_is_secret_comes_out(tmp_path):
    out = []
    sick = ScriptedUpstream(respond_json(500, error(ECHO)))
    async with openai_engine(route=script) as upstream, sick:
        text = settings(
            nodes={"box": node(sick, key="${KEY}")},
            providers={"p": provider(upstream, *MODELS)},
            roles={"chained": chain("p/other", "p/500")},
        )
        async with running_gateway(text, tmp_path, {"KEY": KEY}) as gateway:
            for model in ("chained", *(f"p/{name}" for name in MODELS)):
                for stream in (False, True):
                    message = [{"role": "user", "content": PROMPT}]
                    reply = await gateway.chat(model, stream=stream, messages=message)
                    assert reply.status >= 400 or b"error" in reply.body
                    out.append(reply.body.decode() + repr(reply.headers))
            asked = len(upstream.requests)
            assert "not good" in gateway.engine("box/openai").why
            for key in (f"Bearer {CALLER}", f"Bearer {MASTER_KEY}x", "Bearer ", CALLER):
                reply = await gateway.chat("p/500", headers={"authorization": key})
                assert reply.status == 401
                out.append(reply.body.decode())
            out += [(await gateway.get(path)).body.decode() for path in ADMIN]
            gateway.config.write_text(text.replace("${KEY}", KEY).replace('"p"', '"p p"'))
            out.append((await gateway.post("/admin/api/reload", {})).body.decode())
        assert {request.header("authorization") for request in upstream.requests} == {f"Bearer {KEY}"}
        assert len(upstream.requests) == asked > len(MODELS)
    out.append(json.dumps(gateway.log.lines))
    out.append(rows(tmp_path / "state" / "fleetgate.db"))
    for place, found in enumerate(out):
        for canary in (KEY, CALLER, PROMPT, MASTER_KEY):
            for spelling in (canary, json.dumps(canary)[1:-1], json.dumps(json.dumps(canary))[2:-2]):
                assert spelling not in found, f"{canary!r} in piece {place}: {found[:3000]}"


@pytest.mark.parametrize(
    "arguments", [("config", "show", "--origin", "--all"), ("config", "show", "--json"), ("check",)]
)
def test_commands_show_no_secret(tmp_path, arguments):
    """Given by reference or written out; what was written out is said to be."""
    (tmp_path / "key").write_text(KEY)
    file = tmp_path / "config.yaml"
    file.write_text(
        settings(
            providers={
                "a": {"kind": "openai", "key": "${file:key}", "models": []},
                "b": {"kind": "openai", "key": KEY},
                "c": {"kind": "openai", "key": "${KEY}", "url": "https://c.example/v1"},
            }
        )
    )
    done = subprocess.run(
        [PROGRAMS / "fleetgate", *arguments, "--config", file],
        capture_output=True,
        text=True,
        env={"KEY": KEY, "HOME": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, bool(done.stdout)) == (0, True)
    assert KEY not in done.stdout + done.stderr


@pytest.mark.asyncio
async def test_a_missing_key_and_a_wrong_one_get_the_same_answer(tmp_path):
    def said(reply):
        body = reply.json()
        body["error"].pop("request_id")
        own = ("x-fleetgate-request-id", "x-request-id", "date")
        return reply.status, body, [pair for pair in reply.headers if pair[0] not in own]

    async with running_gateway(settings(), tmp_path) as gateway:
        answers = []
        for headers in (
            {},
            {"authorization": ""},
            {"authorization": "Bearer "},
            {"authorization": f"Basic {MASTER_KEY}"},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Bearer {MASTER_KEY[:-1]}"},
            {"x-api-key": f"{MASTER_KEY} x"},
        ):
            async with gateway.caller() as caller:
                await caller.ask("GET", "/v1/models", {"host": f"127.0.0.1:{gateway.port}", **headers})
                await caller.head()
                answers.append(said(await caller.rest()))
        assert answers[0][0] == 401
        assert all(answer == answers[0] for answer in answers)
        async with gateway.caller() as caller:
            ours = {"host": f"127.0.0.1:{gateway.port}", "x-api-key": MASTER_KEY}
            await caller.ask("GET", "/v1/models", ours)
            assert (await caller.head()).status == 200
            await caller.rest()
