import pytest
from tests.support.litellm import converted, loaded, said


def entry(params="", info="", model="openai/gpt-4o-mini", group="a"):
    params = f", {params}" if params else ""
    return (
        f"  - {{model_name: {group}, litellm_params: {{model: {model}{params}}}, model_info: {{{info}}}}}\n"
    )


def tree(*entries, rest=""):
    return converted("model_list:\n" + "".join(entries or [entry()]) + rest).tree


def price(params="", info="", model="openai/gpt-4o-mini"):
    (provider,) = tree(entry(params, info, model))["providers"].values()
    return provider["models"][0].get("price")


# -- prices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "info", "expected"),
    [
        ("", "", None),
        (
            "input_cost_per_token: 0.00000015, output_cost_per_token: 6e-7",
            "",
            {"input": "0.15 USD/Mtok", "output": "0.6 USD/Mtok"},
        ),
        # the entry's own wins over what is said about the model
        (
            "output_cost_per_token: 0.000002",
            "input_cost_per_token: 0.000001, output_cost_per_token: 0.000001",
            {"output": "2 USD/Mtok", "input": "1 USD/Mtok"},
        ),
        (
            "",
            (
                "input_cost_per_token: 3e-06, output_cost_per_token: 0.000015, "
                "cache_read_input_token_cost: 3e-07, cache_creation_input_token_cost: 3.75e-06"
            ),
            {
                "input": "3 USD/Mtok",
                "output": "15 USD/Mtok",
                "cached_input": "0.3 USD/Mtok",
                "cache_write": "3.75 USD/Mtok",
            },
        ),
        (
            (
                "input_cost_per_token: 0.000001, output_cost_per_token: 0.000001, "
                "input_cost_per_token_above_200k_tokens: 2e-6, input_cost_per_token_above_128k_tokens: 3e-6"
            ),
            "",
            {
                "input": "1 USD/Mtok",
                "output": "1 USD/Mtok",
                "tiers": [
                    {"above": 128_000, "input": "3 USD/Mtok"},
                    {"above": 200_000, "input": "2 USD/Mtok"},
                ],
            },
        ),
        (
            "input_cost_per_token: 0, output_cost_per_token: 0",
            "",
            {"input": "0 USD/Mtok", "output": "0 USD/Mtok"},
        ),
        # finer than a nano-dollar for a million: rounded up
        ("input_cost_per_token: 1e-16", "", {"input": "0.000000001 USD/Mtok"}),
        ("input_cost_per_second: 0.0001", "mode: audio_transcription", {"second": "0.0001 USD/s"}),
        ("output_cost_per_image: 0.04", "mode: image_generation", {"image": "0.04 USD/image"}),
        ("input_cost_per_character: 0.000015", "mode: audio_speech", {"character": "0.000015 USD/char"}),
        ("input_cost_per_query: 0.002", "mode: rerank", {"request": "0.002 USD"}),
    ],
)
def test_prices(params, info, expected):
    assert price(params, info) == expected


def test_prices_are_in_effect():
    found = loaded(
        "model_list:\n"
        + entry("input_cost_per_token: 0.00000015, output_cost_per_token: 6e-7, api_key: sk-abcdefgh")
    )
    assert found.errors == ()
    assert found.settings.providers["openai"].models[0].price.input.nano_per_million == 150_000_000


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            "input_cost_per_second: 0.1",
            "input_cost_per_second has no effect; it is used with mode: audio_speech",
        ),
        ("input_cost_per_token: 5000", "no price that can be meant; it is left out"),
        ("input_cost_per_token: cheap", "not a number that can be used; it is left out"),
        ("input_cost_per_pixel: 0.1", "not yet in effect"),
        ("input_cost_per_token_batches: 0.1", "not yet in effect; it is not sent upstream"),
    ],
)
def test_prices_without_effect_are_told(params, words):
    document = converted("model_list:\n" + entry(params))
    assert "price" not in document.tree["providers"]["openai"]["models"][0]
    assert any(words in one for severity in ("note", "warning") for one in said(document, severity))


def test_own_machines_are_free_unless_the_file_says_otherwise():
    def models(params):
        return tree(entry(params, model="ollama/x"))["nodes"]["localhost"]["engines"][0]["models"]

    assert models("input_cost_per_token: 0, output_cost_per_token: 0") == [{"id": "x"}]
    assert models("input_cost_per_token: 0.000001, output_cost_per_token: 0")[0]["price"] == {
        "input": "1 USD/Mtok",
        "output": "0 USD/Mtok",
    }


# -- limits ----------------------------------------------------------------------------------------


def limits(*entries, rest=""):
    return tree(*entries, rest=rest).get("limits", [])


def test_days_and_directions():
    scope = {"deployment": "openai/gpt-4o-mini"}
    params = "rpd: 100, tpd: 5000, itpm: 10, otpm: 20, daily_reset_time: '04:30'"
    assert limits(entry(params)) == [
        {"scope": scope, "input_tokens": 10, "per": "minute"},
        {"scope": scope, "output_tokens": 20, "per": "minute"},
        {"scope": scope, "requests": 100, "per": "day", "reset": "04:30 UTC"},
        {"scope": scope, "tokens": 5000, "per": "day", "reset": "04:30 UTC"},
    ]


