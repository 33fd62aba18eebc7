import json

import pytest

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.openai import Look, Stream
from fleetgate.domain import Usage
from fleetgate.errors import AttemptFailed, FailureClass, Refused, Source

F = FailureClass


def frame(obj):
    return sse.frame(obj if isinstance(obj, bytes) else json.dumps(obj).encode())


def chunk(delta=None, finish=None, **more):
    return frame({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more})


def looks(*frames, strip_usage=True):
    reader = Stream(strip_usage=strip_usage)
    return [reader.look(one) for one in frames], reader


# --- whole answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(3, 2)),
        ({"prompt_tokens": 3, "total_tokens": 5}, Usage(3, 2)),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(9, 1, 4),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(9, 1)),
        ({}, Usage()),
        (None, Usage()),
        ("many", Usage()),
        ({"prompt_tokens": "many"}, Usage()),
    ],
)
def test_usage_of_a_whole_answer_is_what_it_says_or_unknown(usage, read):
    assert openai.read_answer(json.dumps({"choices": [], "usage": usage}).encode()) == read


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1]", b'"x"', b"null", b'{"a":', b"[" * 100_000, b'{"usage":{"a":"\x80"}}']
)
def test_what_cannot_be_an_answer_is_garbage(body):
    with pytest.raises(AttemptFailed) as caught:
        openai.read_answer(body)
    assert caught.value.failure is F.GARBAGE


@pytest.mark.parametrize(
    ("error", "failure", "text"),
    [
        ({"message": "boom"}, F.SERVER_ERROR, "boom"),
        ("boom", F.SERVER_ERROR, "boom"),
        ({"message": "no", "code": 400}, F.BAD_REQUEST, "no"),
        ({"message": "no", "code": "429"}, F.RATE_LIMITED, "no"),
        ({"message": "no", "status": 404}, F.MODEL_MISSING, "no"),
        ({"message": "no", "code": 401}, F.KEY_INVALID, "no"),
        ({"message": "no", "code": 402}, F.KEY_UNFUNDED, "no"),
        ({"message": "no", "code": 403}, F.KEY_FORBIDDEN, "no"),
        ({"message": "no", "code": 408}, F.SERVER_ERROR, "no"),
        ({"message": "no", "code": 503}, F.SERVER_ERROR, "no"),
        ({"message": "no", "code": "context_overflow"}, F.SERVER_ERROR, "no"),
    ],
)
def test_an_error_inside_a_good_status(error, failure, text):
    for body in ({"error": error}, {"error": error, "usage": "odd"}):
        with pytest.raises(AttemptFailed) as caught:
            openai.read_answer(json.dumps(body).encode())
        assert caught.value.failure is failure
        assert caught.value.text == text


def test_an_error_of_null_is_none():
    assert openai.read_answer(b'{"error":null,"choices":[]}') == Usage()


# --- streams ----------------------------------------------------------------------------------------


def test_nothing_before_the_first_content_commits():
    frames = [
        sse.comment("x"),
        frame(b"\n"[:0] or b'"x"'),
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": None}),
        chunk({"tool_calls": []}),
        frame({"choices": []}),
        frame({"prompt_progress": {"total": 3}}),
    ]
    seen, reader = looks(*frames)
    assert set(seen) == {Look.HOLD}
    assert not reader.committed


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "id": "c"}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "a"}},
    ],
)
def test_what_commits(delta):
    seen, reader = looks(chunk(delta))
    assert seen == [Look.CONTENT]
    assert reader.committed


def test_text_of_a_completion_commits():
    assert looks(frame({"choices": [{"text": "x"}]}))[0] == [Look.CONTENT]


def test_a_finish_without_content_commits_and_finishes():
    seen, reader = looks(chunk({}, "stop"))
    assert seen == [Look.FINISH]
    assert reader.committed
    assert reader.finished


