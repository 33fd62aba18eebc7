"""llama.cpp's server, simulated: with one model, and as a router of several.

- With one model its name in a request does not matter, and its port is open before the model is in
  memory: everything answers 503 `Loading model` until then.
- The router loads on demand, throws out the one that was used longest ago beyond its number of models
  (not of bytes), and goes on with a load whose caller left.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from fleetgate.demo import words
from fleetgate.demo.engine import Job, Refusal, Spec
from fleetgate.demo.native import Native
from fleetgate.demo.wire import EVENTS, Reply, Request, event, reply_json
from fleetgate.demo.words import Prompt
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetgate.domain import Model

BUILD: Final = "b11549-simulated"
_PUBLIC: Final = frozenset({"/health", "/v1/health", "/v1/models", "/models"})


class LlamaCpp(Native):
    """The kind `llamacpp` with one model."""

    usual_slots = 2
    answers_while_loading = True
    owner = "llamacpp"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.routes |= {
            ("GET", "/health"): self._health,
            ("GET", "/v1/health"): self._health,
            ("GET", "/models"): self.listed,
            ("GET", "/props"): self._props,
            ("GET", "/slots"): self._slots,
            ("GET", "/metrics"): self._metrics,
        }
        self.work |= {("POST", "/infill"): self._infill}

    def head(self) -> tuple[tuple[str, str], ...]:
        return (("Server", "llama.cpp"),)

    def find(self, name: str) -> Model:  # noqa: ARG002
        return next(iter(self.models.values()))

    def check_probe(self, request: Request) -> None:
        if request.path not in _PUBLIC:
            self.check_key(request)
        self.check_ready()

    def check_ready(self) -> None:
        if self.loading:
            raise Refusal(self.error(503, "Loading model", "unavailable_error"))

    def error(self, status: int, message: str, kind: str = "server_error", code: str | None = None) -> Reply:  # noqa: ARG002
        return reply_json({"error": {"code": status, "message": message, "type": kind}}, status, self.head())

    def too_long(self, asked: int, model: Model) -> Reply:
        size = f"the available context size ({model.context} tokens)"
        text = f"request ({asked} tokens) exceeds {size}, try increasing it"
        error = {"code": 400, "message": text, "type": "exceed_context_size_error"}
        error |= {"n_prompt_tokens": asked, "n_ctx": model.context}
        return reply_json({"error": error}, 400, self.head())

    def row(self, model: Model) -> dict[str, Any]:
        meta = {
            "n_ctx": model.context,
            "n_ctx_train": (model.context or 0) * 4,
            "n_params": int((model.params or 0) * 1e9),
            "size": model.size,
            "ftype": model.quantisation,
        }
        return {**super().row(model), "aliases": [model.id], "meta": meta}

    def extras(self, job: Job) -> dict[str, Any]:
        read, made = job.prompt.tokens - job.cached, job.made
        return {
            "timings": {
                "cache_n": job.cached,
                "prompt_n": read,
                "prompt_ms": job.prefill * 1e3,
                "prompt_per_second": read / job.prefill if job.prefill else 0.0,
                "predicted_n": made,
                "predicted_ms": job.decode * 1e3,
                "predicted_per_second": made / job.decode if job.decode else 0.0,
            }
        }

    async def _infill(self, request: Request) -> Reply:
        """A text between two others; a stream of it has no end mark."""
        form = request.form()
        model = self._able(form, Capability.COMPLETE)
        asked = f"{form.get('input_prefix', '')}{form.get('input_suffix', '')}"
        prompt = Prompt(asked, asked)
        said = words.tokens(words.answer(self.id, model.id, prompt))
        job = self._job(model, prompt, said, {"stop": form.get("stop"), "max_tokens": form.get("n_predict")})

        def last(text: str) -> dict[str, Any]:
            counts = {"tokens_evaluated": prompt.tokens, "tokens_predicted": job.made}
            ended = {"stop": True, "stop_type": "limit" if job.finish == "length" else "eos"}
            return {"index": 0, "content": text, **ended, **counts, **self.extras(job)}

        pieces = self.generate(job)
        if not form.get("stream"):
            return reply_json(last("".join([piece async for piece in pieces])), headers=self.head())
        begin = await anext(pieces, None)

        async def frames() -> AsyncGenerator[bytes, None]:
            async with aclosing(pieces):
                if begin is not None:
                    yield event({"index": 0, "content": begin, "stop": False})
                async for text in pieces:
                    yield event({"index": 0, "content": text, "stop": False})
            yield event(last(""))

        return Reply(200, frames(), EVENTS, self.head())

    async def _health(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"status": "ok"}, headers=self.head())

    async def _props(self, request: Request) -> Reply:
        model = self.find(request.query.get("model", ""))
        return reply_json(
            {
                "default_generation_settings": {"n_ctx": model.context},
                "total_slots": self.slots,
                "model_alias": model.id,
                "model_path": f"/simulated/{model.id}.gguf",
                "modalities": {"vision": Capability.VISION in (model.does or ()), "audio": False},
                "chat_template": "simulated",
                "build_info": BUILD,
                "is_sleeping": False,
            },
            headers=self.head(),
        )

    async def _slots(self, request: Request) -> Reply:
        model = self.find(request.query.get("model", ""))
        copy = self.memory.copy(model.id)
        busy = copy.running if copy is not None else 0
        if "fail_on_no_slot" in request.query and busy >= self.slots:
            return self.error(503, "no slot available", "unavailable_error")
        rows = [
            {"id": place, "n_ctx": model.context, "speculative": False, "is_processing": place < busy}
            for place in range(self.slots)
        ]
        return reply_json(rows, headers=self.head())

    async def _metrics(self, request: Request) -> Reply:  # noqa: ARG002
        found = {"requests_processing": self.memory.running, "requests_deferred": self.memory.waiting}
        lines = [f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} {value}" for name, value in found.items()]
        return Reply(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4", self.head())


class Router(LlamaCpp):
    """The kind `llamacpp` with several models."""

    usual_most = 4
    resident = False
    answers_while_loading = False

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.work |= {("POST", "/models/load"): self._load, ("POST", "/models/unload"): self._unload}

    def find(self, name: str) -> Model:
        found = self.models.get(name)
        if found is None:
            raise Refusal(self.error(404, f"model '{name}' not found", "not_found_error"))
        return found

    def row(self, model: Model) -> dict[str, Any]:
        plain = super().row(model)
        status: dict[str, Any] = {"value": "unloaded", "args": ["--simulated", "--parallel", str(self.slots)]}
        if self.memory.copy(model.id) is not None:
            status["value"] = "loaded"
        else:
            plain["meta"] = None
            progress = self.memory.progress(model)
            if progress is not None:
                status |= {"value": "loading", "progress": {"value": round(progress, 3)}}
        seen = ["text", "image"] if Capability.VISION in (model.does or ()) else ["text"]
        shape = {"input_modalities": seen, "output_modalities": ["text"]}
        path = f"/simulated/{model.id}.gguf"
        return {**plain, "path": path, "in_cache": True, "status": status, "architecture": shape}

    async def _props(self, request: Request) -> Reply:
        if "model" in request.query:
            return await super()._props(request)
        return reply_json(
            {
                "role": "router",
                "max_instances": self.memory.most,
                "models_autoload": True,
                "default_generation_settings": {"params": {}, "n_ctx": 0},
                "model_alias": "llama-server",
                "model_path": "none",
                "build_info": BUILD,
            },
            headers=self.head(),
        )

    async def _slots(self, request: Request) -> Reply:
        return self._of_one(request) or await super()._slots(request)

    async def _metrics(self, request: Request) -> Reply:
        return self._of_one(request) or await super()._metrics(request)

    def _of_one(self, request: Request) -> Reply | None:
        """What only one of its models can say is asked with its name, which loads it."""
        if request.query.get("model"):
            return None
        return self.error(400, "model name is missing from the request", "invalid_request_error")

    async def _load(self, request: Request) -> Reply:
        """Begins it, and answers at once."""
        model = self.find(str(request.form().get("model", "")))
        if self.memory.copy(model.id) is not None:
            return self.error(400, "model is already loaded", "invalid_request_error")
        self.memory.begin(model)
        return reply_json({"success": True}, headers=self.head())

    async def _unload(self, request: Request) -> Reply:
        model = self.find(str(request.form().get("model", "")))
        if not self.memory.drop(model.id):
            return self.error(400, "model is not loaded", "invalid_request_error")
        return reply_json({"success": True}, headers=self.head())
