import pytest
from tests.support.litellm import converted, said


def entry(model, group="a", info="", **params):
    written = ", ".join([f"model: {model}", *(f"{key}: {value}" for key, value in params.items())])
    more = f", model_info: {{{info}}}" if info else ""
    return f"  - {{model_name: {group}, litellm_params: {{{written}}}{more}}}\n"


def file(*entries, rest=""):
    return "model_list:\n" + "".join(entries) + rest


def engine(text, environ=None):
    """The only engine of a file, with its node's name and address."""
    ((name, node),) = converted(text, environ).tree["nodes"].items()
    (found,) = node["engines"]
    return name, node["address"], found


@pytest.mark.parametrize(
    ("model", "base", "expected"),
    [
        ("ollama/llama3", "http://10.0.0.7:11434", ("10.0.0.7", "ollama", "ollama", 11434, "llama3")),
        ("ollama_chat/llama3:latest", "http://gpu1:11434/", ("gpu1", "ollama", "ollama", 11434, "llama3")),
        ("ollama/x", "http://gpu1.lan:11434/api/generate", ("gpu1.lan", "ollama", "ollama", 11434, "x")),
        ("hosted_vllm/Qwen/Q", "http://100.101.1.2:8000/v1", ("100.101.1.2", "vllm", "vllm", 8000, "Qwen/Q")),
        (
            "openai/m",
            "http://vllm.ai.svc.cluster.local/v1",
            ("vllm.ai.svc.cluster.local", "openai", "openai", 80, "m"),
        ),
        (
            "openai/m",
            "http://localhost:8080/v1/chat/completions",
            ("localhost", "openai", "openai", 8080, "m"),
        ),
        ("lm_studio/m", "http://[fd00::7]:1234/v1", ("fd00::7", "openai", "openai", 1234, "m")),
        ("anthropic/m", "http://192.168.1.4:9000", ("192.168.1.4", "openai", "openai", 9000, "m")),
        ("meta-llama/Llama", "http://gpu1:9/v1", ("gpu1", "openai", "openai", 9, "meta-llama/Llama")),
    ],
)
def test_a_host_of_the_own_network_is_a_machine(model, base, expected):
    name, address, found = engine(file(entry(model, api_base=f'"{base}"')))
    assert (address, found["name"], found["kind"], found["port"], found["models"][0]["id"]) == expected
    assert name in {address, address.partition(".")[0]}


def test_an_address_that_a_port_does_not_describe_is_written_as_url():
    _, address, found = engine(file(entry("openai/m", api_base='"https://gpu1.lan:8443/llm/v1"')))
    assert (address, found["url"]) == ("gpu1.lan", "https://gpu1.lan:8443/llm/v1")
    assert "port" not in found


def test_machines_may_be_off():
    tree = converted(file(entry("ollama/x", api_base='"http://gpu1:11434"'))).tree
    assert tree["nodes"]["gpu1"]["power"] == "manual"


def test_the_usual_address_and_one_from_the_environment():
    assert engine(file(entry("ollama/x")))[:2] == ("localhost", "localhost")
    environ = {"OLLAMA_API_BASE": "http://gpu9:11434"}
    assert engine(file(entry("ollama/x")), environ)[1] == "gpu9"
    assert engine(file(entry("openai/x")), {"OPENAI_API_BASE": "http://gpu9:8000/v1"})[1] == "gpu9"


def test_one_machine_with_several_engines_and_several_names_of_this_host():
    tree = converted(
        file(
            entry("ollama/a", api_base='"http://127.0.0.1:11434"'),
            entry("ollama/b", api_base='"http://localhost:11434"'),
            entry("openai/c", api_base='"http://localhost:8080/v1"'),
            entry("openai/d", api_base='"http://localhost:8081/v1"'),
        )
    ).tree
    assert list(tree["nodes"]) == ["localhost"]
    engines = {
        one["name"]: [model["id"] for model in one["models"]] for one in tree["nodes"]["localhost"]["engines"]
    }
    assert engines == {"ollama": ["a", "b"], "openai-8080": ["c"], "openai-8081": ["d"]}


