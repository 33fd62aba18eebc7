"""An engine that speaks as llama.cpp's server does when it is driven by ids, and dies where a test wants it.

    async with IdEngine(WORDS, die=after(3)) as a:
        ...

It always says the same words, one token each. Whoever comes with the ids of some of them gets the rest. A
word given as a tuple comes in several tokens that end inside a character: only the last one is named. Text
that may become the stop word is kept back, as the real one does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.support.upstreams import Received, Script, ScriptedUpstream, reset, respond_json, stream_sse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROMPT: Final = [1, 7, 8, 9]
FIRST: Final = 100
"""id of the first token that is said"""
TEMPLATE: Final = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


class IdEngine(ScriptedUpstream):
    """`words`: of the answer; a pair is a word and its number of tokens. `die`: what happens after the frames
    of each `/completion`; None: nothing."""

    def __init__(
        self,
        words: Sequence[str | tuple[str, int]],
        *,
        die: Callable[[list[Any]], list[Any]] | None = None,
        name: str = "m",
        size: int = 4_000,
        template: str = TEMPLATE,
        chat: Callable[[Received], Script] | None = None,
        without: Sequence[str] = (),
        tells: bool = True,
    ) -> None:
        super().__init__(route=self._answer)
        self.words = [one if isinstance(one, tuple) else (one, 1) for one in words]
        self.die = die
        self.name = name
        self.size = size
        self.template = template
        self.chat = chat
        self.without = without
        self.tells = tells
        """its tokenizer makes the same tokens of a word"""
        self.deaths = 1

    @property
    def completions(self) -> list[dict[str, Any]]:
        return [one.json() for one in self.requests if one.path == "/completion"]

    @property
    def text(self) -> str:
        return "".join(word for word, _ in self.words)

    def _answer(self, request: Received) -> Script:
        path = request.path.partition("?")[0]
        if path in self.without:
            return respond_json(404, {"error": {"code": 404, "message": "File Not Found"}})
        if path == "/completion":
            frames = self.frames(request.json())
            if self.die is not None and self.deaths:
                self.deaths -= 1
                return stream_sse(self.die(frames))
            return stream_sse(frames)
        if path == "/v1/chat/completions" and self.chat is not None:
            return self.chat(request)
        return respond_json(*self._said(path, request))

    def _said(self, path: str, request: Received) -> tuple[int, Any]:
        meta = {"n_params": 1_000, "size": self.size, "n_ctx": 4_096, "n_ctx_train": 4_096, "ftype": "F16"}
        if path == "/v1/models":
            row = {"id": self.name, "object": "model", "owned_by": "llamacpp", "meta": meta}
            return 200, {"object": "list", "data": [row]}
        if path == "/health":
            return 200, {"status": "ok"}
        if path == "/props":
            return 200, {"total_slots": 4, "chat_template": self.template, "build_info": "b1"}
        if path == "/apply-template":
            said = "".join(f"{one['role']}: {one['content']}\n" for one in request.json()["messages"])
            return 200, {"prompt": f"{said}assistant:"}
        if path == "/tokenize":
            return 200, {"tokens": self._ids(request.json()["content"])}
        return 404, {"error": {"code": 404, "message": "File Not Found"}}

    def _ids(self, text: str) -> list[int]:
        """Those of one of its words, where it is asked for them; else those of the prompt."""
        position = FIRST
        for word, tokens in self.words:
            if word == text and self.tells:
                return list(range(position, position + tokens))
            position += tokens
        return PROMPT

    def frames(self, asked: dict[str, Any]) -> list[Any]:
        """What it says, from where the ids end."""
        given = asked["prompt"]
        assert given[: len(PROMPT)] == PROMPT
        done = len(given) - len(PROMPT)
        assert given[len(PROMPT) :] == list(range(FIRST, FIRST + done)), given
        most, stops = asked.get("n_predict", 10_000), asked.get("stop", [])
        found: list[Any] = []
        made, position, held = 0, 0, ""
        base = {"stop": False, "tokens_evaluated": len(given)}
        for word, tokens in self.words:
            position += tokens
            if position <= done:
                continue
            assert position - tokens >= done, "the ids end inside a word"
            made += tokens
            if made > most:
                return [*found, self._last("limit", most, given)]
            held += word
            ids = [FIRST + position - 1]
            stop = next((one for one in stops if one in held), None)
            if stop is not None:
                text = held[: held.index(stop)]
                found.append({**base, "content": text, "tokens": ids, "tokens_predicted": made})
                return [*found, self._last("word", made, given)]
            if any(held.endswith(one[:size]) for one in stops for size in range(1, len(one))):
                text = ""
            else:
                text, held = held, ""
            found.append({**base, "content": text, "tokens": ids, "tokens_predicted": made})
            if made == most:
                return [*found, self._last("limit", made, given)]
        return [*found, self._last("eos", made + 1, given)]

    def _last(self, why: str, made: int, given: Sequence[int]) -> dict[str, Any]:
        counts = {"tokens_predicted": made, "tokens_evaluated": len(given)}
        timings = {"cache_n": 0, "prompt_n": len(given), "predicted_n": made}
        return {"content": "", "tokens": [], "stop": True, "stop_type": why, "timings": timings, **counts}


def after(frames: int, how: Any = None) -> Callable[[list[Any]], list[Any]]:
    """It dies behind so many frames; by a reset where nothing else is said."""
    return lambda said: [*said[:frames], reset() if how is None else how]


def frame(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"
