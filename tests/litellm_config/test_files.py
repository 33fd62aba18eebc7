"""Whole files as people have them, from text to routes."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.litellm import KEYS, loaded, names

from fleetgate.cli.config import check
from fleetgate.config.load import load
from fleetgate.errors import FailureClass
from fleetgate.litellm_config import convert

EXAMPLE = Path(__file__).parents[2] / "examples" / "litellm.yaml"

CHAIN = """
model_list:
  - model_name: vllm-qwen
    litellm_params:
      model: openai/Qwen/Qwen2.5-7B-Instruct
      api_base: http://vllm-service.ai.svc.cluster.local:8000/v1
      api_key: none
      timeout: 3
      stream_timeout: 3
  - model_name: ollama-qwen
    litellm_params: {model: ollama/qwen2.5:7b, api_base: "http://ollama-service:11434", timeout: 120}
  - model_name: openai-gpt4o
    litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY, timeout: 30}
  - model_name: groq-llama
    litellm_params: {model: groq/llama-3.3-70b-versatile, api_key: os.environ/GROQ_API_KEY, rpm: 30}
  - model_name: gemini-flash
    litellm_params: {model: gemini/gemini-2.0-flash, api_key: os.environ/GEMINI_API_KEY, rpm: 15}
  - model_name: mistral-small
    litellm_params: {model: mistral/mistral-small-latest, api_key: os.environ/MISTRAL_API_KEY}

router_settings:
  fallbacks:
    - vllm-qwen: [ollama-qwen, openai-gpt4o]
    - ollama-qwen: [openai-gpt4o]
  num_retries: 0
  allowed_fails: 1
  cooldown_time: 30

litellm_settings:
  success_callback: [prometheus]
  drop_params: true

general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""


def routes(text, environ=KEYS):
    found = loaded(text, environ)
    assert found.settings is not None, [one.render() for one in found.errors]
    return names(found.settings)


def shown(route):
    return [(tuple(one.id for one in step.candidates), step.first_token) for step in route.steps]


def test_a_chain_of_three_tiers():
    table = routes(CHAIN)
    vllm, ollama, openai = (
        (("vllm-service/openai/Qwen/Qwen2.5-7B-Instruct",), 3.0),
        (("ollama-service/ollama/qwen2.5:7b",), 120.0),
        (("openai/gpt-4o",), 30.0),
    )
    assert shown(table.resolve("vllm-qwen")) == [vllm, ollama, openai]
    assert shown(table.resolve("ollama-qwen")) == [ollama, openai]
    assert shown(table.resolve("openai-gpt4o")) == [openai]
    assert shown(table.resolve("groq-llama")) == [(("groq/llama-3.3-70b-versatile",), None)]
    route = table.resolve("vllm-qwen")
    assert [step.tries for step in route.steps] == [1, 1, 1]
    assert route.attempts == 3
    assert {FailureClass.FIRST_TOKEN_TIMEOUT, FailureClass.NOTHING_AVAILABLE} <= route.steps[1].on
    assert FailureClass.BAD_REQUEST not in route.steps[1].on
    assert table.listed() == [
        "gemini-flash", "groq-llama", "mistral-small", "ollama-qwen", "openai-gpt4o", "vllm-qwen",
    ]  # fmt: skip


def test_what_is_said_about_that_chain():
    found = loaded(CHAIN)
    assert [one.render() for one in found.findings if one.severity == "warning"] == [
        f"<text>:{place}: environment variable {name} is not set; "
        "until it is there, its models are unconfigured and in no plan"
        for place, name in (
            ("17:54: providers.gemini.key", "GEMINI_API_KEY"),
            ("19:59: providers.mistral.key", "MISTRAL_API_KEY"),
        )
    ]
    health = found.settings.health
    assert (health.fails, health.cool) == (2, 30.0)


