"""A running gateway whose file changes under it."""

import asyncio
import json
import os
import signal

import pytest

from tests.support.gateway import (
    answer,
    gateway_process,
    node,
    openai_engine,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import respond_json, stall, stream_sse

pytestmark = pytest.mark.asyncio


def rewrite(file, text):
    """As careful editors do it: a new file takes the old one's place."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, file)  # noqa: PTH105


async def ready(gateway):
    reply = await gateway.get("/readyz?verbose")
    assert reply.status == 200
    return reply.json()


async def test_a_changed_file_is_applied_by_itself_and_an_invalid_one_is_not(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as engine:
        house = {"nodes": {"box": node(engine)}}
        async with running_gateway(settings(**house), tmp_path) as gateway:
            before = (await ready(gateway))["configuration"]
            assert (await gateway.chat("chat")).status == 404

            rewrite(gateway.config, settings(**house, aliases={"chat": "box/m"}))
            line = await gateway.logged("reloaded")
            assert line["changes"] == ["aliases.chat"]
            assert (await gateway.chat("chat")).text == "hi"
            applied = (await ready(gateway))["configuration"]
            assert applied["fingerprint"] != before["fingerprint"]

            rewrite(gateway.config, settings(**house, alias={}))
            line = await gateway.logged("reload_rejected")
            assert "1 error" in line["reason"]
            shown = await ready(gateway)
            assert shown["degraded"] == ["configuration"]
            assert shown["configuration"] == {
                "fingerprint": applied["fingerprint"],
                "rejected": True,
                "held": False,
                "why": "1 finding; see `fleetgate config show`",
            }
            told = (await gateway.get("/admin/api/config")).json()
            assert told["findings"][0]["path"] == "alias"
            assert (await gateway.chat("chat")).text == "hi"

            rewrite(gateway.config, settings(**house, aliases={"chat": "box/m"}))
            await gateway.until(lambda: gateway.app.status.rejected is None)
            assert (await ready(gateway))["degraded"] == []


async def test_a_change_that_drops_too_much_is_held_until_it_is_confirmed(tmp_path):
    """A file cut short in the middle is usually valid."""
    hi = respond_json(200, answer("hi"))
    async with openai_engine(hi) as one, openai_engine(hi) as two, openai_engine(hi) as three:
        whole = {"a": node(one), "b": node(two), "c": node(three)}
        async with running_gateway(settings(nodes=whole), tmp_path) as gateway:
            rewrite(gateway.config, settings(nodes={"a": whole["a"]}))
            line = await gateway.logged("reload_held")
            assert "it drops 2 of 3" in line["reason"]
            shown = await ready(gateway)
            assert shown["configuration"]["held"] is True
            assert shown["configuration"]["why"] == "waits for `fleetgate reload`"
            assert (await gateway.chat("c/m")).status == 200

            outcome = await gateway.post("/admin/api/reload", {})
            assert outcome.status == 200
            assert outcome.json()["changes"] == ["nodes.b", "nodes.c"]
            assert (await gateway.chat("c/m")).status == 404
            assert (await gateway.chat("a/m")).status == 200
            assert (await ready(gateway))["configuration"]["held"] is False


async def test_what_needs_a_restart_is_refused_even_when_confirmed(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        rewrite(
            gateway.config, settings(gateway={"header_read": "3s"}, aliases={"a": "b"}, nodes={"x": node(1)})
        )
        outcome = await gateway.post("/admin/api/reload", {})
        assert outcome.status == 409
        assert outcome.json()["reason"] == "gateway.header_read can only change with a restart"
        assert gateway.app.settings.aliases == {}
        assert (await ready(gateway))["configuration"]["rejected"] is True


async def test_what_is_removed_ends_its_answers_first(tmp_path):
    go_on = asyncio.Event()
    first, *rest = said("one ", "two")[1:]
    script = stream_sse([first, stall(go_on), *rest])
    async with (
        openai_engine(script) as leaving,
        openai_engine(respond_json(200, answer("hi")), models=["n"]) as staying,
    ):
        house = {"old": node(leaving), "x": node(staying)}
        async with running_gateway(settings(nodes=house), tmp_path) as gateway:
            old = gateway.deployment("old/openai/m")
            async with gateway.asking("old/m") as caller:
                await caller.head()
                await caller.until(b"one ")
                house.pop("old")
                gateway.config.write_text(settings(nodes=house))
                assert (await gateway.post("/admin/api/reload", {})).status == 200
                assert "old/openai/m" not in gateway.app.fleet.deployments
                assert old.in_flight == 1
                assert (await gateway.chat("old/m")).status == 404
                assert (await gateway.chat("x/n")).text == "hi"
                go_on.set()
                reply = await caller.rest()
            assert reply.text == "one two"
            assert reply.events[-1] == "[DONE]"
            await gateway.until(lambda: old.in_flight == 0)
            assert old.engine.in_flight == 0


async def test_breakers_and_what_was_learned_survive_a_reload(tmp_path):
    async with openai_engine(respond_json(500, {"error": "boom"})) as engine:
        house = {"nodes": {"box": node(engine)}}
        async with running_gateway(settings(**house), tmp_path) as gateway:
            one = gateway.deployment("box/openai/m")
            while one.breaker.allows(gateway.app.gateway.clock()):
                assert (await gateway.chat("m")).status == 502
            gateway.config.write_text(settings(**house, aliases={"chat": "m"}))
            assert (await gateway.post("/admin/api/reload", {})).status == 200
            assert gateway.deployment("box/openai/m") is one
            plan = (await gateway.get("/admin/api/explain?model=chat")).json()
            assert plan["steps"][0]["candidates"][0]["reason"] == "cooling"


async def test_a_signal_reads_the_file_at_once_and_confirms(tmp_path):
    nodes = {name: node(port, power="manual") for port, name in enumerate("abc", 1)}
    async with gateway_process(settings(nodes=nodes), tmp_path) as gateway:
        (tmp_path / "config.yaml").write_text(settings(nodes={"a": nodes["a"]}))
        gateway.signal(signal.SIGHUP)
        line = await gateway.logged("reloaded")
        assert line["changes"] == ["nodes.b", "nodes.c"]
        assert (await ready(gateway))["nodes"]["known"] == 1
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 0


async def test_without_a_change_nothing_is_said(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        outcome = await gateway.post("/admin/api/reload", {})
        assert json.loads(outcome.body) == {"applied": True, "changes": [], "reason": None, "findings": []}
        assert await gateway.count_logged("reloaded") == 0
