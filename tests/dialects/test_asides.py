"""System texts in the midst of a conversation: where they go."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects.asides import placed


def said(role, content="x"):
    return {"role": role, "content": content}


MARKED = "<system-reminder>\nlater\n</system-reminder>"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
LATER = said("system", "later")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([said("system"), said("user")], [said("system"), said("user")]),
        ([said("system", "a"), said("system", "b"), said("user")], [said("system", "a\nb"), said("user")]),
        ([said("user"), LATER], [said("user", f"x\n{MARKED}")]),
        ([said("user", "a"), said("user", "b"), said("user", "c")], [said("user", "a\nb\nc")]),
        (
            [said("user", "a"), said("user", [PICTURE]), said("assistant")],
            [said("user", [{"type": "text", "text": "a"}, PICTURE]), said("assistant")],
        ),
        ([said("tool"), said("tool"), said("user")], [said("tool"), said("tool"), said("user")]),
        ([said("user"), LATER, LATER], [said("user", f"x\n{MARKED}\n{MARKED}")]),
        ([said("tool"), LATER, said("user")], [said("tool"), said("user", f"{MARKED}\nx")]),
        ([said("tool"), LATER, said("assistant")], [said("tool"), said("user", MARKED), said("assistant")]),
        ([said("user"), said("assistant"), LATER], [said("user"), said("assistant"), said("user", MARKED)]),
        (
            [said("user", [PICTURE]), LATER],
            [said("user", [PICTURE, {"type": "text", "text": MARKED}])],
        ),
        (
            [said("assistant"), LATER, LATER, said("user", [PICTURE])],
            [
                said("assistant"),
                said("user", [{"type": "text", "text": f"{MARKED}\n{MARKED}"}, PICTURE]),
            ],
        ),
    ],
)
def test_where_they_go(turns, expected):
    assert placed(turns) == expected


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(min_size=1))))
def test_no_word_is_lost_and_one_system_is_left(turns):
    found = placed([said(role, text) for role, text in turns])
    assert [one["role"] for one in found].count("system") <= 1
    assert all(one["role"] != "system" for one in found[1:])
    roles = [one["role"] for one in found]
    assert ("user", "user") not in list(itertools.pairwise(roles))
    whole = "\n".join(one["content"] for one in found)
    at = 0
    for _, text in turns:
        at = whole.index(text, at)
    kept = [one["role"] for one in found if one["role"] in ("assistant", "tool")]
    assert kept == [role for role, _ in turns if role in ("assistant", "tool")]


def test_what_came_in_stays_as_it_was():
    turns = [said("user", [PICTURE]), LATER]
    placed(turns)
    assert turns == [said("user", [PICTURE]), LATER]
