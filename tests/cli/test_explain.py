import json
from pathlib import Path

import pytest
from tests.support.commands import call, run
from tests.support.gateway import answer, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.cli.explain import lines
from fleetgate.http import plan_answers

REFERENCE = Path(__file__).parents[2] / "examples" / "reference.yaml"

# --- of a file alone ----------------------------------------------------------------------------------


def of_file(home, *words):
    return run(home, "explain", *words, "--config", str(REFERENCE))


def test_a_role_of_the_reference_file_is_explained(tmp_path):
    done = of_file(tmp_path, "resilient")
    assert done.exit_code == 0, done.output
    told = done.stdout.splitlines()
    assert told[0] == "resilient: role, chat, at most 3 attempts"
    steps = [line for line in told if line.startswith("step")]
    assert [step.split(": ")[1].split(" (")[0] for step in steps] == [
        "box/stheno-8b",
        "workstation/qwen2.5:3b",
        "openai/gpt-4o-mini",
    ]
    assert "first token 3 s" in steps[0]
    assert "box/gpu1/stheno-8b" in done.stdout
    assert "its key is missing" in done.stdout


def test_a_name_is_explained_for_what_its_models_are_for(tmp_path):
    done = of_file(tmp_path, "embeddings-general")
    assert done.stdout.splitlines()[0] == "embeddings-general: role, embed, at most 3 attempts", done.output
    assert "cannot do" not in done.stdout


def test_what_is_not_discovered_yet_is_shown_as_unknown_and_nothing_is_predicted(tmp_path):
    done = of_file(tmp_path, "chat-deep")
    assert "?  workstation/qwen2.5-coder:32b: nothing is known under this name yet" in done.stdout
    plan = json.loads(of_file(tmp_path, "chat-deep", "--json").stdout)
    assert [step["unknown"] for step in plan["steps"]] == [["workstation/qwen2.5-coder:32b"]]
    plan = json.loads(of_file(tmp_path, "resilient", "--json").stdout)
    rows = [row for step in plan["steps"] for row in step["candidates"]]
    assert {row["forecast"] for row in rows} == {row["score"] for row in rows} == {None}
    assert plan["asks"]["needs"] == ["chat"]


def test_an_alias_of_the_reference_file_as_json(tmp_path):
    plan = json.loads(of_file(tmp_path, "local/chat", "--json").stdout)
    assert (plan["model"], plan["origin"], plan["via"]) == ("local/chat", "alias", ["chat-a"])
    (step,) = plan["steps"]
    assert [row["deployment"] for row in step["candidates"]] == ["box/gpu1/stheno-8b", "box/gpu2/stheno-8b"]


def test_what_a_deployment_cannot_do_is_said(tmp_path):
    assert (
        "it cannot do what the request asks for"
        in of_file(tmp_path, "bge-base", "--capability", "chat").stdout
    )
    done = of_file(tmp_path, "bge-base", "--capability", "embed")
    assert "1. nas/vllm/bge-base" in done.stdout


def test_a_body_is_understood_without_a_gateway(tmp_path):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"input": ["one", "two"], "model": "other"}))
    done = of_file(tmp_path, "bge-base", "--prompt", str(body))
    assert done.stdout.startswith("bge-base: pool, embed, at most 3 attempts\nfor a prompt of at most")
    assert "1. nas/vllm/bge-base" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("resilent",), 1, "nothing in the file is called 'resilent'; did you mean resilient"),
        (("resilient", "--capability", "dream"), 2, "'dream' is not one of"),
        (("resilient", "--does", "chat"), 2, "'chat' is not one of"),
        (("resilient", "--for", "laptop"), 1, "a file knows no keys"),
        (("resilient", "--prompt", "nowhere.txt"), 1, "cannot read nowhere.txt: No such file"),
        (("resilient", "--max-tokens", "0"), 2, "x>=1"),
    ],
)
def test_what_cannot_be_explained(tmp_path, words, code, said):
    done = of_file(tmp_path, *words)
    assert done.exit_code == code
    assert said in done.stderr


