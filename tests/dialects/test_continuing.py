"""Going on from the text of an answer."""

import json

import pytest

from fleetgate import sse
from fleetgate.dialects.continuing import ASSISTANT, FLAGS, LARGEST, PREFIX, Following, Heard, onward
from fleetgate.domain import Usage


def chunk(delta, finish=None, **members):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": "1", "created": 5, "model": "m", "choices": [choice], **members}
    return sse.frame(json.dumps(said).encode())


def heard(*texts):
    found = Heard(chat=True)
    found.add(chunk({"role": "assistant", "content": ""}))
    for text in texts:
        found.add(chunk({"content": text}))
    return found


def test_what_is_kept():
    found = heard("a", "bc ")
    assert (found.text, found.characters, found.tokens, found.fit) == ("abc ", 4, 2, True)
    assert (found.id, found.created, found.model) == ("1", 5, "m")


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0}]},
        {"refusal": "no"},
        {"content": ["a"]},
        {"content": "a" * (LARGEST + 1)},
    ],
)
def test_what_is_no_plain_text_is_not_continued(delta):
    found = heard("a")
    found.add(chunk(delta))
    assert not found.fit


def test_completions_are_heard_too():
    found = Heard(chat=False)
    found.add(sse.frame(b'{"id":"1","choices":[{"index":0,"text":"a"}]}'))
    assert found.text == "a"


@pytest.mark.parametrize(
    ("way", "last", "further"),
    [
        (ASSISTANT, {"role": "assistant", "content": "ab"}, {}),
        (PREFIX, {"role": "assistant", "content": "ab", "prefix": True}, {}),
        (
            FLAGS,
            {"role": "assistant", "content": "ab"},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
    ],
)
def test_the_request_for_the_rest(way, last, further):
    user = {"role": "user", "content": "hello"}
    members = {"model": "m", "messages": [user], "max_tokens": 10, "max_completion_tokens": 2}
    asked = json.loads(onward(members, way, heard("a", "b"), chat=True))
    assert asked == {
        **members,
        "messages": [user, last],
        **further,
        "max_tokens": 8,
        "max_completion_tokens": 1,
    }


def test_the_rest_of_a_completion():
    asked = json.loads(onward({"model": "m", "prompt": "once "}, "", heard("upon"), chat=False))
    assert asked == {"model": "m", "prompt": "once upon"}


def turned(first, *frames):
    following = Following(first)
    return [json.loads(sse.data_of(one)) for one in map(following.turn, frames) if one]


def test_frames_of_the_rest():
    found = turned(
        heard("a"),
        chunk({"role": "assistant", "content": ""}, id="2", created=9),
        chunk({"role": "assistant", "content": "b"}, id="2", created=9),
        chunk({}, "stop", id="2"),
    )
    assert [one["choices"][0]["delta"] for one in found] == [{"content": "b"}, {}]
    assert {(one["id"], one["created"]) for one in found} == {("1", 5)}
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("before", "after", "rest"),
    [
        ("a ", " b", "b"),
        ("a", " b", " b"),
        ("a\n\n", "\nb", "b"),
        ("a\n ", "\n b", "b"),
        ("a  ", " b", "b"),
        ("a ", "b", "b"),
        ("a ", "\nb", "\nb"),
    ],
)
def test_white_space_comes_once(before, after, rest):
    (found,) = turned(heard(before), chunk({"content": after}))
    assert found["choices"][0]["delta"]["content"] == rest


def test_only_the_first_white_space_is_looked_at():
    found = turned(heard("a "), chunk({"content": "b"}), chunk({"content": " c"}))
    assert [one["choices"][0]["delta"]["content"] for one in found] == ["b", " c"]


def test_the_usage_is_that_of_both():
    told = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    frame = sse.frame(json.dumps({"id": "2", "choices": [], "usage": told}).encode())
    (found,) = turned(heard("a", "b"), frame)
    assert found["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def test_the_end_mark_and_comments_go_through():
    following = Following(heard("a"))
    for frame in (b"data: [DONE]\n\n", b": ping\n\n"):
        assert following.turn(frame) == frame


def test_the_usage_of_the_second_part_alone_is_kept():
    heard = Heard(chat=True)
    heard.add(sse.frame(b'{"choices":[{"delta":{"content":"x"}}]}'))
    following = Following(heard)
    following.turn(sse.frame(b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}'))
    assert following.usage == Usage(9, 3)


@pytest.mark.parametrize("choice", ['"x"', "null", '{"delta":[1]}', '{"delta":{"content":7}}'])
def test_what_is_no_answer_is_not_continued(choice):
    frame = sse.frame(b'{"choices":[%b]}' % choice.encode())
    heard = Heard(chat=True)
    heard.add(frame)
    assert not heard.characters
    Following(heard).turn(frame)
