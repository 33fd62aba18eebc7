"""Sampling, the form of the answer and thinking: what stands beside the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.ollama import fields
from fleetgate.dialects.ollama.table import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.left_out import LeftOut

_WHOLE: Final = frozenset({"top_k", "seed", "num_predict"})
_LEVELS: Final = ("none", "minimal", "low", "medium", "high")
_ABOVE: Final = ("xhigh", "max")
"""understood by too few: asked for as the highest, and named"""
_SCHEMA_NAME: Final = "answer"
"""the form between asks for a name, Ollama has none"""


def sampling(body: Mapping[str, Any], left: LeftOut) -> dict[str, Any]:
    """The options that have a place in the form between."""
    options = fields.table(body, "options")
    form: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name not in OPTIONS:
            continue
        read = _option(name, value)
        if read is not None:
            form[OPTIONS[name]] = read
    left.rest(options, OPTIONS, "options.")
    return form


def _option(name: str, value: Any) -> Any:
    """None: it is one of those values that stand for the usual behaviour."""
    where = f"options.{name}"
    if name == "stop":
        return _stops(value, where)
    if name not in _WHOLE:
        return fields.number(value, where)
    found = fields.whole(value, where)
    if (name == "num_predict" and found <= 0) or (name == "seed" and found < 0):
        return None
    return found


def _stops(value: Any, where: str) -> list[str] | None:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise fields.malformed(f"`{where}` must be a text or a list of them", where)
    return stops or None


def answer_form(body: Mapping[str, Any]) -> dict[str, Any]:
    """`format`: "json", or a JSON schema."""
    wanted = body.get("format")
    if wanted is None or wanted == "":
        return {}
    if wanted == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(wanted, dict):
        schema = {"name": _SCHEMA_NAME, "schema": wanted}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise fields.malformed('`format` must be "json" or a JSON schema', "format")


def thinking(body: Mapping[str, Any], left: LeftOut) -> dict[str, Any]:
    """`think`: whether, or how much. Templates of local models read the one member, others the other."""
    think = body.get("think")
    if think is None or think == "":
        return {}
    if isinstance(think, bool):
        form: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": think}}
        return form if think else {**form, "reasoning_effort": "none"}
    if isinstance(think, str) and think in _ABOVE:
        left.add("think")
        think = _LEVELS[-1]
    if isinstance(think, str) and think in _LEVELS:
        return {"chat_template_kwargs": {"enable_thinking": think != "none"}, "reasoning_effort": think}
    raise fields.malformed(f"`think` must be true, false or one of {', '.join((*_LEVELS, *_ABOVE))}", "think")


def probabilities(body: Mapping[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {}
    if fields.flag(body, "logprobs"):
        form["logprobs"] = True
        most = body.get("top_logprobs")
        if most is not None:
            form["top_logprobs"] = fields.whole(most, "top_logprobs")
    return form
