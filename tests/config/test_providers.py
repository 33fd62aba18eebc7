from fleetgate.config.providers import PROVIDERS, base_url
from fleetgate.config.schema import Provider


def test_rows_are_complete():
    assert all(row.url.startswith("https://") and not row.url.endswith("/") for row in PROVIDERS.values())
    assert all(row.key.endswith("_API_KEY") for row in PROVIDERS.values())


def test_where_a_provider_is():
    assert base_url("openai", Provider()) == PROVIDERS["openai"].url
    assert base_url("work", Provider(kind="groq")) == PROVIDERS["groq"].url
    assert base_url("openai", Provider(url="http://10.0.0.1:1/v1/")) == "http://10.0.0.1:1/v1"
    assert base_url("work", Provider()) is None
