"""The llama.cpp adapter, over answers that a real server gave (their build: `fixtures/llamacpp/README.md`).

The router's list and the server of older builds are built from documentation; the tests say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.documented import documented, probed

from fleetgate.domain import Capability
from fleetgate.engines.llamacpp import HEALTH, METRICS, MODELS, PROPS, ROUTER, SLOTS, LlamaCpp
from fleetgate.engines.port import Ask, Load, Reading, Reply, Resident
from fleetgate.errors import FailureClass as F

FIXTURES = Path(__file__).parent / "fixtures" / "llamacpp"
KIND = LlamaCpp()


def recorded(name: str) -> Reply:
    kept = json.loads((FIXTURES / f"{name}.json").read_text())
    return Reply(kept["status"], kept["headers"], kept["body"].encode())


def made(body: Any, status: int = 200) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())


def test_healthy_and_loading() -> None:
    healthy = KIND.read(HEALTH, recorded("health"))
    assert (healthy.alive, healthy.loading) == (True, False)
    for ask, name in ((HEALTH, "loading"), (MODELS, "loading_models")):
        loading = KIND.read(ask, recorded(name))
        assert (loading.alive, loading.loading, loading.failure) == (True, True, None)


def test_models() -> None:
    found = KIND.read(MODELS, recorded("models"))
    assert found.models is not None
    (model,) = found.models
    assert (model.id, model.name, model.aliases) == ("fleetgate-demo", "fleetgate-demo", ())
    assert (model.context, model.quantisation) == (4_096, "F16")
    assert model.params == pytest.approx(0.000_21, rel=0.1)
    assert found.resident is not None
    assert [one.id for one in found.resident] == ["fleetgate-demo"]


def test_meta_may_be_null_and_training_size_is_not_the_served_one() -> None:
    """From documentation: builds of 2025 have no `n_ctx` there, and no `meta` at all while loading."""
    body = {"object": "list", "data": [
        {"id": "/models/Qwen2.5-7B-Instruct-Q4_K_M.gguf", "object": "model",
         "meta": {"n_ctx_train": 131_072, "n_params": 7_615_616_512, "size": 4_677_120_000}},
        {"id": "bare", "meta": None},
    ]}  # fmt: skip
    models = KIND.read(MODELS, made(body)).models
    assert models is not None
    assert (models[0].name, models[0].aliases) == (
        "Qwen2.5-7B-Instruct-Q4_K_M",
        ("/models/Qwen2.5-7B-Instruct-Q4_K_M.gguf",),
    )
    assert (models[0].context, models[1].context) == (None, None)
    assert models[0].params == pytest.approx(7.6156, rel=1e-3)


def test_props() -> None:
    found = KIND.read(PROPS, recorded("props"))
    assert (found.slots_total, found.context, found.sleeping) == (2, 4_096, False)
    assert found.version is None, "a build without a number says nothing"
    assert KIND.read(PROPS, recorded("props_sleeping")).sleeping is True
    assert KIND.read(PROPS, made({"total_slots": 4, "build_info": "b6789-abc"})).version == "b6789-abc"


@pytest.mark.parametrize(("name", "busy"), [("slots", 0), ("slots_one_busy", 1), ("slots_all_busy", 2)])
def test_slots(name: str, busy: int) -> None:
    found = KIND.read(SLOTS, recorded(name))
    assert (found.slots_total, found.slots_busy, found.context) == (2, busy, 4_096)


def test_metrics() -> None:
    idle, busy = KIND.read(METRICS, recorded("metrics")), KIND.read(METRICS, recorded("metrics_busy"))
    assert (idle.slots_busy, idle.queue) == (0, 0)
    assert (busy.slots_busy, busy.queue) == (2, 0)
    other = KIND.read(METRICS, Reply(200, {}, b"something_else 3\n"))
    assert (other.slots_busy, other.queue) == (None, None), "unknown, never idle"


def test_absent_signals_are_unknown_and_no_fault_of_the_engine() -> None:
    for ask, name in ((SLOTS, "slots_absent"), (METRICS, "metrics_absent")):
        found = KIND.read(ask, recorded(name))
        assert (found.alive, found.failure, found.slots_busy) == (None, F.ABSENT_FEATURE, None)


def test_a_wrong_key_is_alive() -> None:
    found = KIND.read(MODELS, recorded("models_without_key"))
    assert (found.alive, found.failure) == (True, F.KEY_INVALID)
    assert KIND.read(HEALTH, recorded("health_without_key")).alive


def test_only_slots_disturb_its_sleep() -> None:
    """Measured: asking for `/slots` woke a sleeping server and kept an idle one awake; the others did not."""
    assert {ask.path for ask in (*KIND.pulse(), *KIND.catalogue()) if ask.stirs} == {"/slots"}


def test_router() -> None:
    """From documentation, not recorded."""
    body = {"data": [
        {"id": "a", "status": {"value": "loaded", "args": []}},
        {"id": "b", "status": {"value": "unloaded", "args": []}},
        {"id": "c", "status": {"value": "unloaded", "failed": True, "exit_code": 1}},
        {"id": "d", "status": {"value": "sleeping"}},
    ]}  # fmt: skip
    found = KIND.read(MODELS, made(body))
    assert found.models is not None
    assert found.resident is not None
    assert [model.id for model in found.models] == ["a", "b", "c", "d"]
    assert [one.id for one in found.resident] == ["a", "d"], "the next request wakes it, and no call does"
    assert found.loads == (Load("c", failed="its process ended with code 1"),)


@pytest.mark.parametrize("ask", [HEALTH, MODELS, PROPS, SLOTS, METRICS])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"null", b'{"data":[1]}', b'[{"id":0}]'])
def test_strange_answers_never_raise(ask: Ask, body: bytes) -> None:
    found = KIND.read(ask, Reply(200, {}, body))
    assert found.slots_busy is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loading_chat", F.LOADING),
        ("slots_none_free", F.FULL),
        ("error_context", F.CONTEXT_TOO_LONG),
        ("error_context_stream", F.CONTEXT_TOO_LONG),
        ("error_context_completion", F.CONTEXT_TOO_LONG),
        ("error_context_embeddings", F.CONTEXT_TOO_LONG),
        ("error_no_messages", F.BAD_REQUEST),
        ("error_malformed", F.BAD_REQUEST),
        ("error_wrong_type", F.BAD_REQUEST),
        ("error_no_key", F.KEY_INVALID),
        ("error_not_found", F.BAD_REQUEST),
        ("error_no_embeddings", F.BAD_REQUEST),
        # 500 for what the caller got wrong: as a fault of the server it would open the breaker.
        ("error_bad_role", F.BAD_REQUEST),
        ("error_image", F.BAD_REQUEST),
    ],
)
def test_classify(name: str, expected: F) -> None:
    reply = recorded(name)
    assert KIND.classify(reply.status, reply.headers, reply.body) is expected


def test_a_real_fault_stays_one() -> None:
    body = {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}
    assert KIND.classify(500, {}, made(body).body) is F.SERVER_ERROR


def test_another_models_name_is_answered_by_the_one_it_has() -> None:
    """llama.cpp ignores `model`: the gateway has to check names itself."""
    reply = recorded("chat_other_model")
    assert reply.status == 200
    assert json.loads(reply.body)["model"] == "fleetgate-demo"


# -- the router, from its source and documentation ----------------------------------------------------


def router() -> dict[str, Reading]:
    answers = documented("llamacpp_router")
    return probed(KIND, {**answers, "/v1/models": answers["/models"]})


def test_what_a_router_has_loaded() -> None:
    found = router()["/models"]
    assert found.resident == (
        Resident("qwen3-8b", context=8_192, slots=4, size=5_020_000_000),
        Resident("dozing", context=4_096),
    )
    assert found.models is None, "the list belongs to the catalogue"
    assert found.loadable is True


def test_a_load_under_way_and_a_crashed_one_are_told() -> None:
    """Trap: `failed` and its exit code are all that is left of a model that crashed."""
    assert router()["/models"].loads == (
        Load("gemma-3-4b", progress=0.42),
        Load("broken", failed="its process ended with code 1"),
    )


def test_progress_that_cannot_be_one_is_none() -> None:
    for said in (None, 7, "half", {"value": 2}, {}, True):
        body = {"data": [{"id": "a", "status": {"value": "loading", "progress": said}}]}
        assert KIND.read(ROUTER, made(body)).loads == (Load("a"),)
    body = {"data": [{"id": "a", "status": {"value": "loading", "progress": {"value": 0.5}}}]}
    assert KIND.read(ROUTER, made(body)).loads == (Load("a", progress=0.5),)


def test_a_router_says_how_many_it_keeps_and_nothing_of_one_model() -> None:
    """Trap: it throws out by count, not by size; its properties hold a context of 0 for no model."""
    props = router()["/props"]
    assert (props.max_loaded, props.version, props.loadable) == (4, "b11549-abcdef", True)
    assert (props.context, props.slots_total, props.sleeping) == (None, None, None)
    unlimited = made({"role": "router", "max_instances": 0})
    assert KIND.read(PROPS, unlimited).max_loaded is None


def test_the_list_of_a_router_is_the_same_whatever_is_loaded() -> None:
    """Else every load and unload would be a new catalogue."""
    models = router()["/v1/models"].models
    assert models is not None
    assert [model.id for model in models] == ["qwen3-8b", "gemma-3-4b", "mistral-24b", "broken", "dozing"]
    assert models[0].aliases == ("q",)
    assert {model.context for model in models} == {None}
    answers = documented("llamacpp_router")
    text = answers["/models"].body.replace(b'"loaded"', b'"unloaded"')
    assert KIND.read(MODELS, Reply(200, {}, text)).models == models


def test_no_ask_names_a_model_of_a_router() -> None:
    """Trap: whatever names one there loads it, unless it says `autoload=false`."""
    assert not [ask for ask in (*KIND.pulse(), *KIND.catalogue()) if "model=" in ask.path or ask.body]
    answers = documented("llamacpp_router")
    for ask in (SLOTS, METRICS):
        assert KIND.read(ask, answers[ask.path]).failure is F.ABSENT_FEATURE


def test_a_server_of_one_model_is_asked_once_whether_it_is_a_router() -> None:
    read = KIND.read(ROUTER, recorded("models"))
    assert read.failure is F.ABSENT_FEATURE
    assert KIND.read(MODELS, recorded("models")).loadable is False
    assert KIND.read(PROPS, recorded("props")).loadable is False


def test_load_and_unload_of_a_router() -> None:
    load, unload = KIND.load("a", 60.0), KIND.unload("a", None)
    assert load is not None
    assert unload is not None
    assert (load.method, load.path, json.loads(load.body)) == ("POST", "/models/load", {"model": "a"})
    assert (unload.method, unload.path, json.loads(unload.body)) == ("POST", "/models/unload", {"model": "a"})
    for done in ("model is already running", "model is not running", "model is not loaded"):
        said = {"error": {"code": 400, "message": done, "type": "invalid_request_error"}}
        assert KIND.refusal(made(said, 400)) == "", "it is as it should be"
    missing = {"error": {"code": 404, "message": "model is not found", "type": "not_found_error"}}
    assert KIND.refusal(made(missing, 404)) == "model is not found"


@pytest.mark.parametrize("message", ["model is not loaded", "model name=a is not running"])
def test_a_model_that_was_thrown_out_meanwhile_is_no_fault_of_the_caller(message: str) -> None:
    said = {"error": {"code": 400, "message": message, "type": "invalid_request_error"}}
    assert KIND.classify(400, {}, made(said).body) is F.LOADING


def test_a_blind_model_is_not_shown_pictures() -> None:
    (model,) = KIND.read(MODELS, recorded("models")).models or ()
    assert model.does is not None
    assert Capability.VISION not in model.does
    assert Capability.TOOLS in model.does
    assert Capability.TRANSCRIBE not in model.does


@pytest.mark.parametrize(
    ("inputs", "lacks"),
    [
        (["text", "image"], {Capability.TRANSCRIBE}),
        (["text", "audio"], {Capability.VISION}),
        (["text", "image", "audio"], None),
        (None, None),
    ],
)
def test_what_a_model_takes_in_decides_what_it_is_given(
    inputs: list[str] | None, lacks: set[Capability] | None
) -> None:
    row = {"id": "a", **({"architecture": {"input_modalities": inputs}} if inputs else {})}
    (model,) = KIND.read(MODELS, made({"data": [row]})).models or ()
    assert model.does == (None if lacks is None else KIND.serves - lacks)