def test_one_engine_named_in_two_ways_is_what_says_more():
    name, _, found = engine(
        file(
            entry("openai/a", api_base='"http://gpu1:11434/v1"'),
            entry("ollama/a", api_base='"http://gpu1:11434"'),
        )
    )
    assert (name, found["kind"], [model["id"] for model in found["models"]]) == ("gpu1", "ollama", ["a"])


def test_hosts_with_the_same_first_part_keep_their_whole_names():
    tree = converted(
        file(
            entry("ollama/a", api_base='"http://llm1.a.lan:11434"'),
            entry("ollama/a", api_base='"http://llm1.b.lan:11434"'),
            entry("ollama/a", api_base='"http://gpu.b.lan:11434"'),
            entry("ollama/a", api_base='"http://host.docker.internal:11434"'),
        )
    ).tree
    assert list(tree["nodes"]) == ["llm1.a.lan", "llm1.b.lan", "gpu", "host.docker.internal"]


@pytest.mark.parametrize("dummy", ["none", "EMPTY", "sk-no-key-required", '""', "null", "dummy"])
def test_keys_that_are_none_are_dropped_for_engines(dummy):
    assert "key" not in engine(file(entry("openai/m", api_base='"http://gpu1:8000/v1"', api_key=dummy)))[2]


def test_an_engine_has_its_own_key():
    text = file(
        entry("openai/m", api_base='"http://gpu1:8000/v1"', api_key="os.environ/GPU_KEY"),
        entry("openai/n", api_base='"http://gpu1:8000/v1"', api_key="another-key"),
    )
    assert engine(text)[2]["key"] == "${GPU_KEY}"
    assert said(converted(text))[0] == (
        "c.yaml:3:88: model_list[1].litellm_params.api_key: another key for the same engine; "
        "an engine has one key: the first one is used"
    )


@pytest.mark.parametrize(
    ("model", "provider", "held"),
    [
        ("openai/gpt-4o", "openai", {"key": "${OPENAI_API_KEY}", "models": [{"id": "gpt-4o"}]}),
        ("gpt-4o", "openai", {"key": "${OPENAI_API_KEY}", "models": [{"id": "gpt-4o"}]}),
        (
            "claude-sonnet-4-5",
            "anthropic",
            {"key": "${ANTHROPIC_API_KEY}", "models": [{"id": "claude-sonnet-4-5"}]},
        ),
        ("together_ai/a/b", "together", {"key": "${TOGETHER_API_KEY}", "models": [{"id": "a/b"}]}),
        ("openrouter/a/b", "openrouter", {"key": "${OPENROUTER_API_KEY}", "models": [{"id": "a/b"}]}),
        (
            "fireworks_ai/x",
            "fireworks",
            {"key": "${FIREWORKS_API_KEY}", "models": [{"id": "accounts/fireworks/models/x"}]},
        ),
    ],
)
def test_everything_else_is_a_provider(model, provider, held):
    assert converted(file(entry(model))).tree["providers"] == {provider: held}


def test_a_provider_outside_the_table_is_known_by_its_address():
    tree = converted(
        file(
            entry("openai/m", api_base='"https://llm.example.net/v1"', api_key="os.environ/A_KEY"),
            entry(
                "deepinfra/x/y", api_base='"https://api.deepinfra.com/v1/openai"', api_key="os.environ/B_KEY"
            ),
            entry("ollama/z", api_base='"https://ollama.example.org"'),
            entry("openai/llama", api_base='"https://api.groq.com/openai/v1"', api_key="os.environ/C_KEY"),
        )
    ).tree["providers"]
    assert tree["llm.example.net"] == {
        "kind": "openai", "url": "https://llm.example.net/v1", "key": "${A_KEY}", "models": [{"id": "m"}],
    }  # fmt: skip
    assert tree["deepinfra"]["url"] == "https://api.deepinfra.com/v1/openai"
    assert (tree["ollama.example.org"]["url"], tree["ollama.example.org"]["key"]) == (
        "https://ollama.example.org/v1",
        "none",
    )
    assert tree["groq"] == {"key": "${C_KEY}", "models": [{"id": "llama"}]}


