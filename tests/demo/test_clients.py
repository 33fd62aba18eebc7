"""The official clients of OpenAI and Ollama against simulated engines."""

from __future__ import annotations

import base64
import io
import json
import math

import ollama
import openai
import pytest
from tests.support.simulated import base, simulated

from fleetgate.demo import weights
from fleetgate.domain import Capability

pytestmark = pytest.mark.asyncio

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        },
    },
}
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


def client(engine) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{base(engine)}/v1", api_key="any", max_retries=0)


@pytest.mark.parametrize("kind", ["openai", "ollama", "llamacpp", "vllm", "lmstudio", "localai"])
async def test_chat(kind: str) -> None:
    async with simulated(kind, "demo-8b") as engine, client(engine) as api:
        one = await api.chat.completions.create(model="demo-8b", messages=QUESTION)
        text = one.choices[0].message.content
        assert text.startswith(
            f"Simulated answer from box/{kind} (demo-8b): You asked: “Why is the sky blue?”."
        )
        assert one.choices[0].finish_reason == "stop"
        assert one.usage.completion_tokens == len(text.split())
        assert one.usage.total_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
        stream = await api.chat.completions.create(
            model="demo-8b", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        assert chunks[-1].usage.completion_tokens == one.usage.completion_tokens
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0, "the same prompt once more"


async def test_bounds() -> None:
    async with simulated("vllm", "demo-8b") as engine, client(engine) as api:
        short = await api.chat.completions.create(model="demo-8b", messages=QUESTION, max_tokens=3)
        assert short.choices[0].message.content == "Simulated answer from"
        assert short.choices[0].finish_reason == "length"
        stopped = await api.chat.completions.create(model="demo-8b", messages=QUESTION, stop=["from"])
        assert stopped.choices[0].message.content == "Simulated answer "
        assert stopped.choices[0].finish_reason == "stop"
        two = await api.chat.completions.create(model="demo-8b", messages=QUESTION, n=2)
        assert [choice.index for choice in two.choices] == [0, 1]
        done = await api.completions.create(model="demo-8b", prompt="Once upon a time", max_tokens=4)
        assert done.choices[0].text == "Simulated answer from box/vllm"
        pieces = await api.completions.create(model="demo-8b", prompt="Once", max_tokens=4, stream=True)
        assert "".join([piece.choices[0].text async for piece in pieces]) == "Simulated answer from box/vllm"


async def test_a_prompt_that_is_too_long() -> None:
    long = [{"role": "user", "content": "word " * 2000}]
    for kind in ("vllm", "llamacpp"):
        async with simulated(kind, weights.model("demo-8b", context=1000)) as engine, client(engine) as api:
            with pytest.raises(openai.BadRequestError, match=r"context"):
                await api.chat.completions.create(model="demo-8b", messages=long)
    async with simulated("ollama", weights.model("demo-8b", context=1000)) as engine, client(engine) as api:
        cut = await api.chat.completions.create(model="demo-8b", messages=long)
        assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(*, stream: bool) -> None:
    async with simulated("vllm", "demo-8b") as engine, client(engine) as api:
        asked = await api.chat.completions.create(
            model="demo-8b", messages=QUESTION, tools=[WEATHER], stream=stream
        )
        if stream:
            chunks = [chunk.choices[0] async for chunk in asked]
            calls = [chunk.delta.tool_calls[0].function for chunk in chunks if chunk.delta.tool_calls]
            name, arguments = calls[0].name, "".join(call.arguments for call in calls)
            finish = chunks[-1].finish_reason
        else:
            call = asked.choices[0].message.tool_calls[0].function
            name, arguments, finish = call.name, call.arguments, asked.choices[0].finish_reason
        assert (name, finish) == ("weather", "tool_calls")
        assert json.loads(arguments) == {"place": "simulated", "days": 1}
        found = [*QUESTION, {"role": "tool", "tool_call_id": "1", "content": "blue"}]
        said = await api.chat.completions.create(model="demo-8b", messages=found, tools=[WEATHER])
        assert said.choices[0].message.content.startswith("Simulated answer")


async def test_json_and_images() -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["blue", "red"]}, "sure": {"type": "boolean"}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    seen = [{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}]
    async with simulated("vllm", "qwen2.5-vl:7b", "demo-8b") as engine, client(engine) as api:
        one = await api.chat.completions.create(model="demo-8b", messages=QUESTION, response_format=wanted)
        assert json.loads(one.choices[0].message.content) == {"colour": "blue", "sure": True}
        answer = await api.chat.completions.create(model="qwen2.5-vl:7b", messages=seen)
        assert "You asked with 1 image: “what?”" in answer.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="image input is not supported"):
            await api.chat.completions.create(model="demo-8b", messages=seen)


async def test_embeddings() -> None:
    models = (
        weights.model("nomic-embed-text"),
        weights.model("bge", does=frozenset({Capability.EMBED}), dimensions=384),
    )
    async with simulated("openai", *models) as engine, client(engine) as api:
        found = await api.embeddings.create(model="bge", input=["one", "two"])  # base64 underneath
        plain = await api.embeddings.create(model="bge", input="one", encoding_format="float")
        assert [len(row.embedding) for row in found.data] == [384, 384]
        assert found.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
        assert found.data[0].embedding != found.data[1].embedding
        assert math.hypot(*plain.data[0].embedding) == pytest.approx(1.0, abs=1e-4)
        assert (
            len((await api.embeddings.create(model="nomic-embed-text", input="x")).data[0].embedding) == 768
        )
        with pytest.raises(openai.BadRequestError):
            await api.chat.completions.create(model="bge", messages=QUESTION)


