"""Completions at Mistral: what is sent, and chats that become completions."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate import sse
from fleetgate.dialects import fim
from fleetgate.errors import AttemptFailed, FailureClass

ASKED = {"model": "codestral-latest", "prompt": "def add(", "suffix": "\n", "max_tokens": 8}


def sent(**members):
    body, left_out = fim.request(json.dumps({**ASKED, **members}).encode())
    return json.loads(body), left_out


def test_what_the_call_knows_is_sent():
    assert sent(temperature=0, stop=["x"], stream=True) == (
        {**ASKED, "temperature": 0, "stop": ["x"], "stream": True},
        (),
    )
    assert sent(seed=7) == ({**ASKED, "random_seed": 7}, ())


def test_what_it_does_not_know_is_left_out_and_named():
    body, left_out = sent(presence_penalty=0.5, best_of=3, user="me", stream_options={}, echo=False, n=1)
    assert body == ASKED
    assert left_out == ("presence_penalty", "best_of")


@pytest.mark.parametrize("members", [{"n": 2}, {"echo": True}, {"logprobs": 3}, {"prompt": ["a", "b"]}])
def test_what_the_answer_would_lack_is_not_to_be_had(members):
    with pytest.raises(AttemptFailed) as caught:
        sent(**members)
    assert caught.value.failure is FailureClass.ABSENT_FEATURE


CHAT = {
    "id": "1",
    "object": "chat.completion",
    "model": "codestral-latest",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a, b)"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def test_a_chat_becomes_a_completion():
    found = json.loads(fim.whole(json.dumps(CHAT).encode()))
    choice = {"index": 0, "text": "a, b)", "finish_reason": "stop"}
    assert found == {**CHAT, "object": "text_completion", "choices": [choice]}
    error = {"error": {"message": "no"}}
    assert json.loads(fim.whole(json.dumps(error).encode())) == error
    for none in (b"{", b"[]"):
        with pytest.raises(AttemptFailed):
            fim.whole(none)


def test_pieces_become_pieces():
    piece = {"id": "1", "choices": [{"index": 0, "delta": {"content": "a, "}, "finish_reason": None}]}
    (frame,) = fim.Pieces().feed(sse.frame(json.dumps(piece).encode()))
    choice = json.loads(sse.data_of(frame))["choices"][0]
    assert choice == {"index": 0, "text": "a, ", "finish_reason": None}
    parts = {"choices": [{"delta": {"content": [{"type": "text", "text": "x"}, {"text": "y"}]}}]}
    (frame,) = fim.Pieces().feed(sse.frame(json.dumps(parts).encode()))
    assert json.loads(sse.data_of(frame))["choices"][0]["text"] == "xy"
    for through in (b": comment\n\n", b"data: [DONE]\n\n", b"data: {oops\n\n"):
        assert fim.Pieces().feed(through) == [through]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)


@given(st.dictionaries(st.sampled_from(["choices", "usage", "error", "id"]), JSON))
@settings(deadline=None)
def test_no_piece_breaks_it(found):
    fim.Pieces().feed(sse.frame(json.dumps(found).encode()))
    fim.whole(json.dumps(found).encode())