def test_keys_within_a_group_are_accounts_and_others_are_kept_apart():
    document = converted(
        file(
            entry("openai/gpt-4o", api_key="os.environ/K1"),
            entry("openai/gpt-4o", api_key="os.environ/K2"),
            entry("openai/gpt-4o-mini", group="b", api_key="os.environ/K2"),
            entry("openai/gpt-4o", group="team", api_key="os.environ/K3"),
        )
    )
    providers = document.tree["providers"]
    assert providers["openai"]["keys"] == ["${K1}", "${K2}"]
    assert [model["id"] for model in providers["openai"]["models"]] == ["gpt-4o", "gpt-4o-mini"]
    assert providers["openai-2"] == {"kind": "openai", "key": "${K3}", "models": [{"id": "gpt-4o"}]}
    roles = document.tree["roles"]
    assert [roles[name]["use"][0]["pool"] for name in ("a", "b", "team")] == [
        "openai/gpt-4o", "openai/gpt-4o-mini", "openai-2/gpt-4o",
    ]  # fmt: skip


def test_a_deployment_is_never_called_like_a_group():
    tree = converted(file(entry("openai/gpt-4o", group="openai/gpt-4o"))).tree
    assert tree["roles"]["openai/gpt-4o"]["use"][0]["pool"] == "openai-2/gpt-4o"
    assert tree["providers"]["openai-2"]["kind"] == "openai"


def test_one_model_in_several_groups_is_one_deployment():
    base = '"http://gpu1:8000/v1"'
    tree = converted(file(entry("openai/m", "a", api_base=base), entry("openai/m", "b", api_base=base))).tree
    assert tree["nodes"]["gpu1"]["engines"][0]["models"] == [{"id": "m"}]
    assert tree["roles"]["a"]["use"][0]["pool"] == tree["roles"]["b"]["use"][0]["pool"] == "gpu1/openai/m"


def test_what_model_info_says_about_a_model():
    info = "mode: embedding, max_input_tokens: '512', mine: 1"
    document = converted(file(entry("ollama/bge", info=info)))
    assert document.tree["nodes"]["localhost"]["engines"][0]["models"] == [
        {"id": "bge", "does": ["embed"], "context": 512}
    ]
    chat = converted(file(entry("ollama/x", info="mode: chat"))).tree
    assert chat["nodes"]["localhost"]["engines"][0]["models"] == [{"id": "x"}]


def test_one_model_of_one_group_in_two_places_shares_its_space():
    tree = converted(
        file(
            entry("ollama/bge", api_base='"http://gpu1:11434"'),
            entry("ollama/bge", api_base='"http://gpu2:11434"'),
            entry("ollama/other", api_base='"http://gpu2:11434"'),
        )
    ).tree
    assert tree["nodes"]["gpu1"]["engines"][0]["models"] == [{"id": "bge", "space": "bge"}]
    assert tree["nodes"]["gpu2"]["engines"][0]["models"] == [{"id": "bge", "space": "bge"}, {"id": "other"}]


def test_cooling_of_an_entry_is_its_engines():
    rest = "router_settings: {allowed_fails: 1, cooldown_time: 7}\n"
    text = file(entry("ollama/x", cooldown_time=60), entry("ollama/y", cooldown_time="'90'"), rest=rest)
    assert engine(text)[2]["health"] == {"fails": 2, "cool": "90s"}


def test_credentials_and_default_parameters_lie_under_an_entry():
    rest = """
credential_list:
  - {credential_name: house, credential_values: {api_base: "http://gpu1:8000/v1", api_key: os.environ/HOUSE}}
router_settings: {default_litellm_params: {timeout: 9}}
"""
    text = file(entry("openai/m", litellm_credential_name="house"), rest=rest)
    assert engine(text)[0] == "gpu1"
    assert engine(text)[2]["key"] == "${HOUSE}"
    assert converted(text).tree["roles"]["a"]["use"][0]["first_token"] == "9s"


