"""Cohere's rerank in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects.cohere import Rerank, inbound, outbound
from fleetgate.errors import AttemptFailed, Refused

ASK = {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}
JINA = {
    "model": "m",
    "object": "list",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
    "results": [
        {"index": 0, "relevance_score": -1.5},
        {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}},
    ],
}


def test_callers_of_cohere():
    dialect = Rerank()
    found = dialect.request(
        {**ASK, "max_tokens_per_doc": 100, "priority": 3, "rank_fields": ["x"], "stream": False}
    )
    assert found.members == {**ASK, "max_tokens_per_doc": 100}
    assert found.left_out == ("priority", "rank_fields")
    assert dialect.answer(JINA, found.memory, "req_1") == {
        "id": "req_1",
        "results": [{"index": 1, "relevance_score": 0.5}],
        "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": 7}},
    }
    whole = dialect.answer({"id": "theirs", "results": [{"index": 0, "score": 1}]}, None, "req_1")
    assert (whole["id"], whole["results"]) == ("theirs", [{"index": 0, "relevance_score": 1.0}])


def test_errors_have_their_form():
    form = Rerank().error_form(Refused(404, "model_not_found", "nothing", advice="Look."), "req_1")
    assert form.status == 404
    assert b'"message":"nothing' in form.body
    assert b'"id":"req_1"' in form.body


@pytest.mark.parametrize(
    "answer",
    [
        *({}, {"results": None}, {"results": [1]}, {"results": [{"index": "0", "relevance_score": 1}]}),
        *({"results": [{"index": 0}]}, {"results": [{"index": 0, "relevance_score": True}]}),
    ],
)
def test_what_is_no_order(answer):
    with pytest.raises(AttemptFailed):
        Rerank().answer(answer, None, "req_1")
    with pytest.raises(AttemptFailed):
        inbound(answer, outbound(ASK))


def test_towards_cohere():
    documents = ["a", {"text": "b"}, {"title": "c"}]
    asked = outbound({"model": "m", "query": "q", "documents": documents, "return_documents": True, "odd": 1})
    assert asked.members == {"model": "m", "query": "q", "documents": ["a", "b", '{"title":"c"}']}
    assert asked.left_out == ("odd",)
    meta = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 9},
    }
    answer = {
        "id": "x",
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
    }
    assert inbound({**answer, "meta": meta}, asked) == {
        "id": "x",
        "object": "list",
        "model": "m",
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
        ],
        "meta": meta,
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }
    assert "document" not in inbound(answer, outbound(ASK))["results"][0]


@given(st.lists(st.floats(-10, 10), max_size=8), st.integers(0, 9) | st.none())
def test_the_best_come_first(scores, top):
    rows = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
    found = Rerank().answer({"results": rows}, top, "r")["results"]
    assert [row["relevance_score"] for row in found] == sorted(scores, reverse=True)[:top]


@given(
    st.recursive(st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3))
)
def test_strange_documents(documents):
    asked = outbound({**ASK, "documents": documents})
    assert all(isinstance(one, str) for one in asked.members["documents"])
