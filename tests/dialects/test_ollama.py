import json
from datetime import UTC, datetime

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.fates import Fate
from fleetgate.dialects.ollama import catalogue, verbs
from fleetgate.dialects.ollama.asked import Operation
from fleetgate.dialects.ollama.dialect import PATHS, Ollama, dialects
from fleetgate.dialects.ollama.names import tagged, untagged
from fleetgate.dialects.ollama.table import FATES
from fleetgate.domain import Capability
from fleetgate.errors import AttemptFailed, FailureClass, Refused, Source

NOW = 1_767_225_600.0
USER = {"role": "user", "content": "hello"}
PICTURE = "iVBORw0KGgoAAAANSUhEUg=="
BASE = {
    "chat": {"model": "m", "messages": [USER]},
    "generate": {"model": "m", "prompt": "hello"},
    "embed": {"model": "m", "input": "hello"},
    "embeddings": {"model": "m", "prompt": "hello"},
}


def speaking(operation="chat", **more):
    return Ollama(Operation(operation), lambda: NOW, **more)


def read(operation="chat", **members):
    return speaking(operation).request({**BASE[operation], **members})


def answering(translated=None, operation="chat"):
    return speaking(operation).answering((translated or read(operation)).memory, "req0")


def piece(**choice):
    return sse.frame(json.dumps({"choices": [{"index": 0, **choice}]}).encode())


def lines(found):
    return [json.loads(one) for one in found.splitlines()]


# --- requests ---------------------------------------------------------------------------------------


def test_answers_are_streamed_unless_the_caller_does_not_want_that():
    assert read().members["stream"] is True
    assert read(stream=None).members["stream"] is True
    assert read(stream=False).members["stream"] is False
    assert "stream_options" not in read(stream=False).members


def test_a_name_is_looked_up_without_its_tag_and_repeated_with_it():
    translated = read(model="chat:latest")
    assert translated.members["model"] == "chat"
    assert translated.memory.model == "chat:latest"


def test_a_lookup_of_names_may_be_handed_in():
    dialect = speaking(name_of={"x:latest": "role/x"}.__getitem__)
    assert dialect.request({**BASE["chat"], "model": "x:latest"}).members["model"] == "role/x"


@pytest.mark.parametrize(
    ("operation", "members", "capability"),
    [
        ("chat", {}, Capability.CHAT),
        ("generate", {}, Capability.CHAT),
        ("generate", {"raw": True}, Capability.COMPLETE),
        ("generate", {"suffix": "end"}, Capability.COMPLETE),
        ("embed", {}, Capability.EMBED),
        ("embeddings", {}, Capability.EMBED),
    ],
)
def test_the_kind_of_work_depends_on_what_is_asked(operation, members, capability):
    translated = read(operation, **members)
    assert translated.capability is translated.memory.capability is capability
    assert not translated.memory.only_loads


@pytest.mark.parametrize("keep", [0, 0.0, "0", "0s", "-0m", "0h0m0s"])
@pytest.mark.parametrize(
    ("operation", "nothing"),
    [("chat", {"messages": []}), ("generate", {"prompt": ""}), ("embed", {"input": []})],
)
def test_throwing_a_model_out_is_management_and_not_done_here(operation, nothing, keep):
    with pytest.raises(Refused, match="unload") as refused:
        read(operation, **nothing, keep_alive=keep)
    assert (refused.value.status, refused.value.code) == (403, "not_managed_here")
    assert "/admin/api/deployments/load and /unload" in refused.value.advice


@pytest.mark.parametrize("operation", ["chat", "generate", "embed", "embeddings"])
def test_no_time_to_keep_it_is_only_named_where_something_is_asked(operation):
    translated = read(operation, keep_alive=0)
    assert translated.left_out == ("keep_alive",)
    assert translated.members == read(operation).members


@pytest.mark.parametrize("keep", [None, -1, 300, "5m", "-1s", "0.5s", False])
def test_without_a_prompt_the_model_is_loaded(keep):
    assert read("chat", messages=[], keep_alive=keep).memory.only_loads