@pytest.mark.parametrize(
    ("written", "reset"), [("12:30", "12:30 UTC"), ("'7:05'", "07:05 UTC"), ("noon", None), ("99999", None)]
)
def test_the_time_of_the_reset(written, reset):
    (limit,) = limits(entry(f"rpd: 1, daily_reset_time: {written}"))
    assert limit.get("reset") == reset


def test_entries_of_one_deployment_are_one_limit_and_further_keys_add_to_it():
    same = [entry("rpm: 30, api_key: k1", group=group) for group in ("a", "b")]
    other = entry("rpm: 20, api_key: k2")
    assert limits(*same) == [{"scope": {"deployment": "openai/gpt-4o-mini"}, "requests": 30, "per": "minute"}]
    assert [one["requests"] for one in limits(*same, other)] == [50]


@pytest.mark.parametrize(
    ("rest", "limit"),
    [
        ("max_budget: 100, budget_duration: 30d", {"money": "100 USD", "per": "month"}),
        ("max_budget: 0.5, budget_duration: 1d", {"money": "0.5 USD", "per": "day"}),
        ("max_budget: '12.5', budget_duration: 24h", {"money": "12.5 USD", "per": "day"}),
        ("max_budget: 1, budget_duration: 1mo", {"money": "1 USD", "per": "month"}),
        ("max_budget: 1, budget_duration: 1h", {"money": "1 USD", "per": "hour"}),
        ("max_budget: 1, budget_duration: 60s", {"money": "1 USD", "per": "minute"}),
        ("max_budget: 1, budget_duration: 7d", {"money": "1 USD", "per": "month"}),
        ("max_budget: 1, budget_duration: 5h", {"money": "1 USD", "per": "day"}),
        ("max_budget: 1", {"money": "1 USD", "per": "month"}),
        ("max_budget: 1, budget_duration: soon", {"money": "1 USD", "per": "month"}),
        ("max_budget: 0, budget_duration: 1d", None),
        ("max_budget: 1.0e12", None),
        ("max_budget: much", None),
    ],
)
def test_the_budget_of_everything(rest, limit):
    found = limits(rest=f"litellm_settings: {{{rest}}}\n")
    assert found == ([{"scope": "global", **limit}] if limit else [])


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("7d", "there are no windows of 7d; a month is taken, which is stricter"),
        ("400d", "there are no windows of 400d; a month is taken, which lets more be spent"),
        ("soon", "'soon' is no length of time; it is counted by the month"),
        ("''", "a budget without a window; it is counted by the month"),
    ],
)
def test_windows_that_we_do_not_have_are_told(length, words):
    rest = f"litellm_settings: {{max_budget: 1, budget_duration: {length}}}\n"
    document = converted("model_list:\n" + entry() + rest)
    assert any(words in one for one in said(document))


def test_budgets_of_deployments():
    same = [entry("max_budget: 0, budget_duration: 1d", group=group) for group in ("a", "b")]
    assert limits(*same) == [{"scope": {"deployment": "openai/gpt-4o-mini"}, "money": "0 USD", "per": "day"}]


def test_budgets_of_providers():
    rest = """\
router_settings:
  provider_budget_config:
    openai: {budget_limit: 10, time_period: 1d}
    together_ai: {max_budget: 5, budget_duration: 30d}
    groq: {budget_limit: 1, time_period: 1d}
    mistral: many
"""
    entries = (entry(), entry(model="together_ai/x", group="b"))
    assert limits(*entries, rest=rest) == [
        {"scope": {"provider": "openai"}, "money": "10 USD", "per": "day"},
        {"scope": {"provider": "together"}, "money": "5 USD", "per": "month"},
    ]
    told = said(converted("model_list:\n" + "".join(entries) + rest))
    assert any("no model of groq is in the list; this budget is left out" in one for one in told)


def test_a_provider_with_several_sets_of_keys():
    entries = (entry("api_key: k1"), entry("api_key: k2", model="openai/o1", group="b"))
    rest = "router_settings: {provider_budget_config: {openai: {budget_limit: 10, time_period: 1d}}}\n"
    assert [one["scope"] for one in limits(*entries, rest=rest)] == [
        {"provider": "openai"},
        {"provider": "openai-2"},
    ]
    told = said(converted("model_list:\n" + "".join(entries) + rest))
    assert any("openai has several sets of keys" in one for one in told)


def test_every_limit_is_valid_and_keeps_its_place():
    found = loaded(
        "model_list:\n"
        + entry(
            "rpm: 3, rpd: 4, daily_reset_time: '04:30', max_budget: 2, budget_duration: 1d, api_key: sk-abcd"
        )
        + "litellm_settings: {max_budget: 9, budget_duration: 30d, cache: true}\n"
    )
    assert found.errors == ()
    assert len(found.settings.limits) == 4
    assert found.settings.cache is not None


# -- the cache -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "cache"),
    [
        ("cache: false", None),
        ("cache: true", {}),
        ("cache: true, cache_params: {type: local, ttl: 3600}", {"ttl": "1h"}),
        ("cache: true, cache_params: {type: redis, host: h, default_in_redis_ttl: 90}", {"ttl": "90s"}),
        ("cache: true, cache_params: {type: redis-semantic, ttl: 3600}", None),
        ("cache: true, cache_params: {mode: default_off}", None),
        ("cache_params: {ttl: 3600}", None),
    ],
)
def test_the_cache(settings, cache):
    assert tree(rest=f"litellm_settings: {{{settings}}}\n").get("cache") == cache
