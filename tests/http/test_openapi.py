"""The OpenAPI document: whole, true to the table, and the answers that fuzzing seldom sees fit it too."""

import json

import pytest
import schemathesis
from tests.support.gateway import MASTER_KEY, error, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.http import answers, plan_answers
from fleetgate.http.openapi import AT, document
from fleetgate.http.routes import Owners, every_row
from fleetgate.http.status import Status
from fleetgate.http.table import Access
from fleetgate.store.usage import BY

ROWS = every_row(Owners(Status("1.2.3", 0.0), *[None] * 9))
DOCUMENT = document(ROWS, "1.2.3")
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_row_of_the_admin_api_says_everything_of_itself():
    for row in ROWS:
        if row.template.startswith("/admin/"):
            assert row.gives is not None, row.template
            assert row.query is not None, row.template
            assert (row.method, row.template) in OPERATIONS


def test_openais_routes_are_there_once():
    paths = {path for path in DOCUMENT["paths"] if not path.startswith("/admin/")}
    assert paths == {
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
        *("/v1/models", "/v1/models/{id}"),
        *("/v1/images/generations", "/v1/images/edits", "/v1/rerank", "/v1/moderations"),
        *("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"),
        *("/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    }
    body = OPERATIONS["POST", "/v1/embeddings"]["requestBody"]["content"]["application/json"]["schema"]
    assert (body["required"], body["additionalProperties"]) == (["model"], True)


def test_forms_and_what_is_not_json_are_told():
    heard = OPERATIONS["POST", "/v1/audio/transcriptions"]
    assert set(heard["requestBody"]["content"]) == {"multipart/form-data"}
    assert set(heard["responses"]["200"]["content"]) == {
        "application/json",
        "text/plain",
        "text/event-stream",
    }
    spoken = OPERATIONS["POST", "/v1/audio/speech"]
    assert set(spoken["requestBody"]["content"]) == {"application/json"}
    assert "audio/*" in spoken["responses"]["200"]["content"]


def test_it_is_a_valid_document():
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_reference_leads_somewhere_and_everything_is_used():
    used = set(references(DOCUMENT))
    parts = DOCUMENT["components"]
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in parts[kind]}
    assert used == there


def test_names_of_operations_are_names_and_different():
    names = [one["operationId"] for one in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert "post_keys_id_rotate" in names


def test_bodies_are_closed_and_answers_open():
    schemas = DOCUMENT["components"]["schemas"]
    for row in ROWS:
        if row.request is not None:
            assert schemas[row.request.__name__]["additionalProperties"] is False
        if row.gives is not None and row.gives.__name__ in schemas:
            assert schemas[row.gives.__name__].get("additionalProperties") is not False


def test_a_change_has_no_defaults():
    schemas = DOCUMENT["components"]["schemas"]
    assert "default" not in schemas["UpdateKey"]["properties"]["enabled"]
    assert schemas["CreateKey"]["properties"]["enabled"]["default"] is True


def test_what_may_go_wrong_is_declared():
    found = OPERATIONS["PATCH", "/admin/api/keys/{id}"]["responses"]
    assert set(found) == {"200", "400", "401", "403", "404", "409", "413", "415", "429", "503"}
    assert set(OPERATIONS["GET", "/admin/api/usage"]["responses"]["200"]["content"]) == {
        "application/json",
        "text/csv",
    }


def test_the_document_is_for_those_who_may_look():
    (row,) = (row for row in ROWS if row.template == AT)
    assert (row.access, DOCUMENT["info"]["version"]) == (Access.VIEWER, "1.2.3")


async def ask(gateway, path, form=None):
    headers = {"host": "x", "authorization": f"Bearer {MASTER_KEY}"}
    method, body = ("GET", b"") if form is None else ("POST", json.dumps(form).encode())
    async with gateway.caller() as caller:
        await caller.ask(method, path, headers, body)
        await caller.head()
        return await caller.rest()


def fits(reply, form):
    return form.model_validate_json(reply.body, strict=True)


@pytest.mark.asyncio
async def test_it_is_served_as_it_is_written(tmp_path):
    async with running_gateway(settings(gateway={"auth": "keys"}), tmp_path) as gateway:
        reply = await ask(gateway, AT)
        assert reply.header("content-type") == "application/json"
        served = reply.json()
        assert served == json.loads(json.dumps(document(ROWS, served["info"]["version"])))
        assert (await ask(gateway, AT)).body == reply.body


@pytest.mark.asyncio
async def test_answers_in_trouble_fit_too(tmp_path):
    slow_down = respond_json(429, error("slow down"), [("retry-after", "60")])
    async with openai_engine(slow_down) as engine:
        house = settings(
            gateway={"auth": "keys"},
            providers={"cloud": provider(engine, limits=[{"requests": 9, "per": "day"}])},
            limits=[{"money": "5 USD"}, {"requests": 100, "per": "minute", "scope": {"key": "*"}}],
        )
        async with running_gateway(house, tmp_path) as gateway:
            await gateway.chat("cloud/m")
            found = fits(await ask(gateway, "/admin/api/providers"), answers.Providers)
            (one,) = found.rows
            assert one.accounts[0].models_out
            assert one.quotas
            await ask(gateway, "/admin/api/budget/pause", {"why": "tired"})
            budgets = fits(await ask(gateway, "/admin/api/budget"), answers.Budgets)
            assert budgets.rows
            assert budgets.paid_off is not None
            assert fits(await ask(gateway, "/admin/api/limits"), answers.Limits).rows
            plan = fits(await ask(gateway, "/admin/api/explain?model=cloud/m"), plan_answers.Plan)
            assert plan.steps[0].candidates
            await gateway.store.flush()
            (entry,) = fits(await ask(gateway, "/admin/api/exchanges"), answers.Exchanges).rows
            assert entry.attempts
            assert fits(await ask(gateway, f"/admin/api/usage?by={','.join(BY)}"), answers.Usage).rows
            gateway.config.write_text("nodes: 7")
            reply = await ask(gateway, "/admin/api/reload", {})
            assert reply.status == 409
            assert fits(reply, answers.Reload).findings
            assert fits(await ask(gateway, "/admin/api/config"), answers.Configuration).findings
            assert fits(await ask(gateway, "/admin/api/status"), answers.Summary).configuration.rejected
            assert fits(await ask(gateway, "/admin/api/nothing"), answers.Error).error.code == "not_found"
