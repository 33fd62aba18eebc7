"""The outbound table holds."""

import pytest

from fleetgate.dialects.anthropic.upstream import table
from fleetgate.dialects.anthropic.upstream.answer import finish
from fleetgate.dialects.anthropic.upstream.request import outbound
from fleetgate.dialects.fates import Fate
from fleetgate.errors import Refused

PLAIN = {"model": "claude-x", "messages": [{"role": "user", "content": "Say hello."}]}
SOMETHING = {"n": 2, "audio": {}, "functions": [], "function_call": "auto", "web_search_options": {}}
QUIET = {
    "stream_options": {"include_usage": True},
    "continue_final_message": True,
    "add_generation_prompt": False,
}


def rows(fate):
    return [row.member for row in table.MEMBERS if row.fate is fate]


@pytest.mark.parametrize("member", rows(Fate.REFUSED))
def test_what_nobody_there_can_follow_is_refused(member):
    with pytest.raises(Refused) as caught:
        outbound(PLAIN | {member: SOMETHING[member]}, most=9)
    assert caught.value.param == member


@pytest.mark.parametrize("member", rows(Fate.SILENT))
def test_what_says_nothing_there_is_left_out(member):
    assert outbound(PLAIN | {member: QUIET[member]}, most=9) == outbound(PLAIN, most=9)


@pytest.mark.parametrize("member", ["seed", "logprobs", "logit_bias", "store", "verbosity"])
def test_other_settings_are_named(member):
    found = outbound(PLAIN | {member: 1}, most=9)
    assert found.left_out == (member,)
    assert found.members == outbound(PLAIN, most=9).members


@pytest.mark.parametrize(("asked", "effort"), table.EFFORTS.items())
def test_efforts(asked, effort):
    found = outbound(PLAIN | {"reasoning_effort": asked}, most=9).members
    assert found["output_config"] == {"effort": effort}
    assert found["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(("asked", "chosen"), table.CHOICES.items())
def test_choices(asked, chosen):
    tool = {"type": "function", "function": {"name": "t"}}
    found = outbound(PLAIN | {"tools": [tool], "tool_choice": asked}, most=9).members
    assert found["tool_choice"] == {"type": chosen}


@pytest.mark.parametrize(("reason", "expected"), [*table.FINISHES.items(), ("new", "stop"), ([], "stop")])
def test_finish_reasons(reason, expected):
    assert finish(reason) == expected
