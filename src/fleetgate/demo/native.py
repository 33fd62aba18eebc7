"""Engines that speak Anthropic's Messages and OpenAI's Responses themselves, simulated.

Whole and streamed, with tools; of what else such requests may have nothing is read. Who is asked in these
dialects is the gateway's to decide: by the kind, its version, or `dialects:`.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from fleetgate.demo import words
from fleetgate.demo.openai import OpenAI
from fleetgate.demo.wire import EVENTS, BadForm, Reply, Request, reply_json
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetgate.demo.engine import Job, Spec

_ENDS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_CALLS: Final = {"function_call": "assistant", "function_call_output": "tool"}


class Native(OpenAI):
    """What it answers beside OpenAI's chat."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.work |= {
            ("POST", "/v1/messages"): self.message,
            ("POST", "/v1/messages/count_tokens"): self.count,
            ("POST", "/v1/responses"): self.respond,
        }

    async def count(self, request: Request) -> Reply:
        form = request.form()
        self.find(str(form.get("model", "")))
        return reply_json({"input_tokens": _asked_of(form).tokens}, headers=self.head())

    async def message(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.CHAT)
        if not isinstance(form.get("messages"), list) or not isinstance(form.get("max_tokens"), int):
            raise BadForm("'messages' and 'max_tokens' are required")
        tools = [{"name": tool.get("name"), "parameters": tool.get("input_schema")} for tool in _tools(form)]
        prompt = _asked_of(form)
        called = None if prompt.after_tool else words.tool_call(tools, None)
        said = words.answer(self.id, model.id, prompt) if called is None else json.dumps(called[1])
        job = self._job(model, prompt, words.tokens(said), {**form, "stop": form.get("stop_sequences")})
        if called is not None:
            job.finish = "tool_calls"
        number = next(self._ids)
        head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": self.shown(model)}
        block: dict[str, Any] = {"type": "text", "text": ""}
        if called is not None:
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": called[0], "input": {}}
        if form.get("stream"):
            return await self._told(job, head, block)
        text = "".join([piece async for piece in self.generate(job)])
        block |= {"text": text} if called is None else {"input": called[1]}
        end = {"stop_reason": _ENDS[job.finish], "stop_sequence": None, "usage": _usage(job)}
        return reply_json({**head, "content": [block], **end}, headers=self.head())

    async def _told(self, job: Job, head: dict[str, Any], block: dict[str, Any]) -> Reply:
        """A stream whose head is sent when its first token is there."""
        pieces = self.generate(job)
        begin = await anext(pieces, None)
        kind = "text_delta" if block["type"] == "text" else "input_json_delta"
        member = "text" if block["type"] == "text" else "partial_json"

        def delta(text: str) -> bytes:
            return _event("content_block_delta", index=0, delta={"type": kind, member: text})

        async def frames() -> AsyncGenerator[bytes, None]:
            async with aclosing(pieces):
                usage = _usage(job) | {"output_tokens": 1}
                yield _event("message_start", message={**head, "content": [], "usage": usage})
                yield _event("content_block_start", index=0, content_block=block)
                if begin is not None:
                    yield delta(begin)
                async for text in pieces:
                    yield delta(text)
            yield _event("content_block_stop", index=0)
            end = {"stop_reason": _ENDS[job.finish], "stop_sequence": None}
            yield _event("message_delta", delta=end, usage={"output_tokens": job.made})
            yield _event("message_stop")

        return Reply(200, frames(), EVENTS, self.head())

    async def respond(self, request: Request) -> Reply:
        form = request.form()
        model = self._able(form, Capability.CHAT)
        if not form.get("input"):
            raise BadForm("'input' is required")
        prompt = words.prompt_of([*_instructions(form), *_items(form["input"])])
        tools = [tool for tool in _tools(form) if tool.get("type") == "function"]
        called = None if prompt.after_tool else words.tool_call(tools, form.get("tool_choice"))
        wanted = (form.get("text") or {}).get("format")
        said = (
            json.dumps(called[1]) if called else _in_form(wanted) or words.answer(self.id, model.id, prompt)
        )
        job = self._job(
            model,
            prompt,
            words.tokens(said),
            {"max_tokens": None if called else form.get("max_output_tokens")},
        )
        number = next(self._ids)
        item: dict[str, Any] = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": []}
        if called is not None:
            item = {
                "id": f"fc_{number}",
                "type": "function_call",
                "call_id": f"call_{number}",
                "name": called[0],
            }
            item["arguments"] = ""
        made = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": int(self.clock.wall()),
            "model": self.shown(model),
            "parallel_tool_calls": True,
            "tool_choice": form.get("tool_choice") or "auto",
            "tools": form.get("tools") or [],
        }
        if form.get("stream"):
            return await self._responded(job, made, item)
        text = "".join([piece async for piece in self.generate(job)])
        return reply_json(_ended(made, _full(item, text), job), headers=self.head())

    async def _responded(self, job: Job, made: dict[str, Any], item: dict[str, Any]) -> Reply:
        """A stream whose head is sent when its first token is there."""
        pieces = self.generate(job)
        begin = await anext(pieces, None)
        called = item["type"] == "function_call"
        at: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
        if not called:
            at["content_index"] = 0
        what = "function_call_arguments" if called else "output_text"
        more: dict[str, Any] = {} if called else {"logprobs": []}

        async def frames() -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
            begun = {**made, "status": "in_progress", "output": []}
            yield "created", {"response": begun}
            yield "in_progress", {"response": begun}
            yield "output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress"}}
            if not called:
                yield "content_part.added", {**at, "part": _part("")}
            said = ""
            async with aclosing(pieces):
                if begin is not None:
                    said = begin
                    yield f"{what}.delta", {**at, "delta": begin, **more}
                async for text in pieces:
                    said += text
                    yield f"{what}.delta", {**at, "delta": text, **more}
            yield f"{what}.done", {**at, "arguments" if called else "text": said, **more}
            if not called:
                yield "content_part.done", {**at, "part": _part(said)}
            whole = _ended(made, _full(item, said), job)
            yield "output_item.done", {"output_index": 0, "item": whole["output"][0]}
            yield str(whole["status"]), {"response": whole}

        async def events() -> AsyncGenerator[bytes, None]:
            place = 0
            async with aclosing(frames()) as found:
                async for kind, members in found:
                    yield _event(f"response.{kind}", sequence_number=place, **members)
                    place += 1

        return Reply(200, events(), EVENTS, self.head())