PARAMS = "2:38: model_list[0].litellm_params.model: "


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (entry("azure/x"), f"{PARAMS}no address is known for azure/; write api_base; until then"),
        (entry("deepinfra/x"), f"{PARAMS}no address is known for deepinfra/; write api_base; until then"),
        (
            entry("a-model"),
            f"{PARAMS}no provider is known for a-model; write it as provider/model; until then",
        ),
        (entry("openai/*", group='"openai/*"'), "2:6: model_list[0].model_name: patterns such as openai/*"),
        (entry("openai/x", api_base="os.environ/GONE"), f"{PARAMS}the address of openai/x is unknown"),
        (
            entry("openai/x", api_base='"http://[::1"'),
            "2:55: model_list[0].litellm_params.api_base: no http or https address",
        ),
        ("  - {litellm_params: {model: openai/x}}\n", "2:5: model_list[0]: model_name is missing"),
        ("  - {model_name: a}\n", "2:5: model_list[0]: litellm_params.model is missing"),
        ("  - just words\n", "2:5: model_list[0]: not a map; it is left out"),
    ],
)
def test_an_entry_that_cannot_be_used_is_left_out_and_the_rest_goes_on(line, finding):
    document = converted(file(line, entry("ollama/x", group="good")))
    assert list(document.tree["roles"]) == ["good"]
    told = [text for text in said(document) if text.startswith(f"c.yaml:{finding}")]
    assert told[0].endswith("left out")


AZURE = "https://house.openai.azure.com"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (f"{AZURE}/", f"{AZURE}/openai/v1"),
        (f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1"),
        (f"{AZURE}/openai/deployments/x/chat/completions?api-version=2024-10-21", f"{AZURE}/openai/v1"),
        ("https://house.services.ai.azure.com/models", "https://house.services.ai.azure.com/openai/v1"),
        ("https://llm.example.net/azure", "https://llm.example.net/azure"),
    ],
)
def test_old_addresses_of_azure_become_those_without_a_version(base, url):
    document = converted(file(entry("azure/x", api_base=f'"{base}"', api_version="2024-10-21")))
    assert document.tree["providers"]["azure"] == {
        "kind": "azure",
        "url": url,
        "key": "${AZURE_API_KEY}",
        "models": [{"id": "x"}],
    }
    asked = any("is asked as it is written" in text for text in said(document))
    assert asked == (not url.endswith("/openai/v1"))


def test_claude_at_azure_speaks_its_own_dialect():
    base = "https://house.services.ai.azure.com/anthropic"
    tree = converted(file(entry("azure_ai/claude-x", api_base=f'"{base}"', api_key='"a-key-of-azure"'))).tree
    found = tree["providers"]["azure-claude"]
    assert (found["kind"], found["url"]) == ("anthropic", f"{base}/v1")


@pytest.mark.parametrize(
    ("model", "more", "environ", "url", "named"),
    [
        ("openai.gpt-oss-120b-1:0", {"aws_region_name": "eu-west-1"}, {}, "bedrock-runtime.eu-west-1", ""),
        ("us-west-2/deepseek.v3-v1:0", {}, {}, "bedrock-runtime.us-west-2", "deepseek.v3-v1:0"),
        (
            "mantle/openai.gpt-oss-20b",
            {},
            {"AWS_REGION": "us-east-1"},
            "bedrock-mantle.us-east-1",
            "openai.gpt-oss-20b",
        ),
    ],
)
def test_bedrock_by_its_region(model, more, environ, url, named):
    found = converted(file(entry(f"bedrock/{model}", **more)), environ).tree["providers"]["bedrock"]
    assert found["url"].startswith(f"https://{url}.")
    assert found["key"] == "${AWS_BEARER_TOKEN_BEDROCK}"
    assert found["models"] == [{"id": named or model}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (entry("bedrock/x"), "the region of Bedrock is unknown; write aws_region_name"),
        (entry("bedrock/converse/x", aws_region_name="us-east-1"), "what Bedrock has at converse alone"),
        (
            entry("bedrock/x", aws_region_name="us-east-1", aws_access_key_id="os.environ/ID"),
            "requests are not signed; write api_key with a Bedrock API key",
        ),
    ],
)
def test_what_of_bedrock_is_out_of_reach(line, why):
    document = converted(file(line, entry("ollama/x", group="good")))
    assert not document.tree["providers"]
    assert any(why in text for text in said(document))


def test_providers_that_have_a_row_need_no_address():
    tree = converted(file(entry("moonshot/kimi-k3"), entry("minimax/MiniMax-M3", group="b"))).tree
    assert tree["providers"]["moonshot"] == {"key": "${MOONSHOT_API_KEY}", "models": [{"id": "kimi-k3"}]}
    assert tree["providers"]["minimax"]["key"] == "${MINIMAX_API_KEY}"