def test_a_whole_stream():
    usage = frame({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    frames = (
        chunk({"role": "assistant"}),
        chunk({"content": "a"}),
        chunk({"content": "b"}),
        chunk({}, "stop"),
    )
    seen, reader = looks(*frames, usage, openai.END)
    assert seen == [Look.HOLD, Look.CONTENT, Look.PASS, Look.FINISH, Look.DROP, Look.END]
    assert (reader.finished, reader.ended, reader.usage) == (True, True, Usage(3, 2))


def test_the_usage_frame_passes_where_it_was_asked_for():
    usage = frame({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    seen, reader = looks(chunk({"content": "a"}), usage, strip_usage=False)
    assert seen[-1] is Look.PASS
    assert reader.usage == Usage(3, 2)


def test_usage_that_rides_on_content_passes_and_the_last_one_counts():
    first = chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1})
    last = chunk({"content": "b"}, usage={"prompt_tokens": 3, "completion_tokens": 2})
    seen, reader = looks(first, last, chunk({}, "stop", usage=None))
    assert seen == [Look.CONTENT, Look.PASS, Look.FINISH]
    assert reader.usage == Usage(3, 2)


def test_odd_usage_is_unknown():
    assert looks(chunk({"content": "a"}, usage={"prompt_tokens": "x"}))[1].usage == Usage()


@pytest.mark.parametrize(
    "text", ['"finish_reason":"stop"', '{"usage":{}}', '"error":{"a":1}', "[DONE]", "data: [DONE]"]
)
def test_words_inside_an_answer_fool_nobody(text):
    seen, reader = looks(chunk({"content": "a"}), chunk({"content": text}))
    assert seen == [Look.CONTENT, Look.PASS]
    assert (reader.finished, reader.ended) == (False, False)


def test_an_error_before_content_is_its_class_and_after_it_a_broken_stream():
    boom = frame({"error": {"message": "slow down", "code": 429}})
    with pytest.raises(AttemptFailed) as caught:
        looks(boom)
    assert caught.value.failure is F.RATE_LIMITED
    with pytest.raises(AttemptFailed) as caught:
        looks(chunk({"content": "a"}), boom)
    assert caught.value.failure is F.STREAM_BROKEN
    assert caught.value.text == "slow down"


def test_no_json_is_garbage_before_content_and_passes_after_it():
    with pytest.raises(AttemptFailed) as caught:
        looks(frame(b"oops"))
    assert caught.value.failure is F.GARBAGE
    assert looks(chunk({"content": "a"}), frame(b"oops [DONE] not"))[0] == [Look.CONTENT, Look.PASS]


def test_torn_letters_are_no_json():
    torn = frame(b'{"choices":[{"delta":{"content":"\x80"},"finish_reason":"stop"}]}')
    with pytest.raises(AttemptFailed) as caught:
        looks(torn)
    assert caught.value.failure is F.GARBAGE
    assert looks(chunk({"content": "a"}), torn)[0] == [Look.CONTENT, Look.PASS]


def test_line_ends_of_any_kind():
    content = b'data: {"choices":[{"delta":{"content":"a"}}]}\r\n\r\n'
    assert looks(content, b"data: [DONE]\r\n\r\n")[0] == [Look.CONTENT, Look.END]


@pytest.mark.parametrize("choices", ["x", [1], [None], [{"delta": "x"}], {"0": {}}])
def test_odd_choices_commit_nothing(choices):
    assert looks(frame({"choices": choices}))[0] == [Look.HOLD]


# --- errors -----------------------------------------------------------------------------------------


def test_an_error_in_openais_form():
    refused = Refused(
        503,
        "node_asleep",
        "the machine is off",
        advice="Switch it on.",
        source=Source.GATEWAY,
        failure=F.NOTHING_AVAILABLE,
        retry_after=12.4,
        terminal=True,
        param="model",
    )
    form = openai.error_form(refused, "req_1")
    assert form.status == 503
    assert dict(form.headers) == {
        b"content-type": b"application/json",
        b"retry-after": b"12",
        b"x-should-retry": b"false",
    }
    assert json.loads(form.body) == {
        "error": {
            "message": "the machine is off. Switch it on.",
            "type": "api_error",
            "param": "model",
            "code": "node_asleep",
            "class": "nothing_available",
            "source": "gateway",
            "request_id": "req_1",
        }
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
    ],
)
def test_types_of_errors(status, kind):
    assert openai.error_object(Refused(status, "c", "m"), "r")["type"] == kind


@pytest.mark.parametrize(
    ("status", "wait", "kind"),
    [
        (429, 20.0, "rate_limit_error"),
        (429, 120.0, "rate_limit_error"),
        (429, 121.0, "insufficient_quota"),
        (503, 600.0, "api_error"),
    ],
)
def test_a_limit_for_longer_than_a_program_waits_is_called_a_quota(status, wait, kind):
    found = openai.error_object(Refused(status, "c", "m", retry_after=wait), "r")
    assert (found["type"], found["code"]) == (kind, "c")


def test_who_has_no_key_is_told_how_to_send_one():
    assert (b"www-authenticate", b"Bearer") in openai.error_form(Refused(401, "c", "m"), "r").headers


def test_an_error_in_a_stream_is_one_frame_without_finish_or_end():
    made = openai.error_frame(Refused(502, "stream_broken", "broke off"), "req_1")
    assert made.startswith(b"data: ")
    assert made.endswith(b"\n\n")
    assert b"finish_reason" not in made
    assert json.loads(sse.data_of(made))["error"]["code"] == "stream_broken"


def test_waiting_less_than_a_second_is_said_as_one():
    assert (b"retry-after", b"1") in openai.error_form(Refused(503, "c", "m", retry_after=0.2), "r").headers


# --- answers in which nothing was said ---------------------------------------------------------------

THOUGHT = chunk({"reasoning": "hm"})


@pytest.mark.parametrize(
    ("frames", "unsaid"),
    [
        ([THOUGHT, THOUGHT, chunk({"content": ""}, "length")], True),
        ([chunk({"reasoning_content": 'say "content": "x"'}), chunk({}, "length")], True),
        ([chunk({}, "length")], True),
        ([THOUGHT, chunk({"content": "hi"}), chunk({}, "length")], False),
        ([chunk({"content": "hi"}, "length")], False),
        ([THOUGHT, chunk({"tool_calls": [{"index": 0, "id": "c"}]}), chunk({}, "length")], False),
        ([frame({"choices": [{"index": 0, "text": "hi", "finish_reason": "length"}]})], False),
        ([THOUGHT, chunk({"refusal": "no"}), chunk({}, "length")], False),
        ([THOUGHT, chunk({}, "stop")], False),
        ([THOUGHT], False),
    ],
)
def test_a_stream_that_its_bound_ended_before_anything_was_said(frames, unsaid):
    assert looks(*frames)[1].unsaid is unsaid


@pytest.mark.parametrize(
    ("message", "finish", "unsaid"),
    [
        ({"content": "", "reasoning": "hm"}, "length", True),
        ({"content": None, "reasoning_content": "hm"}, "length", True),
        ({"content": "hi"}, "length", False),
        ({"content": None, "tool_calls": [{"id": "c"}]}, "length", False),
        ({"content": ""}, "stop", False),
        ({"content": 'the word "length"'}, "stop", False),
        (None, "length", False),
    ],
)
def test_a_whole_answer_that_its_bound_ended_before_anything_was_said(message, finish, unsaid):
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()
    assert openai.is_unsaid(body) is unsaid


@pytest.mark.parametrize(
    "body", [b'"length"', b'{"choices": 1, "x": "length"}', b'{"choices": [], "x": "length"}']
)
def test_of_what_is_no_answer_nothing_is_said_about_it(body):
    assert not openai.is_unsaid(body)


def test_pieces_that_tell_of_a_load_are_no_content_and_are_not_counted():
    reader = Stream(strip_usage=True, tells_of_load=lambda piece: "id" not in piece)
    assert reader.look(chunk({"reasoning_content": "loading"})) is Look.DROP
    assert (reader.frames, reader.committed) == (0, False)
    assert reader.look(chunk({"content": "hi"}, id="c-1")) is Look.CONTENT
    assert reader.look(chunk({"content": "ho"})) is Look.PASS, "what comes later is the answer's"
