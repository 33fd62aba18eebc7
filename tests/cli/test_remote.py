import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, answer, node, openai_engine, running_gateway, settings
from tests.support.upstreams import ScriptedUpstream, refusing_port, respond, respond_json

from fleetgate.cli.main import fleetgate

REFERENCE = Path(__file__).parents[2] / "examples" / "reference.yaml"


@pytest.fixture
def environ(tmp_path):
    """A home of its own, and nothing of whoever runs the tests."""
    unset = ("FLEETGATE_URL", "FLEETGATE_KEY", "FLEETGATE_MASTER_KEY", "FLEETGATE_CONFIG", "XDG_CONFIG_HOME",
             "XDG_STATE_HOME", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "FORCE_COLOR")  # fmt: skip
    return {**dict.fromkeys(unset), "HOME": str(tmp_path / "home")}


@pytest.fixture
def run(environ):
    return lambda *words, **more: CliRunner().invoke(fleetgate, words, env={**environ, **more})


async def call(run, gateway, *words, key=MASTER_KEY):
    """A command that asks this gateway, in a thread: the gateway lives in this loop."""
    return await asyncio.to_thread(run, *words, "--url", gateway.url, FLEETGATE_KEY=key)


# --- explain without a gateway ----------------------------------------------------------------------


def test_a_role_of_the_reference_file_is_explained(run):
    done = run("explain", "resilient", "--config", str(REFERENCE))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "resilient: role, chat, at most 3 attempts"
    steps = [line for line in lines if line.startswith("step")]
    assert [step.split(": ")[1].split(" (")[0] for step in steps] == [
        "box/stheno-8b",
        "workstation/qwen2.5:3b",
        "openai/gpt-4o-mini",
    ]
    assert "first token 3 s" in steps[0]
    assert "box/gpu1/stheno-8b" in done.stdout
    assert "its key is missing" in done.stdout


def test_what_is_not_discovered_yet_is_shown_as_unknown(run):
    done = run("explain", "chat-deep", "--config", str(REFERENCE))
    assert "?  workstation/qwen2.5-coder:32b: nothing is known under this name yet" in done.stdout
    plan = json.loads(run("explain", "chat-deep", "--config", str(REFERENCE), "--json").stdout)
    assert [step["unknown"] for step in plan["steps"]] == [["workstation/qwen2.5-coder:32b"]]


def test_an_alias_of_the_reference_file_as_json(run):
    done = run("explain", "local/chat", "--config", str(REFERENCE), "--json")
    plan = json.loads(done.stdout)
    assert (plan["model"], plan["origin"], plan["via"]) == ("local/chat", "alias", ["chat-a"])
    (step,) = plan["steps"]
    assert [row["deployment"] for row in step["candidates"]] == ["box/gpu1/stheno-8b", "box/gpu2/stheno-8b"]


def test_what_a_deployment_cannot_do_is_said(run):
    done = run("explain", "bge-base", "--config", str(REFERENCE))
    assert "it cannot do this kind of work" in done.stdout
    done = run("explain", "bge-base", "--capability", "embed", "--config", str(REFERENCE))
    assert "1. nas/vllm/bge-base" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("explain", "resilent"), 1, "nothing in the file is called 'resilent'; did you mean resilient"),
        (("explain", "resilient", "--capability", "dream"), 2, "'dream' is not one of"),
    ],
)
def test_what_cannot_be_explained(run, words, code, said):
    done = run(*words, "--config", str(REFERENCE))
    assert done.exit_code == code
    assert said in done.stderr


