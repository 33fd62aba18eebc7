"""Ollama, simulated: its own paths and OpenAI's, loads on demand, and its traps.

- A load ends with the caller it began for. One load at a time; a model that finds no room throws out
  idle ones. A `num_ctx` other than the loaded one loads the model anew.
- Without `keep_alive` a request leaves the model's time as it is.
- A prompt that is too long is cut, without a word.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.demo import words
from fleetgate.demo.engine import Job, Refusal, Spec
from fleetgate.demo.memory import FOREVER
from fleetgate.demo.native import Native
from fleetgate.demo.wire import LINES, BadForm, Reply, Request, line, reply_json
from fleetgate.demo.words import Prompt
from fleetgate.domain import Capability, Model

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

VERSION: Final = "0.14.0-simulated"
FIVE_MINUTES: Final = 300.0
_QUEUE: Final = 512
_NS: Final = 1e9
_FAR: Final = timedelta(days=365 * 200)
_SPAN: Final = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS: Final[Mapping[str, float]] = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0})
_CAPABILITIES: Final = (
    (Capability.CHAT, "completion"),
    (Capability.TOOLS, "tools"),
    (Capability.VISION, "vision"),
    (Capability.REASONING, "thinking"),
    (Capability.EMBED, "embedding"),
)


class Ollama(Native):
    """The kind `ollama`."""

    usual_slots = 1
    usual_most = 3
    keeps = FIVE_MINUTES
    dies_with_caller = True
    resident = False
    cuts_prompts = True
    owner = "library"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.models = {tagged(name): model for name, model in self.models.items()}
        self.routes |= {
            ("GET", "/"): self._alive,
            ("GET", "/api/version"): self._version,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._loaded,
            ("POST", "/api/show"): self._show,
        }
        self.work |= {
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._embed_one,
        }

    def find(self, name: str) -> Model:
        found = self.models.get(tagged(name)) if name else None
        if found is None:
            raise Refusal(self.error(404, f"model '{name}' not found", "not_found_error"))
        return found

    def full(self) -> Reply:
        return self.error(503, "server busy, please try again. maximum pending requests exceeded")

    def check_ready(self) -> None:
        if self.memory.waiting >= _QUEUE:
            raise Refusal(self.full())

    async def answer(self, request: Request) -> Reply:
        """On its own paths an error is only words."""
        reply = await super().answer(request)
        if reply.status < 400 or not request.path.startswith("/api/") or not isinstance(reply.body, bytes):
            return reply
        try:
            said = json.loads(reply.body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            return reply
        return replace(reply, body=json.dumps({"error": said}).encode())

    # --- what costs nothing -------------------------------------------------------------------------

    async def _alive(self, request: Request) -> Reply:  # noqa: ARG002
        return Reply(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _version(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"version": VERSION})

    async def _tags(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"models": [self._row(model) for model in self.models.values()]})

    async def _loaded(self, request: Request) -> Reply:  # noqa: ARG002
        now, wall = asyncio.get_running_loop().time(), self.clock.wall()
        rows = []
        for copy in sorted(self.memory.resident(), key=lambda copy: -copy.expires):
            left = copy.keep if copy.held else copy.expires - now
            span = _FAR if left == FOREVER else timedelta(seconds=left)
            expires = datetime.fromtimestamp(wall, UTC) + span
            row = self._row(copy.model)
            size = int((copy.model.size or 0) * 1.1)
            row |= {"size": size, "size_vram": self._in_vram(size), "expires_at": expires.isoformat()}
            rows.append({**row, "context_length": copy.context})
        return reply_json({"models": rows})

    async def _show(self, request: Request) -> Reply:
        form = request.form()
        model = self.find(str(form.get("model") or form.get("name") or ""))
        row = self._row(model)
        family = model.family or "simulated"
        info = {
            "general.architecture": family,
            "general.parameter_count": int((model.params or 0) * 1e9),
            f"{family}.context_length": model.context,
        }
        return reply_json(
            {
                "license": "simulated: there are no weights",
                "template": "{{ .Prompt }}",
                "details": row["details"],
                "model_info": info,
                "capabilities": row["capabilities"],
            }
        )

    def _row(self, model: Model) -> dict[str, Any]:
        name = tagged(model.id)
        details: dict[str, Any] = {
            "parent_model": "",
            "format": "gguf",
            "family": model.family,
            "families": [model.family],
            "parameter_size": _parameters(model),
            "quantization_level": model.quantisation,
            "context_length": model.context,
        }
        if model.dimensions is not None:
            details["embedding_length"] = model.dimensions
        able = [word for capability, word in _CAPABILITIES if capability in (model.does or ())]
        return {
            "name": name,
            "model": name,
            "modified_at": "2026-01-01T00:00:00Z",
            "size": model.size,
            "digest": model.digest,
            "details": details,
            "capabilities": able,
        }

    def _in_vram(self, size: int) -> int:
        return size if self.spec.memory is None else min(size, self.spec.memory)

    # --- work -----------------------------------------------------------------------------------------

    async def _generate(self, request: Request) -> Reply:
        form = request.form()
        model = self.find(str(form.get("model", "")))
        if not form.get("prompt"):
            return await self._load(model, form, {"response": ""})
        prompt = Prompt(str(form.get("system", "")) + str(form["prompt"]), str(form["prompt"]))
        text = words.in_form(form.get("format")) or words.answer(self.id, model.id, prompt)
        return await self._answer(self._native(model, prompt, text, form), form, _as_response)

    async def _chat(self, request: Request) -> Reply:
        form = request.form()
        model = self.find(str(form.get("model", "")))
        if not form.get("messages"):
            return await self._load(model, form, {"message": {"role": "assistant", "content": ""}})
        prompt = words.prompt_of(form["messages"])
        called = None if prompt.after_tool else words.tool_call(form.get("tools"), None)
        if called is not None:
            job = self._native(model, prompt, " ", form)
            call = {"function": {"name": called[0], "arguments": called[1]}}
            message = {"role": "assistant", "content": "", "tool_calls": [call]}
            return await self._answer(job, form, lambda _: {"message": message})
        text = words.in_form(form.get("format")) or words.answer(self.id, model.id, prompt)
        return await self._answer(self._native(model, prompt, text, form), form, _as_message)

    async def _embed(self, request: Request) -> Reply:
        form = request.form()
        asked = form.get("input", "")
        texts = [asked] if isinstance(asked, str) else [str(one) for one in asked]
        model, tokens = await self._read(form, texts)
        size = form.get("dimensions") or model.dimensions or 768
        vectors = [words.embedding(model.id, text, size) for text in texts]
        return reply_json({"model": form["model"], "embeddings": vectors, "prompt_eval_count": tokens})

    async def _embed_one(self, request: Request) -> Reply:
        form = request.form()
        text = str(form.get("prompt", ""))
        model, _ = await self._read(form, [text])
        return reply_json({"embedding": words.embedding(model.id, text, model.dimensions or 768)})

    async def _read(self, form: dict[str, Any], texts: list[str]) -> tuple[Model, int]:
        model = self.find(str(form.get("model", "")))
        if Capability.EMBED not in (model.does or ()):
            raise Refusal(self.error(400, "this model does not support embeddings"))
        prompt = Prompt(" ".join(texts), "")
        job = Job(model, prompt, [], keep=_keep(form))
        await self.spend(job, self.spec.pace.begin + prompt.tokens / self.spec.pace.prefill(model))
        return model, prompt.tokens

    async def _load(self, model: Model, form: dict[str, Any], member: dict[str, Any]) -> Reply:
        """A request without a prompt: it loads the model, or throws it out."""
        keep = _keep(form)
        done = "load"
        if keep == 0:
            self.memory.drop(model.id)
            done = "unload"
        elif not model.does or model.does == {Capability.EMBED}:
            raise Refusal(self.error(400, f'"{form["model"]}" does not support generate'))
        else:
            await self.memory.want(model, context=self._asked_size(form), keep=keep)
        return reply_json(
            {"model": form["model"], "created_at": self._now(), **member, "done": True, "done_reason": done}
        )

    def _native(self, model: Model, prompt: Prompt, text: str, form: dict[str, Any]) -> Job:
        options = form.get("options") or {}
        stops = options.get("stop")
        if stops:
            text = words.cut_at(text, [stops] if isinstance(stops, str) else stops)
        pieces = words.tokens(text) if text.strip() else [text]
        most = options.get("num_predict")
        most = len(pieces) if most is None or most < 0 else most
        finish = "length" if most < len(pieces) else "stop"
        return Job(model, prompt, pieces[:most], finish, self._asked_size(form), _keep(form))

    def _asked_size(self, form: dict[str, Any]) -> int | None:
        """The context that a request wants the model loaded with; None: any."""
        asked = (form.get("options") or {}).get("num_ctx")
        return None if asked is None else int(asked)

    async def _answer(self, job: Job, form: dict[str, Any], put: Any) -> Reply:
        pieces = self.generate(job)
        if form.get("stream") is False:
            text = "".join([piece async for piece in pieces])
            return reply_json(self._last(job, form, put(text)))
        begin = await anext(pieces, None)

        async def lines() -> AsyncGenerator[bytes, None]:
            async with aclosing(pieces):
                if begin is not None:
                    yield line(self._piece(form, put(begin)))
                async for piece in pieces:
                    yield line(self._piece(form, put(piece)))
            yield line(self._last(job, form, _empty(put(""))))

        return Reply(200, lines(), LINES)

    def _piece(self, form: dict[str, Any], member: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": form["model"], "created_at": self._now(), **member, "done": False}

    def _last(self, job: Job, form: dict[str, Any], member: Mapping[str, Any]) -> dict[str, Any]:
        """The end of an answer with what it took, in simulated nanoseconds."""
        return {
            "model": form["model"],
            "created_at": self._now(),
            **member,
            "done": True,
            "done_reason": job.finish,
            "total_duration": int((job.load + job.prefill + job.decode) * _NS),
            "load_duration": int(job.load * _NS),
            "prompt_eval_count": job.prompt.tokens - job.cached,
            "prompt_eval_duration": int(job.prefill * _NS),
            "eval_count": job.made,
            "eval_duration": int(job.decode * _NS),
        }

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clock.wall(), UTC).isoformat().replace("+00:00", "Z")


def tagged(model: str) -> str:
    """`x` is `x:latest`."""
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


def _keep(form: Mapping[str, Any]) -> float | None:
    """Seconds of `keep_alive`: a number, or such as `5m`; None: the model's time stays as it is."""
    given = form.get("keep_alive")
    if given is None:
        return None
    if isinstance(given, str):
        found = _SPAN.fullmatch(given.strip())
        if found is None:
            raise BadForm(f"time: invalid duration {given!r}")
        seconds = float(found[1]) * _UNITS[found[2] or "s"]
    else:
        seconds = float(given)
    return FOREVER if seconds < 0 else seconds


def _as_response(text: str) -> dict[str, Any]:
    return {"response": text}


def _as_message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _empty(member: dict[str, Any]) -> dict[str, Any]:
    """The member of a last line: calls of tools came before it."""
    message = member.get("message")
    return _as_message("") if message is not None and "tool_calls" in message else member


def _parameters(model: Model) -> str:
    billions = model.params or 0.0
    return f"{billions:.1f}B" if billions >= 1 else f"{billions * 1000:.0f}M"
