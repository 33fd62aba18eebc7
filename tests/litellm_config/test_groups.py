import pytest
from tests.support.litellm import converted, said, steps

from fleetgate.errors import FailureClass
from fleetgate.litellm_config.groups import CLASSES

THREE = """
model_list:
  - {model_name: a, litellm_params: {model: ollama/one, api_base: "http://gpu1:11434"}}
  - {model_name: b, litellm_params: {model: ollama/two, api_base: "http://gpu1:11434"}}
  - {model_name: c, litellm_params: {model: gpt-4o}, model_info: {id: the-cloud}}
"""
A, B, C = "gpu1/ollama/one", "gpu1/ollama/two", "openai/gpt-4o"
PLAIN = ["next", "refused_content"]


def pools(text, name):
    return [step["pool"] for step in steps(text, name)]


def test_a_group_alone_is_one_step_with_three_attempts():
    assert steps(THREE, "a") == [{"pool": A, "tries": 3}]
    assert "attempts" not in converted(THREE).tree["roles"]["a"]


def test_fallbacks_are_steps_and_every_one_is_reached():
    text = f"{THREE}router_settings: {{fallbacks: [{{a: [b, c]}}]}}\n"
    assert steps(text, "a") == [
        {"pool": A, "tries": 1},
        {"pool": B, "tries": 2, "on": PLAIN},
        {"pool": C, "tries": 3, "on": PLAIN},
    ]
    assert pools(text, "b") == [B]


def test_fallbacks_of_targets_follow_and_nobody_is_asked_twice():
    text = f"{THREE}router_settings: {{fallbacks: [{{a: [b]}}, {{b: [c, a]}}, {{c: [a]}}]}}\n"
    assert (pools(text, "a"), pools(text, "b"), pools(text, "c")) == ([A, B, C], [B, C, A], [C, A, B])


def test_max_fallbacks_is_a_depth():
    text = f"{THREE}router_settings: {{max_fallbacks: 1, fallbacks: [{{a: [b]}}, {{b: [c]}}]}}\n"
    assert pools(text, "a") == [A, B]


def test_default_fallbacks_are_for_groups_without_their_own():
    text = f"{THREE}litellm_settings: {{default_fallbacks: [c], fallbacks: [{{a: [b]}}]}}\n"
    assert (pools(text, "a"), pools(text, "b"), pools(text, "c")) == ([A, B, C], [B, C], [C])


def test_router_settings_win_over_litellm_settings():
    text = f"""{THREE}
litellm_settings: {{fallbacks: [{{a: [b]}}]}}
router_settings: {{fallbacks: [{{a: [c]}}]}}
"""
    assert pools(text, "a") == [A, C]


@pytest.mark.parametrize("target", ["other", "the-cloud", "gpt-4o", "{model: c, temperature: 1}"])
def test_a_target_is_a_group_an_alias_an_id_or_an_upstream_name(target):
    text = f"{THREE}router_settings: {{model_group_alias: {{other: c}}, fallbacks: [{{a: [{target}]}}]}}\n"
    assert pools(text, "a") == [A, C]
    assert set(converted(text).tree["roles"]) == {"a", "b", "c"}


def test_a_target_or_group_that_is_nothing_is_told_at_its_place():
    document = converted(f"{THREE}router_settings:\n  fallbacks:\n    - a: [nobody, c]\n    - d: [c]\n")
    assert said(document) == [
        "c.yaml:9:7: router_settings.fallbacks[1].d: no group is called d; its fallbacks are never used",
        "c.yaml:8:11: router_settings.fallbacks[0].a[0]: nothing is called nobody; this fallback is left out",
    ]  # fmt: skip
    assert [step["pool"] for step in document.tree["roles"]["a"]["use"]] == [A, C]


def test_a_name_without_its_provider_prefix_finds_the_fallbacks():
    text = THREE.replace("model_name: a,", "model_name: x/a,") + "router_settings: {fallbacks: [{a: [c]}]}\n"
    assert pools(text, "x/a") == [A, C]
    assert said(converted(text)) == []


def test_an_alias_with_fallbacks_of_its_own_is_a_role():
    text = f"{THREE}router_settings: {{model_group_alias: {{x: a, y: a}}, fallbacks: [{{x: [c]}}]}}\n"
    assert (pools(text, "a"), pools(text, "x")) == ([A], [A, C])
    assert converted(text).tree["aliases"] == {"y": "a"}


