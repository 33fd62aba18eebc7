"""A conversation as templates of models take it: one system, at the beginning, and turns that change. Pure.

Coding agents write such turns (which agents there are, that a mode has changed). Many templates refuse them,
and with them every request of the agent. Moved to the beginning they would change it each time, and an engine
would have to read the whole conversation again. So they stay where they are, as words of the user in a mark
that models know from these agents, and joined to what the user says there: turns go on changing.

For the same reason messages of the user in a row become one, as Anthropic's own interface joins them: Codex
begins with two, and templates that insist on a change would refuse all it asks.
"""

from __future__ import annotations

from typing import Any, Final

JOINT: Final = "\n"


def placed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation: one system message at most, the first, and no two of the user in a row."""
    found: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        role = message["role"]
        if role == "user" and found and found[-1]["role"] == "user" and not waiting:
            found[-1] = {**found[-1], "content": _joined(found[-1]["content"], message["content"])}
        elif role != "system":
            found += _with(waiting, message)
            waiting = []
        elif not found:
            found.append(message)
        elif found[-1]["role"] == "system":
            found[-1] = {**found[-1], "content": f"{found[-1]['content']}{JOINT}{message['content']}"}
        elif found[-1]["role"] == "user" and not waiting:
            found[-1] = {**found[-1], "content": _joined(found[-1]["content"], _marked(message["content"]))}
        else:
            waiting.append(_marked(message["content"]))
    return found + _with(waiting, None)


def _with(waiting: list[str], message: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A message behind what was said before it."""
    after = [] if message is None else [message]
    if not waiting:
        return after
    text = JOINT.join(waiting)
    if message is not None and message["role"] == "user":
        return [{**message, "content": _joined(text, message["content"])}]
    return [{"role": "user", "content": text}, *after]


def _marked(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


def _joined(first: Any, second: Any) -> Any:
    """Contents of two messages as one."""
    if isinstance(first, str) and isinstance(second, str):
        return JOINT.join(one for one in (first, second) if one)
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [*content]