HOUSE = """
model_list:
  # local, free
  - model_name: L-local-free-qwen2.5-coder
    litellm_params: {model: ollama/qwen2.5-coder:32b, api_base: "http://192.168.0.50:11434"}
    model_info: {mode: chat, id: coder}
  - model_name: XS-local-free-qwen2.5
    litellm_params: {model: ollama/qwen2.5:1.5b, api_base: "http://192.168.0.50:11434", timeout: 600}
  - model_name: M-local-free-llava
    litellm_params: {model: ollama/llava:13b, api_base: "http://[TO_BE_CONFIGURED]:11434"}
  # cloud, paid
  - model_name: XL-cloud-paid-claude
    litellm_params: {model: anthropic/claude-3-5-sonnet-20241022, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: XL-cloud-paid-gpt4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, api_base: https://api.openai.com/v1}
router_settings:
  routing_strategy: latency-based-routing
  routing_strategy_args: {speed: 0.4, quality: 0.35, cost: 0.25}
  model_group_alias: {code: L-local-free-qwen2.5-coder, fast: XS-local-free-qwen2.5}
  fallbacks:
    - L-local-free-qwen2.5-coder: [XL-cloud-paid-claude, XL-cloud-paid-gpt4o]
    - M-local-free-llava: [XL-cloud-paid-gpt4o]
litellm_settings:
  cache: true
  cache_params: {type: local, ttl: 3600}
  max_budget: 100
  budget_duration: 30d
general_settings:
  master_key: sk-1234
  database_url: postgresql://litellm:litellm@db:5432/litellm
  ui_access_mode: all
"""


def test_a_house_with_many_models_and_a_placeholder_left_in():
    found = loaded(HOUSE)
    assert found.settings is not None
    table = names(found.settings)
    assert shown(table.resolve("code")) == [
        (("192.168.0.50/ollama/qwen2.5-coder:32b",), None),
        (("anthropic/claude-3-5-sonnet-20241022",), None),
        (("openai/gpt-4o",), None),
    ]
    assert shown(table.resolve("fast")) == [(("192.168.0.50/ollama/qwen2.5:1.5b",), 600.0)]
    assert found.settings.routing.best is not None
    told = [one.render() for one in found.findings if one.severity == "warning"]
    assert (
        "<text>:10:47: model_list[2].litellm_params.api_base: a placeholder is left in; "
        "write the real address; until then this entry is left out"
    ) in told
    # A group without a usable entry still answers through its fallbacks.
    assert shown(table.resolve("M-local-free-llava")) == [(("openai/gpt-4o",), None)]
    assert any("WEAK MASTER KEY" in one for one in told)
    assert found.master_key is not None


BOX = """
model_list:
""" + "".join(
    f"""\
  - model_name: chat-a
    litellm_params: {{model: openai/stheno-8b, api_base: "http://192.168.0.144:{port}/v1", rpm: 12}}
"""
    for port in (8080, 8081, 8082)
)


def test_eight_engines_of_one_model_on_one_machine_are_a_pool():
    text = f"{BOX}router_settings: {{routing_strategy: least-busy, model_group_alias: {{x: chat-a}}}}\n"
    (step,) = routes(text).resolve("x").steps
    assert [one.id for one in step.candidates] == [
        f"192.168.0.144/openai-{port}/stheno-8b" for port in (8080, 8081, 8082)
    ]
    assert (step.policy, step.tries) == ("least_busy", 3)


def test_weights_reach_the_step():
    text = """
model_list:
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu1:1", weight: 3}}
  - {model_name: a, litellm_params: {model: ollama/x, api_base: "http://gpu2:1", weight: 1}}
  - {model_name: b, litellm_params: {model: ollama/x, api_base: "http://gpu2:1"}}
"""
    table = routes(text)
    (step,) = table.resolve("a").steps
    assert (step.policy, dict(step.weights)) == ("split", {"gpu1/ollama/x": 3.0, "gpu2/ollama/x": 1.0})
    (step,) = table.resolve("b").steps
    assert (step.policy, len(step.candidates)) == ("spread", 1)


def test_the_example_passes_check(monkeypatch):
    for name in ("HOST", "PORT", "LITELLM_MASTER_KEY", "FLEETGATE_MASTER_KEY", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(check, [str(EXAMPLE)])
    assert done.exit_code == 0, done.output
    found = load(EXAMPLE, KEYS, convert=convert)
    table = names(found.settings)
    assert [step.on for step in table.resolve("default").steps][:2] == [None, {FailureClass.CONTEXT_TOO_LONG}]


@pytest.mark.parametrize("text", [CHAIN, HOUSE, BOX, EXAMPLE.read_text(encoding="utf-8")])
def test_whatever_a_truncated_file_says_it_is_loaded_or_refused_with_reasons(text):
    lines = text.splitlines(keepends=True)
    for length in range(len(lines)):
        found = loaded("".join(lines[:length]))
        assert (found.settings is None) == bool(found.errors)
