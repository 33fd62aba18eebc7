"""vLLM, SGLang and TGI, simulated: one model per process, in memory as long as it runs, many at once.

Their ports are closed until the model is in memory. `/health` says that the process lives, however busy
it is; how busy tell the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.demo.native import Native
from fleetgate.demo.openai import OpenAI
from fleetgate.demo.wire import Reply, Request, reply_json

if TYPE_CHECKING:
    from fleetgate.demo.engine import Spec
    from fleetgate.domain import Model

VERSION: Final = "0.11.1+simulated"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Vllm(Native):
    """The kind `vllm`."""

    usual_slots = 16
    owner = "vllm"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.routes |= {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/version"): self._version,
        }

    def row(self, model: Model) -> dict[str, Any]:
        return {**super().row(model), "root": model.id, "parent": None, "max_model_len": model.context}

    async def _health(self, request: Request) -> Reply:  # noqa: ARG002
        return Reply(200, b"", "text/plain")

    async def _version(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"version": VERSION})

    async def _metrics(self, request: Request) -> Reply:  # noqa: ARG002
        lines = []
        for copy in self.memory.resident():
            label = f'{{engine="0",model_name="{copy.model.id}"}}'
            used = min(1.0, copy.running / self.slots)
            lines += [
                f"vllm:num_requests_running{label} {copy.running:.1f}",
                f"vllm:num_requests_waiting{label} {copy.waiting:.1f}",
                f"vllm:kv_cache_usage_perc{label} {used:.3f}",
            ]
        return _text(lines)


class SGLang(OpenAI):
    """The kind `sglang`."""

    usual_slots = 16
    owner = "sglang"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.routes |= {
            ("GET", "/health"): self._health,
            ("GET", "/get_model_info"): self._model_info,
            ("GET", "/model_info"): self._model_info,
            ("GET", "/get_server_info"): self._info,
            ("GET", "/server_info"): self._info,
            ("GET", "/get_load"): self._load,
            ("GET", "/v1/loads"): self._loads,
            ("GET", "/metrics"): self._metrics,
        }

    def row(self, model: Model) -> dict[str, Any]:
        return {**super().row(model), "root": model.id, "max_model_len": model.context}

    async def _health(self, request: Request) -> Reply:  # noqa: ARG002
        return Reply(200, b"", "text/plain")

    async def _model_info(self, request: Request) -> Reply:  # noqa: ARG002
        one = next(iter(self.models.values()))
        return reply_json({"model_path": one.id, "tokenizer_path": one.id, "is_generation": True})

    async def _info(self, request: Request) -> Reply:  # noqa: ARG002
        one = next(iter(self.models.values()))
        return reply_json(
            {
                "model_path": one.id,
                "served_model_name": one.id,
                "context_length": one.context,
                "max_running_requests": self.slots,
                "max_total_num_tokens": one.context,
                "version": "0.5.6+simulated",
                "internal_states": [{"max_running_requests_per_dp": self.slots}],
            }
        )

    async def _load(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json([self._counts()])

    async def _loads(self, request: Request) -> Reply:  # noqa: ARG002
        return reply_json({"version": "0.5.6+simulated", "dp_rank_count": 1, "loads": [self._counts()]})

    def _counts(self) -> dict[str, Any]:
        running, waiting = self.memory.running, self.memory.waiting
        return {
            "dp_rank": 0,
            "num_reqs": running + waiting,
            "num_running_reqs": running,
            "num_waiting_reqs": waiting,
            "num_tokens": 0,
        }

    async def _metrics(self, request: Request) -> Reply:  # noqa: ARG002
        label = f'{{model_name="{next(iter(self.models))}"}}'
        running, waiting = self.memory.running, self.memory.waiting
        return _text(
            [
                f"sglang:num_running_reqs{label} {running:.1f}",
                f"sglang:num_queue_reqs{label} {waiting:.1f}",
                f"sglang:token_usage{label} {min(1.0, running / self.slots):.3f}",
            ]
        )


class Tgi(OpenAI):
    """The kind `tgi`."""

    usual_slots = 16
    owner = "tgi"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.routes |= {
            ("GET", "/health"): self._health,
            ("GET", "/info"): self._info,
            ("GET", "/metrics"): self._metrics,
        }

    def full(self) -> Reply:
        return reply_json({"error": "Model is overloaded", "error_type": "overloaded"}, 429)

    def find(self, name: str) -> Model:  # noqa: ARG002
        return next(iter(self.models.values()))

    async def _health(self, request: Request) -> Reply:  # noqa: ARG002
        return Reply(200, b"", "text/plain")

    async def _info(self, request: Request) -> Reply:  # noqa: ARG002
        one = next(iter(self.models.values()))
        context = one.context or 4096
        return reply_json(
            {
                "model_id": one.id,
                "model_sha": "simulated",
                "max_concurrent_requests": self.slots,
                "max_input_tokens": context - 1,
                "max_total_tokens": context,
                "version": "3.3.6-simulated",
            }
        )

    async def _metrics(self, request: Request) -> Reply:  # noqa: ARG002
        return _text(
            [f"tgi_queue_size {self.memory.waiting}", f"tgi_batch_current_size {self.memory.running}"]
        )


def _text(lines: list[str]) -> Reply:
    return Reply(200, ("\n".join(lines) + "\n").encode(), _TEXT)