EXAMPLES = {
    "model": "other",
    "stream": False,
    "messages": [USER, USER],
    "messages.thinking": [{"role": "assistant", "content": "", "thinking": "hm"}],
    "messages.images": [{"role": "system", "content": "", "images": [PICTURE]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "prompt": "other",
    "input": ["other"],
    "system": "brief",
    "images": [PICTURE],
    "suffix": "end",
    "raw": True,
    "template": "{{ .Prompt }}",
    "context": [1, 2],
    "format": "json",
    "think": True,
    "logprobs": True,
    "top_logprobs": 3,
    "options": {"temperature": 1},
    "options.stop": ["x"],
}


@pytest.mark.parametrize(
    ("row", "operation"),
    [(row, operation) for row in FATES for operation in row.where if ":" not in row.member],
    ids=lambda one: one if isinstance(one, str) else one.member,
)
def test_every_row_of_the_table_is_true(row, operation):
    example = EXAMPLES.get(row.member, 1)
    name, _, inner = row.member.partition(".")
    members = {name: {inner: example}} if name == "options" and inner else {name: example}
    if name == "top_logprobs":
        members["logprobs"] = True
    if row.fate is Fate.REFUSED:
        with pytest.raises(Refused, match=name) as refused:
            read(operation, **members)
        assert (refused.value.status, refused.value.code) == (400, "unsupported")
        return
    translated = read(operation, **members)
    if row.fate is Fate.NAMED:
        assert translated.left_out == (row.member,)
        assert translated.members == read(operation).members
    else:
        assert translated.left_out == ()
        assert translated.members != read(operation).members


@pytest.mark.parametrize("level", ["xhigh", "max"])
def test_thinking_beyond_high_is_high_and_named(level):
    translated = read(think=level)
    assert translated.members == read(think="high").members
    assert translated.left_out == ("think",)


def test_what_is_not_in_the_table_is_named():
    left = read(messages=[{**USER, "name": "me"}], strange=1, null=None, options={"new": 1}).left_out
    assert left == ("strange", "messages.name", "options.new")


def test_names_that_could_break_a_header_are_not_repeated():
    left = read(**{"a\r\nb: c": 1, "ü": 1, "x" * 61: 1, "": 1}).left_out
    assert left == ("a__b:_c", "_", "x" * 61)


@pytest.mark.parametrize(
    ("operation", "members", "param"),
    [
        ("chat", {"model": ""}, "model"),
        ("chat", {"model": 5}, "model"),
        ("chat", {"stream": "yes"}, "stream"),
        ("chat", {"messages": {}}, "messages"),
        ("chat", {"messages": ["hello"]}, "messages[0]"),
        ("chat", {"messages": [{"role": "owner", "content": ""}]}, "messages[0].role"),
        ("chat", {"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ("chat", {"messages": [{**USER, "images": [5]}]}, "messages[0].images[0]"),
        ("chat", {"messages": [{**USER, "images": ["?"]}]}, "messages[0].images[0]"),
        ("chat", {"messages": [{**USER, "images": ["http://host/a.png"]}]}, "messages[0].images[0]"),
        ("chat", {"messages": [{**USER, "images": ["AAAA"]}]}, "messages[0].images[0]"),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": [5]}]}, "messages[0].tool_calls[0]"),
        ("chat", {"tools": [5]}, "tools[0]"),
        ("chat", {"tools": [{"type": "function"}]}, "tools[0].function.name"),
        ("chat", {"options": []}, "options"),
        ("chat", {"options": {"temperature": "warm"}}, "options.temperature"),
        ("chat", {"options": {"temperature": True}}, "options.temperature"),
        ("chat", {"options": {"top_k": 1.5}}, "options.top_k"),
        ("chat", {"options": {"top_k": float("inf")}}, "options.top_k"),
        ("chat", {"options": {"stop": [1]}}, "options.stop"),
        ("chat", {"format": "yaml"}, "format"),
        ("chat", {"think": "hard"}, "think"),
        ("chat", {"think": 1}, "think"),
        ("generate", {"prompt": ["a"]}, "prompt"),
        ("generate", {"raw": True, "images": [PICTURE]}, "images"),
        ("generate", {"raw": True, "format": "json"}, "format"),
        ("generate", {"raw": True, "system": "brief"}, "system"),
        ("generate", {"suffix": "end", "format": {"type": "object"}}, "format"),
        ("embed", {"input": [[1, 2]]}, "input"),
        ("embed", {"input": 5}, "input"),
        ("embed", {"dimensions": "two"}, "dimensions"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(operation, members, param):
    with pytest.raises(Refused) as refused:
        read(operation, **members)
    assert refused.value.status == 400
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("/9j/4AAQSkZJRg==", "jpeg"),
        ("R0lGODlhAQABAA==", "gif"),
        ("UklGRiQAAABXRUJQVlA4", "webp"),
        ("Qk06AAAAAAAAADYA", "bmp"),
        ("iVBOR\nw0KGgo=", "png"),
    ],
)
def test_the_kind_of_a_picture_is_in_its_first_bytes(head, kind):
    (message,) = read(messages=[{**USER, "images": [head]}]).members["messages"]
    url = message["content"][0]["image_url"]["url"]
    assert url == f"data:image/{kind};base64,{head}".replace("\n", "")


def test_a_picture_that_says_what_it_is_stays():
    url = "data:image/avif;base64,AAAA"
    (message,) = read(messages=[{**USER, "images": [url]}]).members["messages"]
    assert message["content"][0]["image_url"]["url"] == url


def test_a_result_whose_call_was_cut_off_keeps_an_id_of_its_own():
    messages = read(messages=[{"role": "tool", "content": "4"}, USER]).members["messages"]
    assert messages[0] == {"role": "tool", "content": "4", "tool_call_id": "call00001"}


def test_a_result_of_an_unknown_tool_belongs_to_the_next_call():
    call = {"function": {"name": "f", "arguments": {}}}
    asked = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "g", "content": "4"},
    ]
    messages = read(messages=asked).members["messages"]
    assert messages[1]["tool_call_id"] == messages[0]["tool_calls"][0]["id"]


names = st.sampled_from(["f", "g", "h"])


@given(st.lists(st.lists(names, min_size=1, max_size=4), max_size=4), st.booleans(), st.randoms())
def test_every_call_gets_its_result_whatever_their_order(rounds, named, random):
    asked = []
    for calls in rounds:
        asked.append(
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": one, "arguments": {}}} for one in calls],
            }
        )
        order = list(calls)
        if named:
            random.shuffle(order)
        asked += [{"role": "tool", "content": one, **({"tool_name": one} if named else {})} for one in order]
    messages = read(messages=[USER, *asked]).members["messages"]
    made = {call["id"]: call["function"]["name"] for one in messages for call in one.get("tool_calls", ())}
    results = [one for one in messages if one["role"] == "tool"]
    assert sorted(one["tool_call_id"] for one in results) == sorted(made)
    assert all(made[one["tool_call_id"]] == one["content"] for one in results)


def test_the_same_conversation_is_the_same_text_at_the_next_turn():
    turn = [
        USER,
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]},
        {"role": "tool", "content": "4"},
    ]
    first = read(messages=turn).members["messages"]
    assert read(messages=[*turn, USER]).members["messages"][:3] == first


