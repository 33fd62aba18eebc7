"""Documents in order, for callers of both forms and with Cohere behind the gateway."""

import pytest
from tests.support.gateway import error, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio

ASK = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 2, "return_documents": True}
COHERE = {
    "id": "x",
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
}
JINA = {
    "model": "m",
    "results": [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


def cohere(upstream, **members):
    model = {"name": "m", "price": {"request": "0.002 USD"}}
    at = f"http://127.0.0.1:{upstream.port}/compatibility/v1"
    return settings(
        providers={"cohere": provider(upstream, models=[model], kind="cohere", url=at, **members)}
    )


async def test_cohere_is_asked_in_its_own_form_at_its_own_path(tmp_path):
    async with (
        openai_engine(respond_json(200, COHERE)) as upstream,
        running_gateway(cohere(upstream), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/rerank", {**ASK, "odd": 1})
        assert reply.header("x-fleetgate-left-out") == "odd"
        assert [row["document"] for row in reply.json()["results"]] == [{"text": "b"}, {"text": "a"}]
        (request,) = upstream.requests
        assert request.path == "/v2/rerank"
        assert request.json() == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}
        assert (await gateway.entry()).attempts[0].cost == 2_000_000


async def test_its_clients_get_its_form_from_any_engine(tmp_path):
    async with (
        openai_engine(respond_json(200, JINA)) as engine,
        running_gateway(settings(nodes={"box": node(engine)}), tmp_path) as gateway,
    ):
        ask = {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}
        reply = await gateway.post("/v2/rerank", ask)
        assert reply.json()["results"] == [{"index": 1, "relevance_score": 0.9}]
        assert reply.json()["meta"]["tokens"] == {"input_tokens": 4}
        assert engine.requests[0].path == "/v1/rerank"
        assert (await gateway.entry()).usage.input_tokens == 4
        refused = await gateway.post("/v2/rerank", {**ask, "model": "nobody"})
        assert (refused.status, refused.json()["code"]) == (404, "model_not_found")
        assert isinstance(refused.json()["message"], str)


async def test_from_its_clients_to_itself(tmp_path):
    async with (
        openai_engine(respond_json(200, COHERE)) as upstream,
        running_gateway(cohere(upstream), tmp_path) as gateway,
    ):
        ask = {"model": "m", "query": "q", "documents": ["a", "b"], "max_tokens_per_doc": 50}
        reply = await gateway.post("/v2/rerank", ask)
        assert reply.json()["results"] == COHERE["results"]
        assert upstream.requests[0].json() == ask


async def test_its_errors(tmp_path):
    async with (
        openai_engine(respond_json(429, {"message": "slow down"}), respond_json(200, error("x"))) as upstream,
        running_gateway(cohere(upstream), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v2/rerank", ASK)
        assert reply.status == 429
        assert "slow down" in reply.json()["message"]
