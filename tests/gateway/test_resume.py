"""An answer that goes on elsewhere where its engine dies, wherever that is: nothing is repeated or lost."""

import json

import pytest
from tests.support.gateway import (
    content_frame,
    finish_frame,
    openai_engine,
    provider,
    role_frame,
    running_gateway,
    said,
    settings,
    usage_frame,
)
from tests.support.idengine import PROMPT, IdEngine, after
from tests.support.upstreams import close, reset, respond_json, stall, stream_sse

from fleetgate import sse
from fleetgate.cli.explain import lines

pytestmark = pytest.mark.asyncio

WORDS = ["Every", " gardener", (" é", 2), " repairs", "\n\n", " one", (" 🦙", 3), " shadow", "."]
TEXT = "".join(one if isinstance(one, str) else one[0] for one in WORDS)
TOKENS = sum(1 if isinstance(one, str) else one[1] for one in WORDS)
BOUND = {"temperature": 0, "stream_options": {"include_usage": True}}
"""always the most likely token: the second one says everything again"""
WARM = {"temperature": 0.5, "stream_options": {"include_usage": True}}
"""the second one is given the ids"""


def two(a, b, resume="exact", role=None, **blocks):
    nodes = {
        name: {"power": "always", "engines": [{"kind": "llamacpp", "port": one.port}]}
        for name, one in (("a", a), ("b", b))
    }
    pools = {"policy": "chain", "use": [{"pool": "a/m", "tries": 1}, {"pool": "b/m", "tries": 1}]}
    wanted = {"resume": resume} if resume else {}
    return settings(nodes=nodes, roles={"r": {**pools, **wanted, **(role or {})}}, **blocks)


def comments(reply):
    return [one for one in reply.frames if one.startswith(b":")]


def usage(reply):
    (found,) = [one["usage"] for one in reply.events if one != "[DONE]" and one.get("usage")]
    return found


def assert_whole(reply, text=TEXT, reason="stop"):
    assert (reply.status, reply.complete, reply.text) == (200, True, text)
    assert reply.events[-1] == "[DONE]"
    chunks = reply.events[:-1]
    assert len({(one["id"], one["created"], one["model"]) for one in chunks}) == 1
    choices = [one["choices"][0] for one in chunks if one["choices"]]
    assert {one["index"] for one in choices} == {0}
    assert [one["delta"].get("role") for one in choices if "role" in one["delta"]] == ["assistant"]
    assert [one["finish_reason"] for one in choices if one["finish_reason"]] == [reason]


@pytest.mark.parametrize(
    ("frames", "deadly"),
    [*((frames, "reset") for frames in range(1, len(WORDS) + 1)), (4, "close"), (4, "end"), (4, "error")],
)
async def test_dies_after_each_piece(tmp_path, frames, deadly):
    how = {"reset": reset(), "close": close(), "end": b"", "error": {"error": {"message": "boom"}}}[deadly]
    async with (
        IdEngine(WORDS, die=after(frames, how)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **BOUND)
        assert_whole(reply)
        assert usage(reply)["prompt_tokens"] == len(PROMPT)
        assert usage(reply)["completion_tokens"] == TOKENS + 1
        entry = await gateway.entry()
        said = sum(len(one[0]) for one in a.words[:frames])
        assert entry.outcome == "ok"
        assert entry.note == f"resumed on b/llamacpp/m after {said} characters"
        assert comments(reply) == [f": {entry.note}\n\n".encode()]
        first, second = entry.attempts
        assert (first.deployment, first.outcome) == ("a/llamacpp/m", "stream_broken")
        assert (second.deployment, second.outcome) == ("b/llamacpp/m", "ok")
        assert first.usage.input_tokens == len(PROMPT)
        assert first.usage.output_tokens == sum(one[1] for one in a.words[:frames])
        assert second.usage.input_tokens == len(b.completions[0]["prompt"])
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (len(PROMPT), TOKENS + 1)
        assert gateway.deployment("a/llamacpp/m").breaker.fails_in_row == 1


@pytest.mark.parametrize("tells", [True, False], ids=["filled", "compared"])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7, 9])
async def test_goes_on_from_the_ids(tmp_path, frames, tells):
    """Ids that the engine kept to itself are found by its tokenizer; where they are not, the text behind
    them comes again and is compared."""
    async with (
        IdEngine(WORDS, die=after(frames)) as a,
        IdEngine(WORDS, tells=tells) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **WARM)
        assert_whole(reply)
        assert usage(reply)["completion_tokens"] == TOKENS + 1
        assert usage(reply)["prompt_tokens"] == len(PROMPT)
        given = len(b.completions[0]["prompt"]) - len(PROMPT)
        said = sum(one[1] for one in a.words[:frames])
        assert given == (said if tells else min(said, 2))


