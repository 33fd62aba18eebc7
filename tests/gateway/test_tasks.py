import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.affinity import Affinity
from fleetgate.domain import Capability
from fleetgate.forecast.task import bits
from fleetgate.gateway.body import BodyBudget, parse
from fleetgate.gateway.demands import BLOCK, MOST_BLOCKS, OPENING
from fleetgate.gateway.tasks import blocks, task_of

TOOL = {"type": "function", "function": {"name": "f"}}


def task(capability=Capability.CHAT, conversation="", *, beginning=True, **members):
    raw = json.dumps({"model": "m", **members}).encode()
    return task_of(parse(raw, BodyBudget()), capability, "ann", conversation, beginning=beginning)


def chat(*said, model="m", **members):
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    return task(messages=messages, model=model, **members)


def test_what_is_taken_from_a_chat():
    found = task(messages="x" * 1000, max_tokens=50, n=3, tools=[TOOL])
    assert (found.capability, found.principal, found.longest, found.choices) == (
        Capability.CHAT,
        "ann",
        50,
        3,
    )
    assert found.needs == bits((Capability.CHAT, Capability.TOOLS))
    assert found.prompt > 500
    assert (found.units, found.conversation) == (1.0, "")


def test_other_work_has_no_tools_no_conversation_and_its_own_units():
    found = task(Capability.EMBED, "talk", input=["a" * 1000, "b", "c"], tools=[TOOL])
    assert (found.needs, found.units, found.conversation) == (bits((Capability.EMBED,)), 3.0, "")
    assert found.beginning == ()
    found = task(Capability.IMAGE, prompt="a cat", n=4)
    assert (found.needs, found.units, found.choices) == (bits((Capability.IMAGE,)), 4.0, 4)
    found = task(Capability.SPEAK, input="größe", voice="alloy")
    assert (found.needs, found.units) == (bits((Capability.SPEAK,)), 5.0)
    assert task(Capability.COMPLETE, prompt="x", tools=[TOOL]).needs == bits((Capability.COMPLETE,))


def test_one_conversation_with_two_models_is_two():
    names = {task(conversation="talk", model=model).conversation for model in ("m", "n")}
    assert len(names) == 2
    assert all("talk" in name for name in names)


def test_the_beginning_is_made_only_when_asked_for_and_of_whole_blocks():
    assert task(messages="x" * 1000, beginning=False).beginning == ()
    assert task(messages="x" * (BLOCK - 3)).beginning == ()
    assert len(task(messages="x" * BLOCK).beginning) == 1
    assert len(task(messages="x" * 1000).beginning) == 1002 // BLOCK
    assert len(task(messages="x" * 1_000_000).beginning) == MOST_BLOCKS
    assert len(task(Capability.COMPLETE, prompt="x" * 1000).beginning) == 1002 // BLOCK


def test_a_prompt_that_goes_on_begins_like_the_one_before():
    """Also where the list of messages ended at the edge of a block."""
    for length in range(600, 600 + BLOCK):
        first = chat("x" * length).beginning
        second = chat("x" * length, "an answer", "and on " * 100).beginning
        assert second[: len(first)] == first


def test_another_model_or_other_tools_begin_otherwise():
    plain = chat("x" * 1000)
    for other in (chat("x" * 1000, model="n"), chat("x" * 1000, tools=[TOOL])):
        assert not set(plain.beginning) & set(other.beginning)


@given(st.binary(max_size=3 * BLOCK), st.binary(max_size=3 * BLOCK))
def test_blocks_are_alike_exactly_as_far_as_the_bytes_are(one, other):
    found = [blocks("m", raw) for raw in (one, other)]
    alike = sum(a == b for a, b in zip(*found, strict=False))
    whole = min(len(one), len(other)) // BLOCK + 1
    same = next((n for n in range(whole) if one[: (n + 1) * BLOCK] != other[: (n + 1) * BLOCK]), whole)
    assert alike == min(same, *(len(each) for each in found))


def test_at_most_so_many_blocks_are_made():
    assert len(blocks("m", bytes(OPENING))) == MOST_BLOCKS


@pytest.mark.parametrize("turns", [2, 5])
def test_a_conversation_without_a_name_is_found_by_its_beginning(turns):
    known = Affinity(300.0, 1000)
    said = ["tell me a story about a lighthouse " * 20]
    for _ in range(turns):
        asked = chat(*said)
        known.note("a", asked, 1.0)
        said += ["once upon a time " * 20, "go on"]
        assert known.hits(chat(*said), 1.0)["a"] >= 0.3