def _event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def _tools(form: dict[str, Any]) -> list[dict[str, Any]]:
    return [tool for tool in form.get("tools") or () if isinstance(tool, dict)]


# --- Messages -----------------------------------------------------------------------------------------


def _asked_of(form: dict[str, Any]) -> words.Prompt:
    system = form.get("system")
    first = [{"role": "system", "content": system}] if system else []
    return words.prompt_of([*first, *map(_turn, form.get("messages") or ())])


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn as a message of a chat, as far as the simulation reads it."""
    content = turn.get("content")
    blocks = content if isinstance(content, list) else []
    if any(block.get("type") == "tool_result" for block in blocks):
        return {"role": "tool", "content": json.dumps(blocks)}
    if any(block.get("type") == "tool_use" for block in blocks):
        return {"role": "assistant", "content": json.dumps(blocks)}
    return turn


def _usage(job: Job) -> dict[str, Any]:
    given = {"input_tokens": job.prompt.tokens - job.cached, "cache_read_input_tokens": job.cached}
    return {**given, "output_tokens": job.made}


# --- Responses ----------------------------------------------------------------------------------------


def _instructions(form: dict[str, Any]) -> list[dict[str, Any]]:
    text = form.get("instructions")
    return [{"role": "system", "content": text}] if text else []


def _items(given: Any) -> list[dict[str, Any]]:
    """What was asked as messages of a chat, as far as the simulation reads it."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    rows = [item for item in given if isinstance(item, dict)]
    return [_item(row) for row in rows if row.get("type") != "reasoning"]


def _item(row: dict[str, Any]) -> dict[str, Any]:
    role = _CALLS.get(str(row.get("type")))
    return row if role is None else {"role": role, "content": json.dumps(row)}


def _in_form(wanted: Any) -> str | None:
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return words.in_form({"type": "json_schema", "json_schema": wanted})
    return words.in_form(wanted)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _full(item: dict[str, Any], text: str) -> dict[str, Any]:
    filled = {"arguments": text} if item["type"] == "function_call" else {"content": [_part(text)]}
    return {**item, "status": "completed", **filled}


def _ended(made: dict[str, Any], item: dict[str, Any], job: Job) -> dict[str, Any]:
    short = job.finish == "length"
    usage = {
        "input_tokens": job.prompt.tokens,
        "input_tokens_details": {"cached_tokens": job.cached},
        "output_tokens": job.made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": job.prompt.tokens + job.made,
    }
    return {
        **made,
        "status": "incomplete" if short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "output": [item],
        "usage": usage,
    }