def test_fallbacks_by_class():
    text = f"""{THREE}
litellm_settings:
  context_window_fallbacks: [{{a: [b]}}]
  content_policy_fallbacks: [{{a: [c]}}]
  fallbacks: [{{a: [c]}}]
"""
    first, context, content, general = steps(text, "a")
    assert (first, context, content) == (
        {"pool": A, "tries": 2},
        {"pool": B, "tries": 2, "on": ["context_too_long"]},
        {"pool": C, "tries": 2, "on": ["refused_content"]},
    )
    # Both classes have a map, so plain fallbacks are for neither.
    assert not {"context_too_long", "refused_content", "next", "bad_request"} & set(general["on"])
    assert {"server_error", "unsent_unreachable", "nothing_available", "rate_limited"} <= set(general["on"])


def test_a_class_whose_map_leaves_a_group_out_stops_there():
    text = f"{THREE}litellm_settings: {{context_window_fallbacks: [{{b: [c]}}], fallbacks: [{{a: [c]}}]}}\n"
    _, general = steps(text, "a")
    assert "context_too_long" not in general["on"]
    assert "refused_content" in general["on"]


def test_order_is_a_ladder():
    text = """
model_list:
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu3:1", stream_timeout: 4}}
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu2:1", order: 2}}
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu1:1", order: '1'}}
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu0:1", order: 1}}
"""
    assert steps(text, "a") == [
        {"pool": ["gpu1/ollama/x", "gpu0/ollama/x"], "tries": 1},
        {"pool": "gpu2/ollama/x", "tries": 2},
        {"pool": "gpu3/ollama/x", "first_token": "4s", "tries": 3},
    ]


def balanced(first, second, strategy="simple-shuffle"):
    text = f"""
model_list:
  - {{model_name: a, litellm_params: {{model: ollama/x, api_base: "http://gpu1:1", {first}}}}}
  - {{model_name: a, litellm_params: {{model: ollama/x, api_base: "http://gpu2:1", {second}}}}}
router_settings: {{routing_strategy: {strategy}}}
"""
    (step,) = steps(text, "a")
    assert step["pool"] == ["gpu1/ollama/x", "gpu2/ollama/x"]
    return tuple(step["policy"]["split"].values()) if "policy" in step else None


@pytest.mark.parametrize(
    ("first", "second", "split"),
    [
        ("", "", None),
        ("weight: 3", "weight: 1", (3, 1)),
        ("weight: 3, rpm: 1", "rpm: 5", (3, 0)),
        ("rpm: 10", "rpm: '5', tpm: 7", (10, 5)),
        ("tpm: 1000", "", (1000, 0)),
        ("weight: 0", "weight: 0, rpm: 4", (0, 4)),
        ("weight: 0", "weight: 0", None),
        ("weight: 1e-7", "weight: 1", (1e-7, 1)),
    ],
)
def test_shares_go_by_weight_else_rpm_else_tpm(first, second, split):
    assert balanced(first, second) == split


def test_weights_count_for_one_strategy_alone():
    assert balanced("weight: 3", "weight: 1", "least-busy") is None


@pytest.mark.parametrize(
    ("params", "router", "settings", "limits"),
    [
        ("timeout: 3", "timeout: 9", "request_timeout: 8", ("3s", "3s")),
        ("stream_timeout: '2.5', timeout: 60", "", "", ("2500ms", "1m")),
        ("", "stream_timeout: 5, timeout: 9", "", ("5s", "9s")),
        ("", "", "request_timeout: 600", ("10m", "10m")),
        ("timeout: 12:30", "", "", ("750s", "750s")),
        ("timeout: 010", "", "", ("8s", "8s")),
        ("timeout: soon", "", "", (None, None)),
        ("timeout: 0", "", "", (None, None)),
        ("timeout: on", "", "", (None, None)),
    ],
)
def test_time_limits(params, router, settings, limits):
    text = f"""
model_list: [{{model_name: a, litellm_params: {{model: ollama/x, {params}}}}}]
router_settings: {{{router}}}
litellm_settings: {{{settings}}}
"""
    (step,) = converted(text).tree["roles"]["a"]["use"]
    assert (step.get("first_token"), step.get("answer")) == limits


