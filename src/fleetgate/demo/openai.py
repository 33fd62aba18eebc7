"""Engines that speak OpenAI's dialect: what all of them answer on `/v1/…`, and the kind `openai` itself.

Kinds add what they tell beyond it (`extras`) and what they are asked besides (`routes`).
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Final

from fleetgate.demo import words
from fleetgate.demo.engine import Engine, Job, Refusal, Spec
from fleetgate.demo.media import LENGTH, SUBTITLES, form_of, heard_in_pieces, moderated
from fleetgate.demo.wire import EVENTS, BadForm, Reply, Request, event, reply_json
from fleetgate.demo.words import Prompt
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetgate.domain import Model

_MOST: Final = 8_192
"""tokens of an answer that nobody bounds"""
_PER_CHARACTER: Final = 0.002
_LISTENING: Final = 1.5


class OpenAI(Engine):
    """The kind `openai`: models are there, and that is all it tells."""

    usual_slots = 8
    owner: ClassVar[str] = "simulated"
    cuts_prompts: ClassVar[bool] = False
    """a prompt that is too long is cut, not refused"""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._ids = itertools.count(1)
        self.routes |= {("GET", "/v1/models"): self.listed}
        self.work |= {
            ("POST", "/v1/chat/completions"): self.chat,
            ("POST", "/v1/completions"): self.complete,
            ("POST", "/v1/embeddings"): self.embed,
            ("POST", "/v1/rerank"): self.rerank,
            ("POST", "/v2/rerank"): self.rerank,
            ("POST", "/v1/images/generations"): self.draw,
            ("POST", "/v1/images/edits"): self.edit,
            ("POST", "/v1/audio/speech"): self.speak,
            ("POST", "/v1/audio/transcriptions"): self.transcribe,
            ("POST", "/v1/audio/translations"): self.translate,
            ("POST", "/v1/moderations"): self.moderate,
        }

    # --- what kinds say differently -----------------------------------------------------------------

    def row(self, model: Model) -> dict[str, Any]:
        """A model in the list."""
        return {"id": model.id, "object": "model", "created": int(self.clock.wall()), "owned_by": self.owner}

    def extras(self, job: Job) -> dict[str, Any]:  # noqa: ARG002
        """Members that the last frame of an answer has beside OpenAI's."""
        return {}

    def head(self) -> tuple[tuple[str, str], ...]:
        """Headers of answers to work."""
        return ()

    def shown(self, model: Model) -> str:
        """The `model` in an answer."""
        return model.id

    def too_long(self, asked: int, model: Model) -> Reply:
        text = f"This model's maximum context length is {model.context} tokens, your messages have {asked}."
        return self.error(400, text, "invalid_request_error", "context_length_exceeded")

    # --- routes -------------------------------------------------------------------------------------

    async def listed(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"object": "list", "data": [self.row(model) for model in self.models.values()]})

    async def chat(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.CHAT)
        if not isinstance(form.get("messages"), list) or not form["messages"]:
            raise BadForm("'messages' is required")
        prompt = words.prompt_of(form["messages"])
        if prompt.images and Capability.VISION not in (model.does or ()):
            text = "image input is not supported by this model"
            raise Refusal(self.error(400, text, "invalid_request_error"))
        called = None if prompt.after_tool else words.tool_call(form.get("tools"), form.get("tool_choice"))
        if called is not None:
            arguments = json.dumps(called[1])
            job = self._job(model, prompt, words.tokens(arguments), form)
            job.finish = "tool_calls"
            return await self._chat_answer(job, form, called[0])
        text = words.in_form(form.get("response_format")) or words.answer(self.id, model.id, prompt)
        return await self._chat_answer(self._job(model, prompt, words.tokens(text), form), form, None)

    async def complete(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.COMPLETE)
        asked = form.get("prompt", "")
        text = asked if isinstance(asked, str) else json.dumps(asked)
        prompt = Prompt(text, text)
        said = words.answer(self.id, model.id, prompt)
        job = self._job(model, prompt, words.tokens(said), form)
        made = {"id": f"cmpl-{next(self._ids)}", "object": "text_completion", **self._stamp(model)}

        def frame(piece: str, finish: str | None) -> dict[str, Any]:
            choice = {"text": piece, "index": 0, "logprobs": None, "finish_reason": finish}
            return {**made, "choices": [choice]}

        if form.get("stream"):
            return await self._streamed(job, form, (), frame, frame)
        text = "".join([piece async for piece in self.generate(job)])
        whole = {**frame(text, job.finish), "usage": _usage(job), **self.extras(job)}
        return reply_json(whole, headers=self.head())

    async def embed(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.EMBED)
        asked = form.get("input", "")
        texts = [_as_text(one) for one in (asked if _several(asked) else [asked])]
        prompt = Prompt(" ".join(texts), "")
        dimensions = form.get("dimensions") or model.dimensions or 768
        job = Job(model, prompt, [])
        await self.spend(job, self.spec.pace.begin + prompt.tokens / self.spec.pace.prefill(model))
        rows = [
            {"object": "embedding", "index": place, "embedding": self._vector(model, text, dimensions, form)}
            for place, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": prompt.tokens, "total_tokens": prompt.tokens}
        return reply_json(
            {"object": "list", "data": rows, "model": self.shown(model), "usage": usage}, headers=self.head()
        )

    async def rerank(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.RERANK)
        given = form.get("documents", [])
        documents = [one if isinstance(one, str) else str(one.get("text")) for one in given]
        prompt = Prompt(" ".join(documents), "")
        await self.spend(Job(model, prompt, []), prompt.tokens / self.spec.pace.prefill(model))
        rows = [
            {"index": place, "relevance_score": words.relevance(str(form.get("query", "")), text)}
            for place, text in enumerate(documents)
        ]
        rows.sort(key=lambda row: -row["relevance_score"])
        best = rows[: form.get("top_n") or len(rows)]
        if request.path == "/v2/rerank":  # as Cohere has it
            meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
            return reply_json({"id": f"simulated-{next(self._ids)}", "results": best, "meta": meta})
        usage = {"prompt_tokens": prompt.tokens, "total_tokens": prompt.tokens}
        return reply_json({"model": self.shown(model), "results": best, "usage": usage})

    async def draw(self, request: Request) -> Reply:
        form = request.form()
        return await self._drawn(self._able(form, Capability.IMAGE), form)

    async def edit(self, request: Request) -> Reply:
        form = form_of(request)
        return await self._drawn(self._able(form, Capability.EDIT), form)

    async def _drawn(self, model: Model, form: dict[str, Any]) -> Reply:
        count = max(1, int(form.get("n") or 1))
        asked = str(form.get("prompt", ""))
        await self.spend(Job(model, Prompt(asked, asked), []), self.spec.pace.image * count)
        picture = base64.b64encode(words.picture(asked)).decode()
        rows = [{"b64_json": picture, "revised_prompt": f"Simulated image from {self.id}"}] * count
        return reply_json({"created": int(self.clock.wall()), "data": rows}, headers=self.head())

    async def speak(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.SPEAK)
        asked = str(form.get("input", ""))
        await self.spend(Job(model, Prompt(asked, asked), []), _PER_CHARACTER * len(asked))
        return Reply(200, words.sound(), "audio/wav", self.head())

    async def transcribe(self, request: Request) -> Reply:
        form = form_of(request)
        return await self._heard(self._able(form, Capability.TRANSCRIBE), form, "transcript", request)

    async def translate(self, request: Request) -> Reply:
        form = form_of(request)
        return await self._heard(self._able(form, Capability.TRANSLATE), form, "translation", request)

    async def _heard(self, model: Model, form: dict[str, Any], what: str, request: Request) -> Reply:
        await self.spend(Job(model, Prompt("", ""), []), _LISTENING)
        heard = f"nobody listened to these {len(request.body)} bytes."
        text = f"Simulated {what} from {self.id} ({model.id}): {heard}"
        if form.get("stream") == "true":
            return Reply(200, heard_in_pieces(text), EVENTS, self.head())
        wanted = str(form.get("response_format") or "json")
        if wanted in SUBTITLES:
            return Reply(
                200, SUBTITLES[wanted].format(text).encode(), "text/plain; charset=utf-8", self.head()
            )
        return reply_json({"text": text, "duration": 1.0, "usage": dict(LENGTH)}, headers=self.head())

    async def moderate(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.MODERATE)
        asked = form.get("input", "")
        texts = asked if isinstance(asked, list) else [asked]
        await self.spend(Job(model, Prompt(json.dumps(asked), ""), []), self.spec.pace.begin)
        found = [moderated(_as_text(one)) for one in texts]
        return reply_json(
            {"id": f"modr-{next(self._ids)}", "model": self.shown(model), "results": found},
            headers=self.head(),
        )

    # --- answers --------------------------------------------------------------------------------------

    def _able(self, form: dict[str, Any], wanted: Capability) -> Model:
        model = self.find(str(form.get("model", "")))
        if model.does is not None and wanted not in model.does:
            raise Refusal(self.error(400, f"{model.id} does not {wanted.value}", "invalid_request_error"))
        return model

    def _job(self, model: Model, prompt: Prompt, pieces: list[str], form: dict[str, Any]) -> Job:
        """An answer within the bounds that the caller set. Raises Refusal where the prompt does not fit."""
        if model.context and prompt.tokens > model.context and not self.cuts_prompts:
            raise Refusal(self.too_long(prompt.tokens, model))
        stops = form.get("stop")
        if stops:
            text = words.cut_at("".join(pieces), [stops] if isinstance(stops, str) else stops)
            pieces = words.tokens(text)
        most = form.get("max_completion_tokens") or form.get("max_tokens") or _MOST
        short = len(pieces) > most
        return Job(model, prompt, pieces[:most], "length" if short else "stop")

    async def _chat_answer(self, job: Job, form: dict[str, Any], tool: str | None) -> Reply:
        number = next(self._ids)
        made = {"id": f"chatcmpl-{number}", **self._stamp(job.model)}
        call = {"id": f"call_{number}", "type": "function"}
        if not form.get("stream"):
            text = "".join([piece async for piece in self.generate(job)])
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if tool is not None:
                function = {"name": tool, "arguments": text}
                message |= {"content": None, "tool_calls": [{**call, "function": function}]}
            choices = [
                {"index": place, "message": message, "finish_reason": job.finish}
                for place in range(max(1, int(form.get("n") or 1)))
            ]
            whole = {**made, "object": "chat.completion", "choices": choices, "usage": _usage(job)}
            return reply_json({**whole, **self.extras(job)}, headers=self.head())

        def frame(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return {**made, "object": "chat.completion.chunk", "choices": [choice]}

        def piece(text: str, _: None = None) -> dict[str, Any]:
            if tool is None:
                return frame({"content": text})
            return frame({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})

        first = [frame({"role": "assistant", "content": "" if tool is None else None})]
        if tool is not None:
            named = {"index": 0, **call, "function": {"name": tool, "arguments": ""}}
            first.append(frame({"tool_calls": [named]}))
        return await self._streamed(job, form, tuple(first), piece, lambda _, finish: frame({}, finish))

    async def _streamed(
        self, job: Job, form: dict[str, Any], first: tuple[dict[str, Any], ...], piece: Any, last: Any
    ) -> Reply:
        """A stream whose head is sent when its first token is there."""
        pieces = self.generate(job)
        begin = await anext(pieces, None)
        usage = bool((form.get("stream_options") or {}).get("include_usage"))

        async def frames() -> AsyncGenerator[bytes, None]:
            async with aclosing(pieces):
                for one in first:
                    yield event(one)
                if begin is not None:
                    yield event(piece(begin, None))
                async for text in pieces:
                    yield event(piece(text, None))
            closing = last("", job.finish)
            yield event(closing if usage else {**closing, **self.extras(job)})
            if usage:
                yield event({**closing, "choices": [], "usage": _usage(job), **self.extras(job)})
            yield event("[DONE]")

        return Reply(200, frames(), EVENTS, self.head())

    def _stamp(self, model: Model) -> dict[str, Any]:
        return {
            "created": int(self.clock.wall()),
            "model": self.shown(model),
            "system_fingerprint": "simulated",
        }

    def _vector(self, model: Model, text: str, dimensions: int, form: dict[str, Any]) -> list[float] | str:
        values = words.embedding(model.id, text, dimensions)
        if form.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        return values


def _several(asked: Any) -> bool:
    """Whether an embedding request holds several inputs; a list of numbers is one, in tokens."""
    return isinstance(asked, list) and not all(isinstance(one, int) for one in asked)


def _as_text(asked: Any) -> str:
    """One input; numbers are tokens."""
    return asked if isinstance(asked, str) else json.dumps(asked)


def _usage(job: Job) -> dict[str, Any]:
    return {
        "prompt_tokens": job.prompt.tokens,
        "completion_tokens": job.made,
        "total_tokens": job.prompt.tokens + job.made,
        "prompt_tokens_details": {"cached_tokens": job.cached},
    }