def test_what_a_candidate_would_not_take_is_said_without_a_gateway(tmp_path):
    file, body = tmp_path / "c.yaml", tmp_path / "body.json"
    file.write_text(
        "providers: {p: {kind: groq, url: 'http://127.0.0.1:1/v1', rules: [{drop: seed, why: not here}],"
        " models: [{name: m, price: {request: 0 USD}}]}}\n"
    )
    asked = {"messages": [{"role": "user", "content": "hi"}], "seed": 1, "top_k": 3}
    body.write_text(json.dumps(asked))
    done = run(tmp_path, "explain", "p/m", "--config", str(file), "--prompt", str(body))
    assert "     seed left out: not here" in done.stdout
    assert "     top_k left out: it refuses members that it does not know" in done.stdout


def test_a_prompt_that_is_no_text_is_said(tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(b"\xff\xfe\x00")
    done = of_file(tmp_path, "resilient", "--prompt", str(file))
    assert (done.exit_code, "it is no text" in done.stderr) == (1, True)


def test_a_body_that_no_request_could_have_is_said(tmp_path):
    done = run(
        tmp_path, "explain", "resilient", "--config", str(REFERENCE), "--prompt", "-",
        stdin='{"messages": [], "stream": 3}',
    )  # fmt: skip
    assert (done.exit_code, done.stderr) == (1, "fleetgate: `stream` must be true or false\n")


def test_a_file_with_errors_is_not_explained(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("node: {}\n")
    done = run(tmp_path, "explain", "m", "--config", str(file))
    assert done.exit_code == 78
    assert "did you mean nodes?" in done.stderr


# --- of a running gateway -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_prompt_changes_the_forecast(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as one, openai_engine() as far:
        house = settings(
            nodes={"box": node(one)}, providers={"p": provider(far)}, roles={"r": {"use": ["box/m", "p/m"]}}
        )
        async with running_gateway(house, tmp_path) as gateway:
            short = json.loads((await call(gateway, tmp_path, "explain", "r", "--json")).stdout)
            done = await call(
                gateway, tmp_path, "explain", "r", "--prompt", "-", "--json", stdin="word " * 9_000
            )
            long = json.loads(done.stdout)
            plan_answers.Plan.model_validate_json(done.stdout, strict=True)

            def first(plan):
                return plan["steps"][0]["candidates"][0]["forecast"]

            assert first(long)["prefill_s"] > first(short)["prefill_s"]
            assert long["asks"]["prompt_tokens"] > 9_000
            done = await call(gateway, tmp_path, "explain", "r", "--max-tokens", "7", "--json")
            assert json.loads(done.stdout)["asks"]["max_tokens"] == 7
            done = await call(gateway, tmp_path, "explain", "r", "--prompt", "-", stdin="hello")
            told = done.stdout.splitlines()
            assert told[1].startswith("for a prompt of at most about")
            assert told[3].startswith("step 1: ")
            assert any(line.strip().startswith("about ") and "answer" in line for line in told)
            assert any(line.strip().startswith("score 0.") and "quality 0." in line for line in told)
            assert one.requests == far.requests == []


@pytest.mark.asyncio
async def test_what_else_is_needed_leaves_those_out_that_cannot_do_it(tmp_path):
    async with openai_engine() as engine:
        models = [{"name": "m", "does": ["chat"]}, {"name": "sees", "does": ["chat", "vision"]}]
        house = settings(
            nodes={"box": node(engine, models=models)}, roles={"r": {"use": ["box/m", "box/sees"]}}
        )
        async with running_gateway(house, tmp_path) as gateway:
            done = await call(gateway, tmp_path, "explain", "r", "--does", "vision", "--json")
            plan = json.loads(done.stdout)
            found = {row["deployment"]: row["reason"] for row in plan["steps"][0]["candidates"]}
            assert found["box/openai/m"] == "not_capable"
            assert found["box/openai/sees"] != "not_capable"
            assert plan["asks"]["needs"] == ["chat", "vision"]
            reply = await gateway.get("/admin/api/explain?model=r&does=vision,%20tools&max_tokens=5")
            assert reply.json()["asks"] == plan["asks"] | {
                "needs": ["chat", "vision", "tools"], "max_tokens": 5,
            }  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("max_tokens=0", "max_tokens"),
        ("max_tokens=many", "max_tokens"),
        ("does=fly", None),
        ("modl=r", "modl"),
    ],
)
async def test_a_question_that_is_none_is_refused(tmp_path, query, param):
    async with running_gateway(settings(), tmp_path) as gateway:
        reply = await gateway.get(f"/admin/api/explain?model=r&{query}")
        assert (reply.status, reply.error["param"]) == (400, param)


