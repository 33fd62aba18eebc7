import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.litellm import KEYS, MASTER, converted, loaded, said

from fleetgate.config.findings import Document, Positions
from fleetgate.litellm_config import convert, keys

ONE = "model_list: [{model_name: a, litellm_params: {model: ollama/x}}]\n"


def with_general(text):
    return f"{ONE}general_settings: {{{text}}}\n"


# -- the master key and who may ask ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("general", "environ"),
    [
        (f"master_key: {MASTER}", {}),
        ("master_key: os.environ/MINE", {"MINE": MASTER}),
        ("alerting: []", {"LITELLM_MASTER_KEY": MASTER}),
    ],
)
def test_the_master_key_of_the_file_is_ours(general, environ):
    found = loaded(with_general(general), environ)
    assert found.settings is not None
    assert found.settings.gateway.auth == "keys"
    assert found.master_key is not None
    assert found.master_key.reveal() == MASTER
    assert MASTER not in repr(found)


def test_our_own_variable_wins():
    found = loaded(with_general(f"master_key: {MASTER}"), {"FLEETGATE_MASTER_KEY": "fg-another-private-key"})
    assert found.master_key is not None
    assert found.master_key.reveal() == "fg-another-private-key"


def test_a_master_key_from_the_files_own_variables():
    text = f"{with_general('master_key: os.environ/OWN')}environment_variables: {{OWN: {MASTER}}}\n"
    found = loaded(text, {})
    assert found.master_key is not None
    assert found.master_key.reveal() == MASTER


@pytest.mark.parametrize("key", ["sk-1234", "your-master-key", "sk-short", "1234"])
def test_a_weak_master_key_is_a_warning_and_works(key):
    found = loaded(with_general(f"master_key: {key}"), {})
    assert found.settings is not None
    assert found.master_key is not None
    assert found.master_key.reveal() == key
    (weak,) = [one.render() for one in found.findings if "WEAK MASTER KEY" in one.message]
    assert weak == (
        "<text>:2:20: general_settings.master_key: WEAK MASTER KEY; "
        "anybody can guess it: use at least 16 random characters"
    )


def test_a_literal_master_key_is_told_without_showing_it():
    document = converted(with_general(f"master_key: {MASTER}"), {})
    (told,) = [one for one in said(document) if "secret" in one]
    assert told == (
        "c.yaml:2:20: general_settings.master_key: a secret is written out here; "
        "write os.environ/LITELLM_MASTER_KEY and keep the secret out of this file"
    )
    assert MASTER not in repr(document)


def test_a_missing_master_key_closes_the_gateway():
    found = loaded(with_general("master_key: os.environ/NOT_SET"), {})
    assert found.settings is not None
    assert (found.settings.gateway.auth, found.master_key) == ("keys", None)
    (told,) = [one.render() for one in found.findings if "master" in one.path]
    assert told == (
        "<text>:2:20: general_settings.master_key: the master key is missing; "
        "until it is there, the gateway's own generated key is the only one"
    )


def test_without_a_master_key_the_own_networks_may_ask():
    found = loaded(ONE, {"HOSTNAME": "pi", "PROXY_BASE_URL": "https://llm.example.ts.net/llm"})
    assert found.settings is not None
    gateway = found.settings.gateway
    assert gateway.auth == "open"
    assert {"192.168.0.0/16", "100.64.0.0/10", "10.0.0.0/8", "fc00::/7"} <= set(gateway.allow_from)
    assert gateway.hosts == ("pi", "llm.example.ts.net")
    assert any(one.message.startswith("NO MASTER KEY: everybody in private") for one in found.findings)


def test_where_it_listens_and_allowed_addresses():
    text = with_general("allowed_ips: [10.1.0.0/16, 10.2.0.1], max_request_size_mb: 50")
    found = loaded(text, {"PORT": "4100", "SERVER_ROOT_PATH": "/llm/"})
    assert found.settings is not None
    gateway = found.settings.gateway
    assert gateway.listen == ("0.0.0.0:4100",)
    assert gateway.allow_from == ("10.1.0.0/16", "10.2.0.1")
    assert (gateway.base_path, gateway.body_limit) == ("/llm", 50_000_000)
    assert loaded(ONE, {**KEYS, "FLEETGATE_LISTEN": "127.0.0.1:5000"}).settings.gateway.listen == (
        "127.0.0.1:5000",
    )