async def test_a_second_one_that_says_something_else_gets_the_ids(tmp_path):
    """Nobody's numbers are the same to the last digit: what went out stays as it is."""
    async with (
        IdEngine(["a", "b", "c", "d", "e", "f"], die=after(4)) as a,
        IdEngine(["a", "b", "X", "Y", "Z", "!"]) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert_whole(await gateway.chat("r", stream=True, **BOUND), "abcdZ!")
        assert [len(one["prompt"]) - len(PROMPT) for one in b.completions] == [0, 4]
        assert [one.outcome for one in (await gateway.entry()).attempts] == ["stream_broken", "ok"]


async def test_a_second_one_that_says_something_else_behind_unknown_ids(tmp_path):
    words = ["a", ("é", 2), "c", "d"]
    other = ["a", ("X", 2), "c", "d"]
    async with (
        IdEngine(words, die=after(3)) as a,
        IdEngine(other, tells=False) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **WARM)
        assert reply.text == "aéc"
        assert reply.error["class"] == "stream_broken"
        assert gateway.deployment("b/llamacpp/m").breaker.fails_in_row == 0


async def test_dies_inside_a_frame(tmp_path):
    def inside(frames):
        whole = b"data: " + json.dumps(frames[3]).encode() + b"\n\n"
        return [*frames[:3], whole[:25], reset()]

    async with (
        IdEngine(WORDS, die=inside) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert_whole(await gateway.chat("r", stream=True, **BOUND))


async def test_dies_behind_its_last_frame(tmp_path):
    """The answer is whole: nobody else is asked."""
    async with (
        IdEngine(WORDS, die=after(100)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert_whole(await gateway.chat("r", stream=True, **BOUND))
        assert not b.completions
        assert (await gateway.entry()).attempts[0].outcome == "ok"


async def test_dies_before_any_content(tmp_path):
    """That is an ordinary failure, and the next one begins from the start."""
    async with (
        IdEngine(WORDS, die=after(0)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **BOUND)
        assert_whole(reply)
        assert comments(reply) == []
        assert b.completions[0]["prompt"] == PROMPT


async def test_falls_silent(tmp_path):
    async with (
        IdEngine(WORDS, die=after(4, stall())) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b, gateway={"between_tokens": "50ms"}), tmp_path) as gateway,
    ):
        assert_whole(await gateway.chat("r", stream=True, **BOUND))
        entry = await gateway.entry()
        assert [one.outcome for one in entry.attempts] == ["stream_broken", "ok"]


@pytest.mark.parametrize("how", [BOUND, WARM], ids=["again", "ids"])
@pytest.mark.parametrize("frames", [1, 4, 5])
async def test_the_bound_of_the_answer_holds_for_both(tmp_path, frames, how):
    words = ["a", "b", "c", "d", "e", "f"]
    async with (
        IdEngine(words, die=after(frames)) as a,
        IdEngine(words) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, max_tokens=5, **how)
        assert_whole(reply, "abcde", "length")
        assert usage(reply)["completion_tokens"] == 5
        if frames < 5:
            assert b.completions[0]["n_predict"] == (5 if how is BOUND else 5 - frames)
        else:  # all had come but for the word that it is the end
            assert not b.completions
            assert "all tokens had come" in (await gateway.entry()).note


@pytest.mark.parametrize("how", [BOUND, WARM], ids=["again", "ids"])
@pytest.mark.parametrize("frames", [2, 3, 4, 6])
async def test_a_stop_word_that_is_cut_apart(tmp_path, frames, how):
    """What was kept back of it is said again by the next one."""
    words = ["one", " two", " STO", "ne", " x", " ST", "OP", " never"]
    async with (
        IdEngine(words, die=after(frames)) as a,
        IdEngine(words) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, stop="STOP", **how)
        assert_whole(reply, "one two STOne x ")


async def test_the_same_request_but_for_the_ids(tmp_path):
    asked = {"temperature": 0.5, "seed": 3, "top_k": 5, "max_tokens": 50, "user": "me"}
    async with (
        IdEngine(WORDS, die=after(2)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        await gateway.chat("r", stream=True, **asked)
        (first,), (second,) = a.completions, b.completions
        assert first | {"prompt": 0, "n_predict": 0} == second | {"prompt": 0, "n_predict": 0}
        assert (first["temperature"], first["seed"], first["top_k"]) == (0.5, 3, 5)
        assert second["prompt"] == [*PROMPT, 100, 101]


async def test_the_usage_frame_goes_only_to_who_wants_it(tmp_path):
    async with (
        IdEngine(WORDS, die=after(2)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True)
        assert_whole(reply)
        assert b"usage" not in reply.body


async def test_completions_too(tmp_path):
    async with (
        IdEngine(WORDS, die=after(3)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        body = {"model": "r", "prompt": "once", "stream": True}
        reply = await gateway.post("/v1/completions", body)
        chunks = [one for one in reply.events if one != "[DONE]"]
        assert "".join(one["choices"][0]["text"] for one in chunks) == TEXT
        assert {one["object"] for one in chunks} == {"text_completion"}
        assert (await gateway.entry()).note.startswith("resumed on b/")


# --- who may go on ----------------------------------------------------------------------------------------


async def broken(gateway, **members):
    reply = await gateway.chat("r", stream=True, **members)
    assert reply.error["class"] == "stream_broken"
    assert b"[DONE]" not in reply.body
    assert comments(reply) == []
    return reply


async def test_off_by_default(tmp_path):
    def plain(_request):
        return stream_sse([role_frame(), content_frame("Hel"), reset()])

    async with (
        IdEngine(WORDS, chat=plain) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b, resume=None), tmp_path) as gateway,
    ):
        assert (await broken(gateway)).text == "Hel"
        assert not a.completions


async def test_other_weights_do_not_go_on(tmp_path):
    async with (
        IdEngine(WORDS, die=after(3)) as a,
        IdEngine(WORDS, size=5_000) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        await broken(gateway)
        assert not b.completions
        assert [one.outcome for one in (await gateway.entry()).attempts] == ["stream_broken"]


async def test_once_only(tmp_path):
    async with (
        IdEngine(WORDS, die=after(3)) as a,
        IdEngine(WORDS, die=after(2)) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **WARM)
        assert reply.error["class"] == "stream_broken"
        assert reply.text == "".join(one[0] for one in a.words[:5])
        entry = await gateway.entry()
        assert [one.outcome for one in entry.attempts] == ["stream_broken", "stream_broken"]
        assert entry.outcome == "stream_broken"
        assert len(a.completions) == len(b.completions) == 1


async def test_the_second_one_is_not_there(tmp_path):
    async with (
        IdEngine(WORDS, die=after(3)) as a,
        IdEngine(WORDS, without=["/completion"]) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        await broken(gateway)
        assert len((await gateway.entry()).attempts) == 2


async def test_the_attempts_are_counted(tmp_path):
    async with IdEngine(WORDS, die=after(3)) as a, IdEngine(WORDS) as b:
        role = {"use": ["m"], "policy": "least_busy", "attempts": 1}
        async with running_gateway(two(a, b, role=role), tmp_path) as gateway:
            a.deaths, b.die, b.deaths = 1, after(3), 1
            await broken(gateway)
            assert len(a.completions) + len(b.completions) == 1


# --- what cannot be asked by ids --------------------------------------------------------------------------


def chatting(*words):
    def answer(request):
        if not request.json().get("stream"):
            return respond_json(200, {"choices": []})
        frames = [role_frame(), *(content_frame(word) for word in words), finish_frame(), usage_frame()]
        return stream_sse([*frames, "[DONE]"])

    return answer


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"grammar": 'root ::= "a"'},
        {"logprobs": True},
        {"reasoning_effort": "low"},
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
    ],
    ids=["tools", "json", "grammar", "logprobs", "thinking", "begun"],
)
async def test_is_asked_in_the_usual_way(tmp_path, members):
    async with (
        IdEngine(WORDS, chat=chatting("fine")) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, **members)
        assert reply.text == "fine"
        assert not a.completions


@pytest.mark.parametrize("missing", ["/apply-template", "/tokenize", "/props"])
async def test_an_old_engine_is_asked_in_the_usual_way(tmp_path, missing):
    async with (
        IdEngine(WORDS, chat=chatting("fine"), without=[missing]) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert (await gateway.chat("r", stream=True)).text == "fine"
        assert not a.completions


async def test_a_model_that_thinks_is_asked_in_the_usual_way(tmp_path):
    thinking = "{% if enable_thinking %}<think>{% endif %}"
    async with (
        IdEngine(WORDS, chat=chatting("fine"), template=thinking) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert (await gateway.chat("r", stream=True)).text == "fine"
        assert not a.completions


async def test_whole_answers_are_asked_in_the_usual_way(tmp_path):
    def whole(_request):
        message = {"role": "assistant", "content": "fine"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return respond_json(200, {"choices": [choice]})

    async with (
        IdEngine(WORDS, chat=whole) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        assert (await gateway.chat("r")).text == "fine"


# --- from the text ----------------------------------------------------------------------------------------


def breaking(*words):
    def answer(_request):
        return stream_sse([role_frame(), *(content_frame(word) for word in words), reset()])

    return answer


def rest(*words):
    def answer(_request):
        frames = [role_frame("other"), *(content_frame(word, "other") for word in words)]
        frames += [finish_frame("other"), usage_frame(9, 3, answer_id="other"), "[DONE]"]
        return stream_sse(frames)

    return answer


async def test_goes_on_from_the_text(tmp_path):
    async with (
        IdEngine([], chat=breaking("One", " two ")) as a,
        IdEngine([], chat=rest(" three", " four"), size=9) as b,
        running_gateway(two(a, b, resume="text"), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=True, max_tokens=20, **BOUND)
        assert_whole(reply, "One two three four")
        asked = b.requests[-1].json()
        assert asked["messages"][-1] == {"role": "assistant", "content": "One two "}
        assert asked["max_tokens"] == 18
        assert usage(reply)["completion_tokens"] == 5
        entry = await gateway.entry()
        assert entry.note == "resumed on b/llamacpp/m after 8 characters"
        assert (entry.attempts[1].usage.input_tokens, entry.attempts[1].usage.output_tokens) == (9, 3)
        assert entry.usage.output_tokens == 5


@pytest.mark.parametrize("private", [False, True])
async def test_what_may_not_leave_the_house_is_not_continued_outside(tmp_path, private):
    """Privacy holds for the rest of an answer, too."""
    async with (
        IdEngine([], chat=breaking("One", " two ")) as a,
        openai_engine(stream_sse(said("three"))) as outside,
    ):
        policy = {"name": "chain", "only": "local"} if private else "chain"
        blocks = {
            "nodes": {"a": {"engines": [{"kind": "llamacpp", "port": a.port}]}},
            "providers": {"p": provider(outside, "m", kind="mistral")},
            "roles": {"r": {"policy": policy, "use": ["a/m", "p/m"], "resume": "text"}},
        }
        async with running_gateway(settings(**blocks), tmp_path) as gateway:
            if private:
                await broken(gateway)
                assert outside.requests == []
            else:
                assert_whole(await gateway.chat("r", stream=True), "One two three")
                assert outside.requests[0].json()["messages"][-1]["prefix"] is True


async def test_an_engine_that_refuses_to_go_on(tmp_path):
    """As llama.cpp does with models that think: the caller gets the error event."""

    def refuse(_request):
        said = "Assistant response prefill is incompatible with enable_thinking."
        return respond_json(400, {"error": {"code": 400, "message": said, "type": "invalid_request_error"}})

    async with (
        IdEngine([], chat=breaking("One", " two ")) as a,
        IdEngine([], chat=refuse) as b,
        running_gateway(two(a, b, resume="text"), tmp_path) as gateway,
    ):
        reply = await broken(gateway)
        assert reply.text == "One two "
        outcomes = [one.outcome for one in (await gateway.entry()).attempts]
        assert outcomes == ["stream_broken", "bad_request"]


async def test_thoughts_are_not_continued(tmp_path):
    def think(_request):
        thought = content_frame("")
        thought["choices"][0]["delta"] = {"reasoning_content": "hm"}
        return stream_sse([role_frame(), thought, content_frame("One"), reset()])

    async with (
        IdEngine([], chat=think) as a,
        IdEngine([], chat=rest("two")) as b,
        running_gateway(two(a, b, resume="text"), tmp_path) as gateway,
    ):
        await broken(gateway)
        assert not [one for one in b.requests if one.path == "/v1/chat/completions"]


# --- other dialects ---------------------------------------------------------------------------------------


async def test_callers_of_anthropics_dialect(tmp_path):
    async with (
        IdEngine(WORDS, die=after(4)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        body = {"model": "r", "max_tokens": 50, "stream": True}
        body["messages"] = [{"role": "user", "content": "hello"}]
        reply = await gateway.post("/v1/messages", body)
        datas = [sse.data_of(one) for one in reply.frames]
        events = [json.loads(one) for one in datas if one is not None]
        deltas = [one["delta"] for one in events if one["type"] == "content_block_delta"]
        said = "".join(one.get("text", "") for one in deltas)
        assert said == TEXT
        assert events[-1]["type"] == "message_stop"
        assert len(comments(reply)) == 1
        assert [one["type"] for one in events].count("message_start") == 1


async def test_callers_of_ollamas_dialect(tmp_path):
    async with (
        IdEngine(WORDS, die=after(4)) as a,
        IdEngine(WORDS) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        body = {"model": "r", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        reply = await gateway.post("/api/chat", body)
        lines = [json.loads(line) for line in reply.body.splitlines() if line]
        assert "".join(one["message"]["content"] for one in lines) == TEXT
        assert lines[-1]["done"] is True
        assert lines[-1]["eval_count"] == TOKENS + 1


async def test_explain_tells_who_could_go_on(tmp_path):
    async with (
        IdEngine(WORDS) as a,
        IdEngine(WORDS, size=5_000) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        plan = (await gateway.post("/admin/api/explain", {"model": "r"})).json()
        assert plan["resume"] == "exact"
        (row,) = plan["steps"][0]["candidates"]
        assert row["goes_on"] == {
            "why_not": "nobody else could",
            "by": [],
            "not_by": {"b/llamacpp/m": "other weights, or not known to be the same"},
        }
        told = [line for line in lines(plan, on=False) if "broke" in line or "break" in line]
        assert told[0].strip().startswith("should it break off, nobody goes on: nobody else could; not b/")
        assert "resume: exact" in next(iter(lines(plan, on=False)))