async def test_images_and_sound() -> None:
    async with simulated("localai", "ssd-1b", "kokoro-tts", "whisper-1") as engine, client(engine) as api:
        drawn = await api.images.generate(model="ssd-1b", prompt="a red boat", n=2)
        assert [base64.b64decode(row.b64_json)[:8] for row in drawn.data] == [b"\x89PNG\r\n\x1a\n"] * 2
        spoken = await api.audio.speech.create(model="kokoro-tts", voice="any", input="hello")
        assert spoken.content.startswith(b"RIFF")
        heard = await api.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", io.BytesIO(spoken.content), "audio/wav")
        )
        assert heard.text.startswith("Simulated transcript from box/localai")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # what the client says of some models
async def test_media_in_all_their_forms() -> None:
    names = ("dall-e-2", "whisper-1", "omni-moderation-latest")
    async with simulated("openai", *names) as engine, client(engine) as api:
        edited = await api.images.edit(
            model="dall-e-2", image=("a.png", b"x", "image/png"), mask=("m.png", b"y"), prompt="a hat", n=2
        )
        assert [base64.b64decode(row.b64_json)[:4] for row in edited.data] == [b"\x89PNG"] * 2
        ask = {"model": "whisper-1", "file": ("a.wav", b"RIFF", "audio/wav")}
        assert (await api.audio.translations.create(**ask)).text.startswith("Simulated translation")
        said = await api.audio.transcriptions.create(**ask, response_format="vtt")
        assert said.startswith("WEBVTT\n")
        events = [event async for event in await api.audio.transcriptions.create(**ask, stream=True)]
        assert "".join(event.delta for event in events[:-1]) == events[-1].text
        found = await api.moderations.create(model="omni-moderation-latest", input=["violence", "peace"])
        assert [one.flagged for one in found.results] == [True, False]


async def test_llamacpp_tells_its_timings() -> None:
    async with simulated("llamacpp", "demo-8b") as engine, client(engine) as api:
        one = await api.chat.completions.create(model="whatever", messages=QUESTION)
        timings = one.model_extra["timings"]
        pace = engine.spec.pace
        assert timings["predicted_n"] == one.usage.completion_tokens
        assert timings["predicted_per_second"] == pytest.approx(pace.decode(engine.spec.models[0]), rel=1e-6)
        assert one.model == "demo-8b"


async def test_a_provider_wants_a_key_and_counts() -> None:
    async with simulated("openai", "gpt-4o-mini", provider=True, needs_key=True) as engine:
        async with client(engine) as api:
            raw = await api.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=QUESTION)
            assert raw.headers["x-ratelimit-remaining-requests"] == "599"
            engine.rate = 1
            with pytest.raises(openai.RateLimitError) as caught:
                await api.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
            assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
        async with openai.AsyncOpenAI(
            base_url=f"{base(engine)}/v1", api_key="x", default_headers={"authorization": ""}, max_retries=0
        ) as nobody:
            with pytest.raises(openai.AuthenticationError):
                await nobody.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)


# --- Ollama's own dialect -----------------------------------------------------------------------------


async def test_ollama_speaks_its_own_dialect() -> None:
    async with simulated("ollama", "qwen2.5:7b", "nomic-embed-text") as engine:
        api = ollama.AsyncClient(base(engine))
        assert [row.model for row in (await api.list()).models] == ["qwen2.5:7b", "nomic-embed-text:latest"]
        shown = await api.show("qwen2.5:7b")
        assert {"completion", "tools"} <= set(shown.capabilities)
        one = await api.chat("qwen2.5:7b", messages=QUESTION)
        assert one.message.content.startswith("Simulated answer from box/ollama (qwen2.5:7b)")
        assert one.done_reason == "stop"
        assert one.load_duration > 0, "it was cold"
        assert one.eval_count / (one.eval_duration / 1e9) == pytest.approx(
            engine.spec.pace.decode(engine.models["qwen2.5:7b"]), rel=1e-6
        )
        pieces = [piece async for piece in await api.chat("qwen2.5:7b", messages=QUESTION, stream=True)]
        assert "".join(piece.message.content for piece in pieces) == one.message.content
        assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert pieces[-1].load_duration == 0
        called = await api.chat("qwen2.5:7b", messages=QUESTION, tools=[WEATHER])
        assert called.message.tool_calls[0].function.arguments == {"place": "simulated", "days": 1}
        short = await api.generate("qwen2.5:7b", prompt="Once", options={"num_predict": 2})
        assert (short.response, short.done_reason) == ("Simulated answer", "length")
        assert len((await api.embed("nomic-embed-text", input=["a", "b"])).embeddings) == 2
        assert {row.model for row in (await api.ps()).models} == {"qwen2.5:7b", "nomic-embed-text:latest"}
        with pytest.raises(ollama.ResponseError, match=r"model 'none' not found"):
            await api.chat("none", messages=QUESTION)
        with pytest.raises(ollama.ResponseError, match="does not support generate"):
            await api.generate("nomic-embed-text")
        await api._client.aclose()