def test_environment_variables_are_for_the_files_own_references():
    text = """
model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_key: os.environ/A}}]
environment_variables: {A: os.environ/OUTSIDE, B: 12, C: os.environ/GONE}
"""
    found = loaded(text, {"OUTSIDE": "sk-from-outside"})
    assert found.settings is not None
    assert found.settings.providers["openai"].key.reveal() == "sk-from-outside"
    assert found.document.environ == {"A": "sk-from-outside", "B": "12"}
    (told,) = [one.render() for one in found.findings if one.path == "environment_variables.C"]
    assert told == (
        "<text>:3:55: environment_variables.C: environment variable GONE is not set; "
        "the value counts as not written"
    )


# -- routing, health, limits, aliases --------------------------------------------------------------


@pytest.mark.parametrize(
    ("router", "routing"),
    [
        ("", "spread"),
        ("routing_strategy: simple-shuffle", "spread"),
        ("routing_strategy: least-busy", "least_busy"),
        ("routing_strategy: latency-based-routing, routing_strategy_args: {ttl: 10}", "fastest"),
        ("routing_strategy: cost-based-routing", "cheapest"),
        ("routing_strategy: usage-based-routing-v2", "spread"),
        ("routing_strategy: lar1", "spread"),
        ("routing_strategy_args: {speed: 0.4, quality: '0.35'}", {"best": {"speed": 0.4, "quality": 0.35}}),
    ],
)
def test_the_strategy_is_the_policy_of_everything(router, routing):
    assert converted(f"{ONE}router_settings: {{{router}}}\n").tree["routing"] == routing


def test_a_strategy_that_is_not_yet_in_effect_is_told():
    document = converted(f"{ONE}router_settings: {{routing_strategy: lar1}}\n")
    (told,) = said(document)
    assert told == (
        "c.yaml:2:19: router_settings.routing_strategy: strategy lar1 is not yet in effect; "
        "requests are spread evenly"
    )


@pytest.mark.parametrize(
    ("rest", "health"),
    [
        ("", None),
        ("router_settings: {allowed_fails: 0}", {"fails": 1}),
        ("router_settings: {allowed_fails: 2, cooldown_time: '60'}", {"fails": 3, "cool": "1m"}),
        ("litellm_settings: {allowed_fails: 1}", {"fails": 2}),
        ("router_settings: {cooldown_time: 0}", None),
        ("general_settings: {health_check_interval: 60}", None),
        ("general_settings: {background_health_checks: true, health_check_interval: 15.0}", {"every": "15s"}),
    ],
)
def test_health(rest, health):
    assert converted(f"{ONE}{rest}\n").tree.get("health") == health


def test_hard_limits_are_kept_and_told():
    text = """
model_list:
  - {model_name: a, litellm_params: {model: ollama/x, rpm: 30, tpm: '1000', max_parallel_requests: 2}}
general_settings: {global_max_parallel_requests: 14}
"""
    scope = {"deployment": "localhost/ollama/x"}
    assert converted(text).tree["limits"] == [
        {"scope": scope, "requests": 30, "per": "minute"},
        {"scope": scope, "tokens": 1000, "per": "minute"},
        {"scope": scope, "parallel": 2},
        {"scope": "global", "parallel": 14},
    ]
    found = loaded(text)
    assert found.errors == ()
    assert [limit.requests for limit in found.settings.limits] == [30, None, None, None]


def test_aliases():
    document = converted(f"""{ONE}router_settings:
  model_group_alias:
    b: a
    c: {{model: a, hidden: true}}
    d: nobody
    a: a
""")
    assert document.tree["aliases"] == {"b": "a", "c": "a"}
    assert said(document) == [
        "c.yaml:6:5: router_settings.model_group_alias.d: no group is called nobody; this alias is left out"
    ]
    assert any("hidden is not yet in effect" in one for one in said(document, "note"))


def test_an_alias_wins_over_a_group_of_its_name():
    text = """
model_list:
  - {model_name: a, litellm_params: {model: ollama/x}}
  - {model_name: b, litellm_params: {model: ollama/y}}
router_settings: {model_group_alias: {b: a}}
"""
    found = loaded(text)
    assert found.settings is not None
    assert (set(found.settings.roles), found.settings.aliases) == ({"a"}, {"b": "a"})


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "severity", "column", "words"),
    [
        (
            "router_settings: {enable_pre_call_check: true}", "warning", 19,
            "unknown key enable_pre_call_check; did you mean enable_pre_call_checks?",
        ),
        ("litellm_settings: {jsn_logs: 1}", "warning", 20, "unknown key jsn_logs; did you mean json_logs?"),
        ("general_settings: {zzzzzz: 1}", "warning", 20, "unknown key zzzzzz; it is accepted and ignored"),
        ("rooter_settings: {}", "warning", 1, "unknown key rooter_settings; did you mean router_settings?"),
        ("litellm_settings: {callbacks: [a]}", "note", 20, "not yet in effect; it is accepted and ignored"),
        (
            "general_settings: {custom_auth: a.b}", "note", 20,
            "has no effect; code is never imported from a configuration",
        ),
        (
            "general_settings: {global_max_parallel_requests: 3}", "note", 20,
            "taken as documented: it is a limit, enforced over the whole gateway",
        ),
    ],
)  # fmt: skip
def test_every_key_is_in_effect_or_told(rest, severity, column, words):
    section, _, key = rest.partition(": {")
    path = f"{section}.{key.partition(':')[0]}" if len(key) > 1 else section
    assert f"c.yaml:2:{column}: {path}: {words}" in said(converted(f"{ONE}{rest}\n"), severity)