def test_requests_of_the_official_client_lose_nothing():
    form = ollama._types.ChatRequest(
        model="m",
        messages=[ollama.Message(role="user", content="hello", images=[ollama.Image(value=PICTURE)])],
        tools=[ollama.Tool(function=ollama.Tool.Function(name="f", description="d"))],
        stream=True,
        format={"type": "object"},
        options=ollama.Options(temperature=0.5, stop=["x"]),
        think="low",
    ).model_dump(exclude_none=True)
    translated = speaking().request(form)
    assert translated.left_out == ()
    assert translated.members["tools"][0]["function"] == {"name": "f", "description": "d"}


# --- answers ----------------------------------------------------------------------------------------


def whole(message, finish="stop", **more):
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("stop", "stop"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_reasons_by_ollama_s_names(reason, said):
    dialect, memory = speaking(), read().memory
    assert dialect.answer(whole({"content": ""}, reason), memory, "r")["done_reason"] == said
    stream = answering()
    stream.feed(piece(delta={}, finish_reason=reason))
    assert lines(stream.end())[-1]["done_reason"] == said


def test_parts_of_an_answer_are_put_together():
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "four"},
        {"type": "reference", "reference_ids": [1]},
    ]
    message = speaking().answer(whole({"content": content}), read().memory, "r")["message"]
    assert message == {"role": "assistant", "content": "four", "thinking": "hm"}


