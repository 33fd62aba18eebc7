"""The official client asks for sound, pictures and moderation, as a program would that blocks."""

import asyncio
import base64
import hashlib
import io
import random

import openai
import pytest
from tests.support.forms import read
from tests.support.gateway import MASTER_KEY, node, openai_engine, running_gateway, settings
from tests.support.upstreams import chunk, head, respond, respond_json, send, stream_sse

pytestmark = pytest.mark.asyncio

PNG = base64.b64encode(b"\x89PNG").decode()
MODERATION = {
    "id": "modr-1",
    "model": "m",
    "results": [{"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}],
}
DONE = {"type": "transcript.text.done", "text": "hello there", "usage": {"type": "duration", "seconds": 2}}


def answer(request):  # noqa: PLR0911  (a decision list)
    """What an engine that does everything would say."""
    if request.path == "/v1/audio/speech":
        form = request.json()
        if form.get("stream_format") == "sse":
            events = [
                {"type": "speech.audio.delta", "audio": PNG},
                {"type": "speech.audio.done", "usage": {}},
            ]
            return stream_sse(events)
        lines = [("Content-Type", "audio/mpeg"), ("Transfer-Encoding", "chunked")]
        return [send(head(200, lines)), *(send(chunk(b"x" * 5_000)) for _ in range(20)), send(chunk(b""))]
    if request.path == "/v1/moderations":
        return respond_json(200, MODERATION)
    parts = {part.name: part for part in read(request)}
    if request.path == "/v1/images/edits":
        seen = {name: hashlib.sha256(part.content).hexdigest() for name, part in parts.items() if part.file}
        return respond_json(
            200, {"created": 1, "data": [{"b64_json": PNG, "revised_prompt": str(sorted(seen.items()))}]}
        )
    said = hashlib.sha256(parts["file"].content).hexdigest()
    if parts.get("stream"):
        return stream_sse([{"type": "transcript.text.delta", "delta": "hello"}, DONE])
    if "response_format" in parts and parts["response_format"].content in (b"text", b"vtt"):
        return respond(200, b"WEBVTT\n\nhello", "text/vtt")
    return respond_json(200, {"text": f"{request.path} {parts['file'].file} {said}"})


async def asked(tmp_path, work):
    """What `work` gives with a client of a gateway, in a thread of its own."""
    async with (
        openai_engine(route=answer) as engine,
        running_gateway(settings(nodes={"box": node(engine)}), tmp_path) as gateway,
    ):

        def run():
            with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=MASTER_KEY, max_retries=0) as client:
                return work(client)

        return await asyncio.to_thread(run)


def noise(size):
    return random.Random(size).randbytes(size)


async def test_speech(tmp_path):
    def work(client):
        whole = client.audio.speech.create(model="m", voice="alloy", input="hello").read()
        pieces = []
        ask = {"model": "m", "voice": "alloy", "input": "hello"}
        with client.audio.speech.with_streaming_response.create(**ask) as response:
            kind = response.headers["content-type"]
            pieces = list(response.iter_bytes(1_000))
        return whole, pieces, kind

    whole, pieces, kind = await asked(tmp_path, work)
    assert whole == b"".join(pieces) == b"x" * 100_000
    assert kind == "audio/mpeg"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # what the client says of some models
@pytest.mark.parametrize("size", [2_000, 3_000_000])
async def test_transcriptions_and_translations(tmp_path, size):
    content = noise(size)
    digest = hashlib.sha256(content).hexdigest()

    def work(client):
        file = ("speech.wav", content, "audio/wav")
        whole = [
            client.audio.transcriptions.create(model="m", file=file).text,
            client.audio.translations.create(model="m", file=io.BufferedReader(named(content))).text,
            client.audio.transcriptions.create(model="m", file=file, response_format="vtt"),
        ]
        events = [
            event.type for event in client.audio.transcriptions.create(model="m", file=file, stream=True)
        ]
        return whole, events

    (said, translated, subtitles), events = await asked(tmp_path, work)
    assert said == f"/v1/audio/transcriptions speech.wav {digest}"
    assert translated == f"/v1/audio/translations speech.mp3 {digest}"
    assert subtitles == "WEBVTT\n\nhello"
    assert events == ["transcript.text.delta", "transcript.text.done"]


class named(io.BytesIO):  # noqa: N801  (used like a function)
    name = "speech.mp3"


async def test_edits_with_a_mask(tmp_path):
    picture, second, mask = noise(1_500_000), noise(2_000), noise(3_000)

    def work(client):
        found = client.images.edit(
            model="m",
            image=[("a.png", picture, "image/png"), ("b.png", second, "image/png")],
            mask=("mask.png", mask, "image/png"),
            prompt="a hat",
            n=1,
        )
        return found.data[0]

    found = await asked(tmp_path, work)
    assert found.b64_json == PNG
    assert hashlib.sha256(second).hexdigest() in found.revised_prompt
    assert hashlib.sha256(mask).hexdigest() in found.revised_prompt


async def test_moderations(tmp_path):
    found = await asked(tmp_path, lambda client: client.moderations.create(model="m", input="hello"))
    assert found.results[0].flagged is False


async def test_refusals_are_the_clients_own_errors(tmp_path):
    def work(client):
        errors = []
        for ask in (
            lambda: client.audio.transcriptions.create(model="nobody", file=("a.wav", b"x")),
            lambda: client.audio.speech.create(model="nobody", voice="alloy", input="x"),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                ask()
            errors.append(caught.value.code)
        return errors

    assert await asked(tmp_path, work) == ["model_not_found", "model_not_found"]
