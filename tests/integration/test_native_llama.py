"""Real llama.cpp speaks Anthropic's dialect itself: there it passes, and says what the translation says."""

import anthropic
import pytest
from tests.support.llama import start_llama
from tests.support.process import start_gateway

MODEL = "fleetgate-demo"
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """Of one gateway in front of one engine: passing, and translating."""
    config = """
    gateway: {auth: open}
    nodes:
      box: {engines: [{kind: llamacpp, port: PORT, dialects: DIALECTS}]}
    """
    with start_llama(tmp_path_factory.mktemp("llama")) as llama:
        ported = config.replace("PORT", str(llama.port))
        passing = ported.replace("DIALECTS", "[anthropic]")
        translating = ported.replace("DIALECTS", "[]")
        with (
            start_gateway(tmp_path_factory.mktemp("passing"), passing) as first,
            start_gateway(tmp_path_factory.mktemp("translating"), translating) as second,
        ):
            yield first.url, second.url


def test_messages(urls):
    said = []
    for url in urls:
        with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            asked = {"model": MODEL, "max_tokens": 12, "messages": HELLO, "extra_body": {"temperature": 0}}
            whole = client.messages.create(**asked)
            with client.messages.stream(**asked) as stream:
                streamed = stream.get_final_message()
            texts = ["".join(b.text for b in one.content if b.type == "text") for one in (whole, streamed)]
            assert texts[0] == texts[1] != ""
            assert whole.stop_reason == streamed.stop_reason
            assert 0 < whole.usage.output_tokens <= 12
            assert streamed.usage.output_tokens == whole.usage.output_tokens
            raw = client.messages.with_raw_response.count_tokens(model=MODEL, messages=HELLO)
            counted = raw.parse().input_tokens
            said.append((texts[0], counted, raw.headers.get("x-fleetgate-estimated")))
    assert said[0][0] == said[1][0]
    assert said[0][1] == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert [one[2] for one in said] == [None, "true"]
