"""Steps over several pools, and the words of `on:`."""

import pytest
from tests.support.litellm import names

from fleetgate.config.load import load
from fleetgate.errors import MOVING_ON, FailureClass
from fleetgate.routing.plan import Step, steps_after

FLEET = """
nodes:
  one: {address: 10.0.0.1, engines: [{kind: ollama, models: [{name: a}, {name: b}]}]}
  two: {address: 10.0.0.2, engines: [{kind: ollama, models: [{name: a}]}]}
"""


def steps(role, **others):
    more = "".join(f"  {name}: {text}\n" for name, text in others.items())
    found = load(f"{FLEET}roles:\n  r: {role}\n{more}", {})
    assert found.settings is not None, [one.render() for one in found.errors]
    return names(found.settings).resolve("r").steps


def ids(step):
    return [one.id for one in step.candidates]


def test_pools_of_one_step_are_taken_together_and_nobody_twice():
    (step,) = steps("{policy: chain, use: [{pool: [b, two/ollama/a, a], policy: spread}]}")
    assert ids(step) == ["one/ollama/b", "two/ollama/a", "one/ollama/a"]
    assert (step.pool, step.policy) == ("b + two/ollama/a + a", "spread")


def test_a_list_of_one_role_keeps_its_steps_and_a_longer_one_takes_its_deployments():
    inner = {"inner": "{policy: chain, use: [a, b]}"}
    assert [ids(step) for step in steps("{policy: chain, use: [{pool: [inner]}]}", **inner)] == [
        ["one/ollama/a", "two/ollama/a"],
        ["one/ollama/b"],
    ]
    (step,) = steps("{policy: chain, use: [{pool: [inner, b]}]}", **inner)
    assert ids(step) == ["one/ollama/a", "two/ollama/a", "one/ollama/b"]


@pytest.mark.parametrize(
    "role",
    [
        "{policy: chain, use: [{pool: [a, b], policy: {split: {a: 4, b: 1}}}]}",
        "{policy: {split: {a: 4, b: 1}}, use: [{pool: [a, b]}]}",
        "{policy: {split: {a: 4, b: 1}}, use: [a, b]}",
    ],
)
def test_a_pools_weight_is_shared_among_its_own(role):
    (step,) = steps(role)
    assert step.policy == "split"
    assert step.weights == {"one/ollama/a": 2.0, "two/ollama/a": 2.0, "one/ollama/b": 1.0}


def test_next_stands_for_every_class_that_moves_on():
    first, second, third = steps(
        "{policy: chain, use: [a, {pool: b, on: [next, refused_content]}, {pool: b, on: [full]}]}"
    )
    assert first.on is None
    assert second.on == MOVING_ON | {FailureClass.REFUSED_CONTENT, FailureClass.NOTHING_AVAILABLE}
    assert third.on == {FailureClass.FULL}


@pytest.mark.parametrize(
    ("role", "finding"),
    [
        ("{policy: chain, use: [{pool: []}]}", "roles.r.use[0].pool: is empty; at least 1 is needed"),
        ("{policy: chain, use: [{pool: [a, c]}]}", "roles.r.use[0].pool[1]: nothing is called c;"),
        (
            "{policy: chain, use: [{pool: [a], policy: {split: {b: 1}}}]}",
            "roles.r.use[0].policy.split.b: b is not among the step's pools; write one of a",
        ),
        ("{policy: chain, use: [{pool: a, on: [nxt]}]}", "roles.r.use[0].on: no failure is called 'nxt';"),
        ("{policy: chain, use: [{pool: [a, r]}]}", "roles.r: roles go round in a circle: r -> r"),
    ],
)
def test_what_check_says(role, finding):
    found = load(f"{FLEET}roles:\n  r: {role}\n", {})
    assert any(finding in one.render() for one in found.errors), [one.render() for one in found.errors]


def test_steps_that_only_a_special_failure_leads_into_take_no_attempt_in_reserve():
    plain = Step("a", ())
    special = Step("b", (), on=frozenset({FailureClass.CONTEXT_TOO_LONG}))
    listed = Step("c", (), on=frozenset({FailureClass.SERVER_ERROR}))
    assert steps_after((plain, special, listed, plain), 0) == 2
    assert steps_after((plain, special), 0) == 0