def test_a_file_with_errors_is_not_explained(run, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("node: {}\n")
    done = run("explain", "m", "--config", str(file))
    assert done.exit_code == 78
    assert "did you mean nodes?" in done.stderr


# --- a running gateway ------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_models_and_explain_of_a_running_gateway(run, tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as engine:
        house = settings(nodes={"box": node(engine, slots=3)}, aliases={"chat": "box/m"})
        async with running_gateway(house, tmp_path) as gateway:
            done = await call(run, gateway, "models")
            head, row = done.stdout.splitlines()
            assert head.split() == ["DEPLOYMENT", "STATE", "NODE", "CONTEXT", "LOADED", "BUSY", "WHY"]
            assert row.split() == ["box/openai/m", "ready", "awake", "?", "?", "0/3"]
            (shown,) = json.loads((await call(run, gateway, "models", "--json")).stdout)["rows"]
            assert (shown["deployment"], shown["slots"], shown["context"]) == ("box/openai/m", 3, None)

            done = await call(run, gateway, "explain", "chat")
            assert done.stdout.splitlines()[0] == "chat: alias via box/m, chat, at most 3 attempts"
            plan = json.loads((await call(run, gateway, "explain", "chat", "--json")).stdout)
            assert plan["instance"] == gateway.app.gateway.instance
            done = await call(run, gateway, "explain", "chatt")
            assert (done.exit_code, "chat" in done.stderr) == (1, True)

            done = await call(run, gateway, "reload")
            assert (done.exit_code, done.stdout) == (0, "nothing had changed\n")


@pytest.mark.asyncio
async def test_an_engine_that_never_answered_is_named_with_its_reason(run, tmp_path):
    with refusing_port() as port:
        nodes = {"box": {"engines": [{"kind": "ollama", "port": port}]}}
        async with running_gateway(settings(nodes=nodes), tmp_path) as gateway:
            done = await call(run, gateway, "models")
            (silent,) = json.loads((await call(run, gateway, "models", "--json")).stdout)["engines"]
    assert done.exit_code == 0
    assert f"box/ollama at 127.0.0.1:{port}: no models are known (" in done.stderr
    assert (silent["engine"], silent["alive"], silent["models"]) == ("box/ollama", False, 0)
    assert "refused" in silent["why"]


@pytest.mark.asyncio
async def test_the_key_comes_from_the_environment_or_a_file_and_a_wrong_one_is_said(run, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        done = await call(run, gateway, "models", key="wrong")
        assert done.exit_code == 77
        assert "the key is refused" in done.stderr
        file = tmp_path / "key"
        file.write_text(f"{MASTER_KEY}\n")
        done = await call(run, gateway, "models", "--key-file", str(file), key="wrong")
        assert done.exit_code == 0
        assert "No engines are known" in done.stderr
        done = await call(run, gateway, "models", "--key-file", str(tmp_path / "nothing"))
        assert done.exit_code == 77
        done = await asyncio.to_thread(
            run, "models", FLEETGATE_URL=gateway.url, FLEETGATE_MASTER_KEY=MASTER_KEY
        )
        assert done.exit_code == 0


def test_nobody_there(run):
    with refusing_port() as port:
        done = run("models", "--url", f"http://127.0.0.1:{port}")
    assert done.exit_code == 69
    assert "start it with `fleetgate up`, or use --url" in done.stderr


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (respond(200, b"<html>", "text/html"), 69),
        (respond_json(503, {"error": {"message": "stopping"}}), 75),
        (respond_json(429, {"error": {"message": "slow down"}}), 75),
        (respond_json(404, {"error": {"message": "nothing there"}}), 1),
        (respond_json(500, []), 1),
    ],
)
async def test_answers_that_are_none(run, script, code):
    async with ScriptedUpstream(script) as odd:
        done = await asyncio.to_thread(run, "models", "--url", odd.url)
    assert done.exit_code == code
    assert done.stderr.startswith("fleetgate: ")
    assert "Traceback" not in done.output


# --- reload -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_reload_tells_what_changed_and_what_is_wrong(run, tmp_path):
    async with running_gateway(settings(aliases={"a": "x/y"}, nodes={"x": node(1)}), tmp_path) as gateway:
        gateway.config.write_text(settings(aliases={"b": "x/y"}, nodes={"x": node(1)}))
        done = await call(run, gateway, "reload")
        assert done.exit_code == 0
        assert done.stdout == "applied: aliases.a, aliases.b\n"
        gateway.config.write_text("alias: {}\n")
        done = await call(run, gateway, "reload")
        assert done.exit_code == 78
        assert "not applied: the new configuration has 1 error" in done.stderr
        assert "did you mean aliases" in done.stderr or "alias" in done.stderr
        outcome = json.loads((await call(run, gateway, "reload", "--json")).stdout)
        assert outcome["applied"] is False
        assert gateway.app.gateway.names.resolve("b") is not None