def test_embeddings_have_a_limit_for_the_whole_answer_and_stay_with_their_model():
    text = """
model_list:
  - {model_name: e, litellm_params: {model: ollama/bge, timeout: 5}, model_info: {mode: embedding}}
  - {model_name: f, litellm_params: {model: ollama/other}, model_info: {mode: embedding}}
  - {model_name: g, litellm_params: {model: openai/bge, api_base: "http://gpu2:8000/v1"}}
router_settings:
  fallbacks: [{e: [f, g]}]
"""
    assert steps(text, "e") == [
        {"pool": "localhost/ollama/bge", "answer": "5s", "tries": 2},
        {"pool": "gpu2/openai/bge", "tries": 3, "on": PLAIN},
    ]
    (told,) = said(converted(text))
    assert told == (
        "c.yaml:7:20: router_settings.fallbacks[0].e[0]: embeddings of e cannot come from f, "
        "which is another model; this fallback is left out"
    )


def test_written_retries_set_tries_and_the_attempts_of_the_longest_path():
    text = f"""{THREE}
router_settings: {{num_retries: 0, fallbacks: [{{a: [b]}}]}}
litellm_settings: {{num_retries: 7}}
"""
    document = converted(text)
    assert [step["tries"] for step in document.tree["roles"]["a"]["use"]] == [1, 1]
    assert (document.tree["roles"]["a"]["attempts"], document.tree["roles"]["b"]["attempts"]) == (2, 1)
    (told,) = said(document, "note")
    assert told == (
        "c.yaml:7:19: router_settings.num_retries: retries as written: up to 2 attempts for one request, to a"
    )


def test_retries_of_one_entry_count_for_the_roles_that_use_it():
    text = THREE.replace("model: gpt-4o", "model: gpt-4o, num_retries: 4")
    roles = converted(f"{text}router_settings: {{fallbacks: [{{a: [c]}}]}}\n").tree["roles"]
    assert [step["tries"] for step in roles["a"]["use"]] == [3, 5]
    assert (roles["a"]["attempts"], roles["c"]["attempts"]) == (8, 5)
    assert "attempts" not in roles["b"]


def test_a_retry_policy_is_a_step_for_each_class():
    text = f"""{THREE}
router_settings:
  num_retries: 1
  retry_policy: {{TimeoutErrorRetries: 2, RateLimitErrorRetries: 0, BadRequestErrorRetries: 3}}
  model_group_retry_policy: {{b: {{InternalServerErrorRetries: '4', DefaultRetries: 0, TimeoutError: 1}}}}
"""
    once, timeouts, others = steps(text, "a")
    assert (once, timeouts) == (
        {"pool": A, "tries": 1},
        {"pool": A, "tries": 2, "on": ["first_token_timeout"]},
    )
    assert others["tries"] == 1
    assert {"server_error", "cut_short"} <= set(others["on"])
    assert not {"first_token_timeout", "rate_limited", "bad_request"} & set(others["on"])
    assert steps(text, "b") == [
        {"pool": B, "tries": 1},
        {"pool": B, "tries": 4, "on": ["garbage", "server_error"]},
    ]
    assert converted(text).tree["roles"]["b"]["attempts"] == 5
    assert any(
        "unknown key TimeoutError; known: RateLimitErrorRetries" in one for one in said(converted(text))
    )


def test_classes_of_a_retry_policy_are_of_the_failure_table():
    assert {one for classes in CLASSES.values() for one in classes} <= set(FailureClass)


def test_a_group_without_a_usable_entry_has_its_fallbacks_or_nothing():
    text = f"""{THREE}
  - {{model_name: d, litellm_params: {{model: azure/x}}}}
  - {{model_name: e, litellm_params: {{model: azure/y}}}}
router_settings: {{fallbacks: [{{d: [c]}}, {{a: [e, d]}}], model_group_alias: {{x: d, y: e}}}}
"""
    document = converted(text)
    assert (pools(text, "d"), pools(text, "a")) == ([C], [A, C])
    assert "e" not in document.tree["roles"]
    assert document.tree["aliases"] == {"x": "d"}
    assert said(document)[-1] == (
        "c.yaml:8:6: model_list[4].model_name: group e has no usable entry and no fallback; "
        "nobody can ask for it"
    )