def test_what_nobody_counted_is_left_out():
    found = speaking().answer(whole({"content": "4"}), read().memory, "r")
    assert found.keys() == {"model", "created_at", "message", "done", "done_reason"}


def test_tokens_by_the_engine_s_own_measure_where_there_is_no_usage():
    timings = {"prompt_n": 4, "cache_n": 6, "predicted_n": 3, "predicted_ms": 30}
    found = speaking().answer(whole({"content": "4"}, timings=timings), read().memory, "r")
    assert (found["prompt_eval_count"], found["eval_count"]) == (10, 3)
    assert found["eval_duration"] == 30_000_000
    assert "prompt_eval_duration" not in found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{"index": 0}]},
        whole({"content": 5}),
        whole({"content": [5]}),
        whole({"tool_calls": [5]}),
        whole({"tool_calls": [{"function": {"name": "", "arguments": "{}"}}]}),
        whole({"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}),
        whole({"tool_calls": [{"function": {"name": "f", "arguments": '{"a'}}]}),
    ],
)
def test_what_cannot_be_an_answer_is_garbage(body):
    with pytest.raises(AttemptFailed) as failed:
        speaking().answer(body, read().memory, "r")
    assert failed.value.failure is FailureClass.GARBAGE


@pytest.mark.parametrize("data", [[], [{"index": 0}], [{"embedding": "AAAA"}], None, [5]])
def test_embeddings_that_are_none_are_garbage(data):
    with pytest.raises(AttemptFailed) as failed:
        speaking("embed").answer({"data": data}, read("embed").memory, "r")
    assert failed.value.failure is FailureClass.GARBAGE


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{",
        b'{"choices":[{"delta":{"tool_calls":{"a":1}}}]}',
        b'{"choices":[{"delta":{"tool_calls":[5]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":"a"}]}}]}',
        b'{"choices":[{"delta":{"content":5}}]}',
    ],
)
def test_a_frame_that_cannot_be_part_of_an_answer_is_garbage(data):
    with pytest.raises(AttemptFailed) as failed:
        answering().feed(sse.frame(data))
    assert failed.value.failure is FailureClass.GARBAGE


def test_an_error_in_a_frame_is_a_failure():
    with pytest.raises(AttemptFailed, match="no memory"):
        answering().feed(sse.frame(b'{"error":{"message":"no memory","code":500}}'))


def test_frames_that_say_nothing_are_nothing():
    stream = answering()
    for frame in (
        sse.comment("hello"),
        sse.frame(b"[DONE]"),
        sse.frame(b'{"object":"x"}'),
        piece(delta={"role": "assistant", "content": ""}),
        piece(index=1, delta={"content": "another answer"}),
    ):
        assert stream.feed(frame) == b""
    assert stream.begin() == b""


texts = st.text(st.characters(codec="utf-8"), max_size=12)
arguments = st.dictionaries(
    texts, st.integers() | texts | st.lists(st.none() | st.booleans(), max_size=2), max_size=3
)


@given(st.lists(st.tuples(names, arguments), min_size=1, max_size=3), st.data())
def test_calls_are_whole_wherever_their_arguments_were_cut(calls, data):
    stream = answering()
    found = b""
    for index, (name, given_arguments) in enumerate(calls):
        text = json.dumps(given_arguments)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
        head = {"index": index, "id": f"id{index}", "function": {"name": name, "arguments": ""}}
        found += stream.feed(piece(delta={"tool_calls": [head]}))
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            more = {"index": index, "function": {"arguments": text[begin:end]}}
            found += stream.feed(piece(delta={"tool_calls": [more]}))
    assert found == b""
    (line,) = lines(stream.feed(piece(delta={}, finish_reason="tool_calls")))
    made = ollama.ChatResponse(**line).message.tool_calls
    assert [(one.function.name, one.function.arguments) for one in made] == calls
    assert [one["id"] for one in line["message"]["tool_calls"]] == [
        f"id{index}" for index in range(len(calls))
    ]