def test_keys_of_entries():
    document = converted("""
model_list:
  - {model_name: a, litellm_params: {model: ollama/x, num_ctx: 4096, api_bas: "http://gpu1:1", tags: [a]}}
  - {model_name: b, litellm_params: {model: ollama/x, num_ctx: 8192, max_retries: 3, drop_params: false}}
""")
    assert said(document) == [
        "c.yaml:3:70: model_list[0].litellm_params.api_bas: unknown key api_bas; did you mean api_base?"
    ]
    assert [one.partition(" model_list")[::2] for one in said(document, "note")] == [
        ("c.yaml:3:96:", "[0].litellm_params.tags: not yet in effect; it is accepted and ignored"),
        ("c.yaml:3:55:", "[0].litellm_params.num_ctx: num_ctx is not yet in effect; it is not sent upstream"),
        (
            "c.yaml:4:70:",
            "[1].litellm_params.max_retries: has no effect; there is one layer of retries, the gateway's own",
        ),
    ]


def test_no_key_is_in_two_tables():
    for known in (keys.TOP, keys.PARAMS, keys.INFO, keys.ROUTER, keys.SETTINGS, keys.GENERAL):
        assert len(known.all) == len(known.read) + len(known.later) + len(known.idle)


# -- odd texts -------------------------------------------------------------------------------------


def test_unquoted_words_that_yaml_reads_as_something_else():
    document = converted("""
model_list:
  - {model_name: 1e-7, litellm_params: {model: ollama/x}}
  - {model_name: 12:30, litellm_params: {model: ollama/x}}
  - {model_name: 010, litellm_params: {model: ollama/x}}
  - {model_name: on, litellm_params: {model: ollama/x}}
""")
    assert list(document.tree["roles"]) == ["1e-7", "750", "8", "True"]
    assert [one.partition(": model_list")[0] for one in said(document)] == [
        "c.yaml:4:6", "c.yaml:5:6", "c.yaml:6:6",
    ]  # fmt: skip


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.floats()
    | st.sampled_from(["a", "b", "*", "ollama/x", "gpt-4o", "openai/y", "os.environ/A", "os.environ/"])
    | st.sampled_from(["http://gpu1:11434", "https://x.org", "http://[", "http://1.2.3.4:99999", "/", "${A}"])
    | st.text(string.printable, max_size=5)
)  # fmt: skip
WORDS = st.sampled_from([*sorted(keys.PARAMS.read | keys.ROUTER.read | keys.INFO.read), "a", "b", "speed"])
VALUES = st.recursive(
    SCALARS, lambda held: st.lists(held, max_size=3) | st.dictionaries(WORDS, held, max_size=4), max_leaves=8
)
ENTRIES = st.fixed_dictionaries(
    {
        "model_name": st.sampled_from(["a", "b", "openai/gpt-4o"]),
        "litellm_params": st.dictionaries(WORDS, SCALARS),
    },
    optional={"model_info": VALUES},
)
FILES = st.fixed_dictionaries(
    {"model_list": st.lists(ENTRIES | VALUES, max_size=4) | VALUES},
    optional=dict.fromkeys(
        sorted(keys.TOP.read - {"model_list", "include"}), st.dictionaries(WORDS, VALUES, max_size=5) | VALUES
    ),
)


@settings(max_examples=150, deadline=None)
@given(FILES)
def test_any_tree_is_converted_and_no_place_is_lost(tree):
    document = convert(Document(tree, Positions()), {"A": "text"})
    assert set(document.tree) <= {
        "gateway", "routing", "health", "nodes", "providers", "roles", "aliases", "limits",
        "cache", "ledger",
    }  # fmt: skip
    json.dumps(document.tree)
    assert document.findings


@settings(max_examples=60, deadline=None)
@given(FILES)
def test_any_file_is_loaded(tree):
    """Whatever is wrong with a LiteLLM file is left out and told; nothing of it stops the gateway."""
    found = loaded(json.dumps(tree), {"A": "text"})
    assert found.errors == ()
    assert found.settings is not None
