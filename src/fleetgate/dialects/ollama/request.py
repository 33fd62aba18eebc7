"""Requests of the four operations, in the form between.

A request without a prompt asks for no answer: it loads the model. It is translated into one with nothing to
answer and marked in its memory (`Asked.only_loads`). With `keep_alive: 0` it throws the model out, which is a
verb of management in disguise: others may be using it, so it is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.left_out import LeftOut
from fleetgate.dialects.ollama import fields, options
from fleetgate.dialects.ollama.answer import in_memory
from fleetgate.dialects.ollama.asked import Asked, Operation
from fleetgate.dialects.ollama.messages import Conversation, tools, with_images
from fleetgate.dialects.ollama.verbs import UNLOAD, refusal
from fleetgate.dialects.port import Translated
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CHAT: Final = frozenset(
    {"model", "stream", "messages", "tools", "format", "think", "logprobs", "top_logprobs", "options"}
)
_GENERATE: Final = frozenset(
    {"model", "stream", "prompt", "suffix", "system", "template", "context", "raw", "images"}
    | {"format", "think", "logprobs", "top_logprobs", "options"}
)
_EMBED: Final = frozenset({"model", "input", "dimensions", "options"})
_EMBEDDINGS: Final = frozenset({"model", "prompt", "options"})
_NO_TIME: Final = re.compile(r"[+-]?(?:0+(?:\.0*)?(?:ns|us|µs|ms|s|m|h)?)+")


class Reader:
    """Reads the requests of one caller's side. `name_of` turns a name as Ollama prints it into ours."""

    def __init__(self, wall: Callable[[], float], name_of: Callable[[str], str]) -> None:
        self._wall = wall
        self._name_of = name_of

    def chat(self, body: Mapping[str, Any]) -> Translated:
        model, left = fields.model(body), LeftOut()
        found = fields.rows(body, "messages")
        left.rest(body, _CHAT)
        if not found:
            return self._memory(Operation.CHAT, model, body, left, {"messages": []})
        form = {
            **self._head(model, body),
            "messages": Conversation(left).messages(found),
            **tools(body),
            **_beside(body, left),
        }
        return self._translated(form, left, Operation.CHAT, Capability.CHAT, model)

    def generate(self, body: Mapping[str, Any]) -> Translated:
        model, left = fields.model(body), LeftOut()
        prompt = fields.text(body, "prompt")
        left.rest(body, _GENERATE)
        if not prompt:
            return self._memory(Operation.GENERATE, model, body, left, {"messages": []})
        _objections(body)
        raw = fields.flag(body, "raw")
        if raw or fields.text(body, "suffix"):
            form = {**self._head(model, body), **_completion(body, prompt, left, raw=bool(raw))}
            return self._translated(form, left, Operation.GENERATE, Capability.COMPLETE, model)
        system, images = fields.text(body, "system"), fields.rows(body, "images")
        messages = [{"role": "system", "content": system}] if system else []
        content = with_images(prompt, images, "images") if images else prompt
        form = {
            **self._head(model, body),
            "messages": [*messages, {"role": "user", "content": content}],
            **_beside(body, left),
        }
        return self._translated(form, left, Operation.GENERATE, Capability.CHAT, model)

    def embed(self, body: Mapping[str, Any]) -> Translated:
        model, left = fields.model(body), LeftOut()
        found = body.get("input")
        left.rest(body, _EMBED)
        left.rest(fields.table(body, "options"), (), "options.")
        texts = [found] if isinstance(found, str) else found
        if found is None or found == "" or texts == []:
            return self._memory(Operation.EMBED, model, body, left, {"input": []})
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise fields.malformed("`input` must be a text or a list of texts", "input")
        form: dict[str, Any] = {"model": self._name_of(model), "input": found}
        if body.get("dimensions") is not None:
            size = fields.whole(body["dimensions"], "dimensions")
            form |= {"dimensions": size} if size > 0 else {}
        return self._translated(form, left, Operation.EMBED, Capability.EMBED, model)

    def embeddings(self, body: Mapping[str, Any]) -> Translated:
        model, left = fields.model(body), LeftOut()
        prompt = fields.text(body, "prompt")
        left.rest(body, _EMBEDDINGS)
        left.rest(fields.table(body, "options"), (), "options.")
        if not prompt:
            return self._memory(Operation.EMBEDDINGS, model, body, left, {"input": []})
        form = {"model": self._name_of(model), "input": prompt}
        return self._translated(form, left, Operation.EMBEDDINGS, Capability.EMBED, model)

    def _head(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answers are streamed unless the caller does not want that, and the last line has the counts."""
        head: dict[str, Any] = {
            "model": self._name_of(model),
            "stream": fields.flag(body, "stream") is not False,
        }
        if head["stream"]:
            head["stream_options"] = {"include_usage": True}
        return head

    def _memory(
        self,
        operation: Operation,
        model: str,
        body: Mapping[str, Any],
        left: LeftOut,
        nothing: Mapping[str, Any],
    ) -> Translated:
        keep = body.get("keep_alive")
        unload = (isinstance(keep, int | float) and not isinstance(keep, bool) and keep == 0) or (
            isinstance(keep, str) and _NO_TIME.fullmatch(keep) is not None
        )
        if unload:
            raise refusal(UNLOAD)
        embeds = operation in (Operation.EMBED, Operation.EMBEDDINGS)
        capability = Capability.EMBED if embeds else Capability.CHAT
        asked = Asked(operation, capability, model, self._wall(), only_loads=True)
        form = {"model": self._name_of(model), **nothing}
        if not embeds:
            form["stream"] = fields.flag(body, "stream") is not False  # for signs of life while it loads
        return Translated(form, left.names(), asked, capability, in_memory(asked, self._wall()))

    def _translated(
        self,
        form: Mapping[str, Any],
        left: LeftOut,
        operation: Operation,
        capability: Capability,
        model: str,
    ) -> Translated:
        asked = Asked(operation, capability, model, self._wall())
        return Translated(form, left.names(), asked, capability)


def _beside(body: Mapping[str, Any], left: LeftOut) -> dict[str, Any]:
    return {
        **options.sampling(body, left),
        **options.answer_form(body),
        **options.thinking(body, left),
        **options.probabilities(body),
    }


def _objections(body: Mapping[str, Any]) -> None:
    """Members that mean something else than they say if they are left out."""
    if fields.text(body, "template"):
        raise fields.unsupported(
            "`template`: the engine puts the prompt together, by the model's own template",
            "template",
            "Send the prompt as the model is to read it, with `raw: true`.",
        )
    if fields.rows(body, "context"):
        raise fields.unsupported(
            "`context`: tokens of one model mean nothing to another, so answers have none",
            "context",
            "Send the whole conversation to /api/chat.",
        )


def _completion(body: Mapping[str, Any], prompt: str, left: LeftOut, *, raw: bool) -> dict[str, Any]:
    """A prompt that goes to the model as it is, or with a gap to fill."""
    why = "raw" if raw else "suffix"
    for name in ("images", "format", *(("system",) if raw else ())):
        if body.get(name):
            raise fields.unsupported(
                f"`{name}` cannot go with `{why}`, whose prompt is a text as it is",
                name,
                f"Leave `{why}` out.",
            )
    form: dict[str, Any] = {"prompt": prompt}
    if not raw:
        form["suffix"] = fields.text(body, "suffix")
    # What follows says nothing about a prompt as it is, in Ollama neither.
    for name in ("system", "think", "logprobs", "top_logprobs", *(("suffix",) if raw else ())):
        if body.get(name):
            left.add(name)
    return {**form, **options.sampling(body, left)}