@given(st.lists(st.tuples(texts, texts), max_size=8))
def test_the_lines_put_together_are_what_was_said(said):
    stream = answering()
    out = b"".join(
        stream.feed(piece(delta={"content": content, "reasoning_content": thought}))
        for content, thought in said
    )
    out += stream.feed(piece(delta={}, finish_reason="stop")) + stream.end()
    read_back = [ollama.ChatResponse(**one) for one in lines(out)]
    assert "".join(one.message.content for one in read_back) == "".join(content for content, _ in said)
    assert "".join(one.message.thinking or "" for one in read_back) == "".join(thought for _, thought in said)
    assert [one.done for one in read_back] == [False] * (len(read_back) - 1) + [True]
    assert all(one.message.content or one.message.thinking for one in read_back[:-1])


@given(st.binary(max_size=60))
def test_no_frame_breaks_it_in_another_way(data):
    stream = answering()
    try:
        stream.feed(sse.frame(data))
    except AttemptFailed:
        return
    assert lines(stream.end())[-1]["done"] is True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "{}", "length"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["content", "tool_calls", "function", "arguments", "name", "index", "logprobs", "delta"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def _is_garbage(failed):
    assert failed.failure is FailureClass.GARBAGE


def _is_a_refusal(refused):
    assert refused.status == 400


@given(json_values, json_values, json_values)
def test_odd_choices_are_read_or_garbage(delta, reason, logprobs):
    stream = answering()
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
    try:
        stream.feed(sse.frame(json.dumps({"choices": [choice]}).encode()))
        speaking().answer({"choices": [{**choice, "message": delta}]}, read().memory, "r")
    except AttemptFailed as failed:
        _is_garbage(failed)
    assert stream.end().endswith(b"\n")


@given(json_values, json_values, json_values)
def test_odd_requests_are_read_or_refused(messages, options, tools):
    for operation, base in BASE.items():
        body = {
            **base,
            "messages": messages,
            "options": options,
            "tools": tools,
            "input": messages,
        }
        try:
            speaking(operation).request(body)
        except Refused as refused:
            _is_a_refusal(refused)


# --- signs of life, errors --------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["chat", "generate"])
def test_a_sign_of_life_is_an_object_that_says_nothing(operation):
    dialect = speaking(operation)
    for sign in (dialect.answering(read(operation).memory, "r").alive(),):
        assert sign.endswith(b"}\n")
        (form,) = lines(sign)
        assert form["done"] is False
        said = form["message"]["content"] if operation == "chat" else form["response"]
        assert said == ""
    assert form["model"] == "m"


def refused(status=429, **more):
    return Refused(status, "limit_reached", "too many", advice="Ask again later.", **more)


def test_errors_have_their_text_where_callers_look_for_it():
    form = speaking().error_form(
        refused(failure=FailureClass.LIMIT_REACHED, retry_after=3.0, terminal=True), "r"
    )
    assert form.status == 429
    assert (b"retry-after", b"3") in form.headers
    assert (b"x-should-retry", b"false") in form.headers
    body = json.loads(form.body)
    assert body == {
        "error": "too many. Ask again later.",
        "code": "limit_reached",
        "class": "limit_reached",
        "source": "caller",
        "request_id": "r",
    }
    shown = ollama.ResponseError(form.body.decode(), form.status)
    assert (shown.error, shown.status_code) == ("too many. Ask again later.", 429)


def test_an_error_in_a_stream_is_a_line_that_ends_nothing():
    (line,) = lines(speaking().answering(read("chat").memory, "r").fail(refused(source=Source.UPSTREAM)))
    assert line["error"] == "too many. Ask again later."
    assert "done" not in line


def test_an_error_of_the_gateway_has_the_same_headers_as_in_openai_s_dialect():
    assert speaking().error_form(refused(401), "r").headers == openai.error_form(refused(401), "r").headers


def test_every_path_has_its_implementation():
    found = dialects(lambda: NOW)
    assert found.keys() == PATHS.keys()
    assert {one.operation for one in found.values()} == set(Operation)
    assert {one.name for one in found.values()} == {"ollama"}
    assert {one.stream_type for one in found.values()} == {b"application/x-ndjson"}


def test_verbs_that_manage_are_refused_with_the_way():
    for _, _, verb in verbs.VERBS:
        found = verbs.refusal(verb)
        assert found.status == 403
        assert verb in found.message
        assert "/admin/api/" in found.advice


# --- what lists models ------------------------------------------------------------------------------

KNOWN = catalogue.Listed(
    "qwen:8b",
    size=5_000,
    digest="d" * 64,
    family="qwen3",
    params=8.2,
    quantisation="Q4_K_M",
    modified_at=NOW,
    does=frozenset({Capability.CHAT, Capability.TOOLS, Capability.VISION, Capability.REASONING}),
    context_length=40_960,
)
UNKNOWN = catalogue.Listed("house")


def test_the_official_client_reads_the_list():
    form = catalogue.tags([KNOWN, UNKNOWN], "gw1")
    assert form["models"][0]["capabilities"] == ["completion", "tools", "vision", "thinking"]
    known, unknown = ollama.ListResponse(**json.loads(json.dumps(form))).models
    assert known.model == "qwen:8b"
    assert known.size == 5_000
    assert known.digest == "d" * 64
    assert known.modified_at == datetime.fromtimestamp(NOW, UTC)
    assert known.details.parameter_size == "8.2B"
    assert known.details.quantization_level == "Q4_K_M"
    assert known.details.family == "qwen3"
    assert unknown.model == "house:latest"


def test_of_an_unknown_model_everything_is_there_that_strict_clients_look_for():
    (row,) = catalogue.tags([UNKNOWN], "gw1")["models"]
    assert row.keys() == {"name", "model", "modified_at", "size", "digest", "details"}
    assert row["size"] == 0
    assert row["modified_at"].startswith("0001-")
    assert row["details"]["parameter_size"] == ""


def test_a_digest_of_a_name_is_nobody_else_s():
    def digest(gateway, name="house"):
        return catalogue.tags([catalogue.Listed(name)], gateway)["models"][0]["digest"]

    assert digest("gw1") == digest("gw1", "house:latest")
    assert len({digest("gw1"), digest("gw2"), digest("gw1", "other")}) == 3
    assert len(digest("gw1")) == 64


def test_the_official_client_reads_what_is_in_memory():
    rows = [
        catalogue.Resident(KNOWN, 6_000, 5_500, "2026-01-01T00:05:00.123456789Z", 8_192),
        catalogue.Resident(UNKNOWN),
    ]
    form = catalogue.ps(rows, "gw1")
    known, unknown = ollama.ProcessResponse(**json.loads(json.dumps(form))).models
    assert (known.name, known.size, known.size_vram, known.context_length) == ("qwen:8b", 6_000, 5_500, 8_192)
    assert known.expires_at.minute == 5
    assert unknown.expires_at.year == 2318
    assert "size_vram" not in form["models"][1]


def test_the_official_client_reads_one_model():
    found = ollama.ShowResponse(**json.loads(json.dumps(catalogue.show(KNOWN))))
    assert found.capabilities == ["completion", "tools", "vision", "thinking"]
    assert found.modelinfo["general.architecture"] == "qwen3"
    assert found.modelinfo["qwen3.context_length"] == 40_960
    assert found.details.parameter_size == "8.2B"
    unknown = ollama.ShowResponse(**catalogue.show(UNKNOWN))
    assert unknown.capabilities is None
    assert unknown.modelinfo == {"general.architecture": "unknown"}


def test_models_that_embed_say_so():
    vec = catalogue.Listed("vec", params=0.137, does=frozenset({Capability.EMBED}), dimensions=768)
    found = catalogue.show(vec)
    assert found["capabilities"] == ["embedding"]
    assert found["model_info"]["unknown.embedding_length"] == 768
    assert found["details"]["parameter_size"] == "137.00M"


def test_the_version_is_that_of_the_dialect():
    assert catalogue.version("1.2.3") == {"version": catalogue.SPEAKS, "fleetgate": "1.2.3"}
    assert catalogue.RUNNING == b"Ollama is running"


@pytest.mark.parametrize(
    ("name", "with_tag"),
    [("x", "x:latest"), ("x:8b", "x:8b"), ("host:5000/x", "host:5000/x:latest"), ("a/b/c:1", "a/b/c:1")],
)
def test_names_and_tags(name, with_tag):
    assert tagged(name) == with_tag
    assert untagged(with_tag) == name