@pytest.mark.asyncio
async def test_a_body_and_a_prompt_are_one_too_many(tmp_path):
    async with openai_engine() as engine, running_gateway(settings(nodes={"b": node(engine)}), tmp_path) as g:
        for form, param in (
            ({"model": "m", "prompt": "x", "body": {}}, "prompt"),
            ({"model": ""}, "model"),
            ({"model": "m", "bdy": {}}, "bdy"),
        ):
            reply = await g.post("/admin/api/explain", form)
            assert (reply.status, reply.error["param"]) == (400, param), form
        assert (await g.post("/admin/api/explain", {"model": "nobody"})).status == 404
        assert (await g.post("/admin/api/explain", {"model": "m", "key": "x"})).status == 404
        assert (await g.post("/admin/api/explain", {"model": "m", "prompt": "x" * 100_000})).status == 200
        assert g.app.gateway.bodies.held == 0


# --- how it reads -------------------------------------------------------------------------------------


def candidate(**members):
    return {
        "deployment": "box/ollama/m",
        "verdict": "load",
        "position": 1,
        "text": "not in memory",
        "forecast": None,
        "score": None,
        **members,
    }


def plan_of(*candidates, policy="best", weights=None, **members):
    step = {
        "pool": "m", "policy": policy, "weights": weights, "because": "", "first_token_s": None,
        "answer_s": None, "on": None, "candidates": candidates, "unknown": [],
    }  # fmt: skip
    head = {"model": "m", "origin": "pool", "via": [], "capability": "chat", "attempts": 3}
    asks = {"prompt_tokens": 400, "max_tokens": 100, "answers": 2, "needs": ["chat", "tools"]}
    return {**head, "asks": asks, "steps": [step], **members}


FORECAST = {
    "wake_s": 0.0, "load_s": 12.34, "wait_s": 0.0, "prefill_s": 0.25, "decode_s": 8.0, "total_s": 20.59,
    "hit": 0.8, "output_tokens": 250.0,
}  # fmt: skip
SCORE = {"score": 0.6543, "speed": 0.32, "quality": 0.9, "cost": 1.0, "usd": 0.0}


def shown(plan, **how):
    return list(lines(plan, on=False, **how))


def test_every_term_is_shown_and_what_takes_no_time_is_left_out():
    weights = {"speed": 40.0, "quality": 35.0, "cost": 25.0}
    told = shown(plan_of(candidate(forecast=FORECAST, score=SCORE), weights=weights))
    assert told[3:] == [
        "  1. box/ollama/m: not in memory",
        "     about 20.6 s: load 12.3 s, prompt 0.25 s (80% of it is held), answer 8.00 s (about 250 tokens)",
        "     score 0.654: speed 0.32 * 40, quality 0.90 * 35, cost 1.00 * 25 (free)",
    ]


def test_a_policy_shows_what_it_looks_at():
    paid = SCORE | {"usd": 0.00125}
    row = candidate(score=paid)
    assert shown(plan_of(row, policy="fastest"))[-1] == "     score 0.654: speed alone"
    cheapest = "     score 0.654: cost alone (about 0.001250 USD)"
    assert shown(plan_of(row, policy="cheapest"))[-1] == cheapest
    assert shown(plan_of(row, policy="least_busy"))[-1] == "  1. box/ollama/m: not in memory"


def test_what_was_understood_of_a_request_is_shown():
    told = shown(plan_of(), plain=False)
    assert told[1] == (
        "for a prompt of at most about 400 tokens, an answer of at most 100, 2 answers; it needs chat, tools"
    )
    assert shown(plan_of())[1] == ""
    limit = {"limit": "5 requests per day", "passes": False, "frees_in_s": 61.0, "then": "refuse"}
    assert shown(plan_of(limits=[limit]))[1] == "over the limit: 5 requests per day; frees in 61 s (refuse)"
