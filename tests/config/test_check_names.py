import pytest

from fleetgate.config.load import load

LISTED = (
    "nodes: {box: {address: box, engines: [{kind: vllm, models: [{id: org/big, name: big, aliases: b}]}]}}\n"
)
OPEN = "nodes: {box: {address: box, engines: [{kind: ollama}]}}\n"
OPEN_VLLM = "nodes: {box: {address: box, engines: [{kind: vllm}]}}\n"


def findings(text):
    return [f"{found.severity} {found.render().removeprefix('<text>:')}" for found in load(text, {}).findings]


@pytest.mark.parametrize(
    "name", ["box/vllm/big", "box/big", "big", "org/big", "box/org/big", "b", "other", "tier"]
)
def test_everything_that_a_pool_may_be_called(name):
    others = "  other: {policy: chain, use: [{pool: big, as: tier}]}\n"
    assert findings(f"{LISTED}roles:\n  r: {{use: ['{name}']}}\n{others}") == []
    assert findings(f"{LISTED}aliases: {{a: '{name}', z: a}}\nroles:\n{others}") == []


@pytest.mark.parametrize(
    ("nodes", "pool", "part"),
    [
        (
            LISTED,
            "box/bgi",
            "error 2:19: roles.r.use[0]: box has no such model: box/bgi; did you mean box/b",
        ),
        (
            LISTED,
            "bxo/big",
            "error 2:19: roles.r.use[0]: no node or provider is called bxo; did you mean box/big?",
        ),
        (LISTED, "nowhere/x", "error 2:19: roles.r.use[0]: nothing is called nowhere/x"),
        (LISTED, "bigg", "error 2:19: roles.r.use[0]: nothing is called bigg; did you mean big"),
        (OPEN, "box/x", "note 2:19: roles.r.use[0]: box/x is not listed in the file"),
        (OPEN, "x", "note 2:19: roles.r.use[0]: nothing in the file is called x; it is used once"),
        (OPEN, "nowhere/x", "error 2:19: roles.r.use[0]: nothing is called nowhere/x"),
        (OPEN_VLLM, "org/x", "warning 2:19: roles.r.use[0]: nothing in the file is called org/x"),
        ("# nothing\n", "x", "list models under nodes: or providers:"),
    ],
)
def test_a_pool_that_names_nothing(nodes, pool, part):
    (found,) = findings(f"{nodes}roles: {{r: {{use: [{pool}]}}}}")
    assert part in found


def test_a_planned_node_may_be_named_before_its_models_are_known():
    (found,) = findings("nodes: {later: {planned: true, address: TBD}}\nroles: {r: {use: [later/x]}}")
    assert found.startswith("note 2:19: roles.r.use[0]: later/x is not listed")


def test_a_planned_node_explains_no_mistyped_name():
    """Nothing there is asked, so nothing is found there; a note would hide the mistake among good ones."""
    later = "later: {planned: true, address: TBD, engines: [{kind: ollama}]}"
    here = "here: {engines: [{kind: ollama, models: [{name: qwen3}]}]}"
    (found,) = findings(f"nodes:\n  {later}\n  {here}\nroles: {{r: {{use: [qwem3]}}}}")
    assert found.startswith("warning 4:19: roles.r.use[0]: nothing is called qwem3; did you mean qwen3")


def test_an_alias_that_names_nothing():
    assert "error 2:14: aliases.a: nothing is called c" in findings(f"{LISTED}aliases: {{a: c}}")[0]


def test_circles():
    found = findings(f"{LISTED}aliases: {{a: b2, b2: a}}")
    assert "aliases go round in a circle: a -> b2 -> a" in found[0]
    found = findings(f"{LISTED}roles: {{a: {{use: [b2]}}, b2: {{use: [big, c]}}}}\naliases: {{c: a}}")
    assert len(found) == 1
    assert "roles go round in a circle: a -> b2 -> a" in found[0]


def test_one_name_for_two_things():
    assert (
        "a role has this name too"
        in findings(f"{LISTED}roles: {{a: {{use: [big]}}}}\naliases: {{a: big}}")[0]
    )
    text = f"{LISTED}roles: {{a: {{policy: chain, use: [{{pool: big, as: a}}]}}}}"
    assert "a role is called a too" in findings(text)[0]


def test_limits_of_a_step_need_a_chain():
    text = f"{LISTED}roles: {{r: {{use: [{{pool: big, first_token: 3s}}]}}}}"
    assert "roles.r.use[0].first_token: first_token is a limit of a step" in findings(text)[0]
    assert findings(text)[0].endswith("write policy: chain")
    assert findings(text.replace("{use:", "{policy: chain, use:")) == []
    assert findings(f"routing: chain\n{text}") == []


def test_failure_classes_of_a_step():
    text = f"{LISTED}roles: {{r: {{policy: chain, use: [{{pool: big, on: [%s]}}]}}}}"
    assert findings(text % "rate_limited") == []
    assert "did you mean rate_limited?" in findings(text % "rate_limit")[0]


@pytest.mark.parametrize(
    ("policy", "part"),
    [
        ("split", "error 2:21: roles.r.policy: policy split has no weights"),
        (
            "{split: {small: 1}}",
            "error 2:30: roles.r.policy.split.small: small is not among the role's pools",
        ),
        ("{split: {big: 0}}", "every weight is zero"),
        ("{split: {big: -1}}", "a weight below zero"),
        ("{best: {speed: 0, quality: 0, cost: 0}}", "every weight is zero"),
    ],
)
def test_policies(policy, part):
    (found,) = findings(f"{LISTED}roles: {{r: {{policy: {policy}, use: [big]}}}}")
    assert part in found


def test_policies_that_predict_have_nothing_to_add():
    for policy in ("best", "fastest", "cheapest", "{name: fastest, prefer: local}", "{prefer: local}"):
        assert findings(f"{LISTED}roles: {{r: {{policy: {policy}, use: [big]}}}}") == []


def test_a_policy_inside_a_step():
    steps = "{pool: big, policy: spread}, {pool: big, policy: split}"
    text = f"{LISTED}roles: {{r: {{policy: chain, use: [{steps}]}}}}"
    assert len(findings(text)) == 1


@pytest.mark.parametrize(
    ("engines", "resume", "warned"),
    [
        ("{kind: llamacpp}", "exact", "needs two llama.cpp servers with the same file"),
        ("{kind: llamacpp}, {kind: vllm}", "exact", "needs two llama.cpp servers"),
        ("{kind: llamacpp}, {kind: llamacpp, port: 8081}", "exact", ""),
        ("{kind: vllm}", "text", "needs two deployments"),
        ("{kind: vllm}, {kind: sglang}", "text", ""),
    ],
)
def test_an_answer_that_nobody_could_go_on_with(engines, resume, warned):
    nodes = f"nodes: {{n: {{address: 10.0.0.5, engines: [{engines}]}}}}"
    text = f"{nodes}\nroles: {{r: {{use: [m], resume: {resume}}}}}"
    found = [one for one in findings(text) if "resume" in one]
    assert bool(found) is bool(warned)
    assert not found or warned in found[0]
