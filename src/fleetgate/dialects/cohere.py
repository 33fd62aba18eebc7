"""Cohere's rerank, as its own clients ask for it and as Cohere itself answers it. Pure.

The form between is Jina's, which most engines speak: documents may be objects with a `text`, the answer may
repeat them, and usage is counted in tokens. Cohere's second version takes texts alone and repeats none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects import openai
from fleetgate.dialects.port import Translated
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.openai import ErrorForm
    from fleetgate.dialects.port import Answering, Native
    from fleetgate.errors import Refused

NAME: Final = "cohere"
_KNOWN: Final = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})
"""all members that Cohere takes"""
_PASSES: Final = _KNOWN | {"stream", "user"}
_RETURN: Final = "return_documents"


class Rerank:
    """Callers of `/v2/rerank`."""

    name = NAME
    stream_type = b"application/json"
    native: Native | None = None

    def request(self, body: Mapping[str, Any]) -> Translated:
        members = {name: value for name, value in body.items() if name in _PASSES and name != "stream"}
        members.pop("priority", None)
        left_out = tuple(sorted(body.keys() - members.keys() - {"stream"}))
        top = body.get("top_n")
        return Translated(members, left_out, memory=top if type(top) is int else None)

    def answer(self, body: Mapping[str, Any], memory: int | None, request_id: str) -> Mapping[str, Any]:
        """Raises AttemptFailed (garbage) where no order is in it."""
        rows = sorted(_scores(body), key=lambda row: -row[1])
        meta: dict[str, Any] = {"api_version": {"version": "2"}}
        usage = body.get("usage")
        count = usage.get("prompt_tokens", usage.get("total_tokens")) if isinstance(usage, dict) else None
        if type(count) is int:
            meta["tokens"] = {"input_tokens": count}
        told = body.get("id")
        return {
            "id": told if isinstance(told, str) else request_id,
            "results": [{"index": index, "relevance_score": score} for index, score in rows[:memory]],
            "meta": meta,
        }

    def answering(self, memory: Any, request_id: str) -> Answering:  # noqa: ARG002  (the port)
        """Raises AttemptFailed: nobody asks for an order in pieces, so none can have come."""
        raise AttemptFailed(FailureClass.GARBAGE, "an order came in pieces")

    def error_form(self, refused: Refused, request_id: str) -> ErrorForm:
        form = openai.error_form(refused, request_id)
        said = openai.error_object(refused, request_id)
        body = {"id": request_id, "message": said["message"]}
        if said.get("code"):
            body["code"] = said["code"]
        return openai.ErrorForm(form.status, form.headers, msgspec.json.encode(body))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as Cohere takes it, and what its answer needs."""

    members: Mapping[str, Any]
    left_out: tuple[str, ...]
    documents: tuple[Any, ...]
    """as they were written, where the answer is to repeat them"""


def outbound(members: Mapping[str, Any]) -> Asked:
    """From the form between."""
    documents = members.get("documents")
    documents = documents if isinstance(documents, list) else []
    sent = {name: value for name, value in members.items() if name in _KNOWN}
    sent["documents"] = [_text(one) for one in documents]
    left_out = tuple(sorted(members.keys() - sent.keys() - {_RETURN}))
    return Asked(sent, left_out, tuple(documents) if members.get(_RETURN) else ())


def inbound(answer: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Cohere's answer in the form between. Raises AttemptFailed (garbage)."""
    found: list[dict[str, Any]] = []
    for index, score in _scores(answer):
        row: dict[str, Any] = {"index": index, "relevance_score": score}
        if 0 <= index < len(asked.documents):
            document = asked.documents[index]
            row["document"] = {"text": document} if isinstance(document, str) else document
        found.append(row)
    meta = answer.get("meta")
    made = {"id": answer.get("id"), "object": "list", "model": asked.members.get("model"), "results": found}
    if isinstance(meta, dict):
        made["meta"] = meta
        tokens = meta.get("tokens")
        count = tokens.get("input_tokens") if isinstance(tokens, dict) else None
        if isinstance(count, int | float) and not isinstance(count, bool):
            made["usage"] = {"prompt_tokens": int(count), "total_tokens": int(count)}
    return made


def _text(document: Any) -> str:
    if isinstance(document, str):
        return document
    if isinstance(document, dict) and isinstance(document.get("text"), str):
        return str(document["text"])
    return msgspec.json.encode(document).decode()


def _scores(answer: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Place and score of each document, as they came. Some engines say `score`."""
    rows = answer.get("results")
    if not isinstance(rows, list):
        raise AttemptFailed(FailureClass.GARBAGE, "the answer has no results")
    found = []
    for row in rows:
        index = row.get("index") if isinstance(row, dict) else None
        score = row.get("relevance_score", row.get("score")) if isinstance(row, dict) else None
        if type(index) is not int or isinstance(score, bool) or not isinstance(score, int | float):
            raise AttemptFailed(FailureClass.GARBAGE, "a result has no place or no score")
        found.append((index, float(score)))
    return found
