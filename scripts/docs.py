"""Write the pages of docs/reference that follow from the source: failures, settings, commands, routes.

`make docs` runs it; `tests/test_docs.py` fails while a page on disk differs from what this gives.
"""

from __future__ import annotations

import dataclasses
import json
import types
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

import click
from pydantic_core import PydanticUndefined

from fleetgate import __version__
from fleetgate.cli import ask, main
from fleetgate.config import declaration
from fleetgate.config.json_schema import ID, json_schema
from fleetgate.config.schema import Settings
from fleetgate.dialects.ollama.table import FATES
from fleetgate.dialects.responses.table import TABLE as RESPONSES
from fleetgate.errors import TABLE, Row
from fleetgate.http.openapi import document
from fleetgate.http.routes import Owners, every_row
from fleetgate.http.status import Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pydantic import BaseModel

    from fleetgate.http.table import Row as RouteRow

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
FATES_TOLD: Final = (
    "What is left out is named in the header `x-fleetgate-left-out` and changes no meaning; what is refused"
    " is answered with 400. Whatever is not here is left out and named."
)
NOTE: Final = "<!-- Written by `make docs` from the source; changes made here are lost. -->\n"


def failures() -> str:
    """The failure table, row by row."""
    lines = [
        "| class | seen as | blamed | effect | then | status if it is the last |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in TABLE.items():
        unsent = " (not an attempt)" if not row.dispatched else ""
        cells = (f"`{name.value}`", row.seen_as, row.blame.value, row.effect, row.verdict.value + unsent)
        lines.append(_row(*cells, _status(row)))
    advice = [f"- `{name.value}`: {row.to_caller}" for name, row in TABLE.items() if row.to_caller]
    return "\n".join([
        "# Failures", NOTE,
        "Every way an attempt can fail, who is blamed, and what follows. One table decides all of it.\n",
        *lines, "", "## What to do", "", *advice, "",
    ])  # fmt: skip


def _status(row: Row) -> str:
    status = "as the upstream gave it, or none" if row.status is None else str(row.status)
    return status + (" + `retry-after`" if row.retry_after else "") + (" + no retry" if row.terminal else "")


def settings() -> str:
    """Every key of the configuration, block by block."""
    parts = [
        "# Configuration",
        NOTE,
        "Every key of the file. Durations, sizes and money are written with units.",
    ]
    for title, block in _blocks("", Settings, ()):
        about = " ".join((block.__doc__ or "").split())
        parts += ["", f"## {title or 'The file'}", "", about, ""]
        parts += ["| key | value | default | change | meaning |", "| --- | --- | --- | --- | --- |"]
        for field in declaration.fields(block):
            change = "not yet in effect" if field.later else "restart" if field.restart else "live"
            value = field.unit or _kind(field.shape)
            parts.append(_row(f"`{field.key}`", value, _default(field), change, field.info.description or ""))
    return "\n".join([*parts, ""])


def _blocks(
    title: str, block: type[BaseModel], above: tuple[type[BaseModel], ...]
) -> Iterator[tuple[str, type[BaseModel]]]:
    """A block and those below it, each with the path that leads there; recursion is cut."""
    yield title, block
    for field in declaration.fields(block):
        shape, path = field.shape, f"{title}.{field.key}".strip(".")
        while shape.item is not None:
            path += {"map": ".NAME", "list": "[]"}[shape.kind]
            shape = shape.item
        if shape.block is not None and shape.block not in (block, *above):
            yield from _blocks(path, shape.block, (*above, block))


def _kind(shape: declaration.Shape) -> str:
    if shape.kind == "leaf":
        return _type(shape.annotation)
    inner = f" of {_kind(shape.item)}" if shape.item is not None else ""
    return shape.kind + inner


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_type(one) for one in get_args(annotation) if one is not types.NoneType)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    names = {str: "text", int: "number", float: "number", bool: "yes or no", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", "value").lower())


def _default(field: declaration.Field) -> str:
    value = field.info.get_default(call_default_factory=False)
    if field.info.is_required() or value is PydanticUndefined:
        return "required"
    if value is None or value in ("", (), {}) or field.shape.kind == "block":
        return ""
    if isinstance(value, tuple):
        return "`" + ", ".join(str(one) for one in value) + "`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, float):
        return f"`{value:g}{'s' if field.unit == 'duration' else ''}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def commands() -> str:
    """Every command with what its `--help` says."""
    parts = ["# Commands", NOTE, "What `--help` says, command by command. `ask` comes last."]
    for path, text in _helps(main.fleetgate, "fleetgate"):
        parts += ["", f"## {path}", "", "```text", text.strip(), "```"]
    parts += [
        "",
        "## ask",
        "",
        *_ask_options(),
        "",
        "```text",
        ask.EXAMPLES.strip(),
        "",
        ask.SURROUNDINGS.strip(),
    ]
    return "\n".join([*parts, "```", ""])


def _helps(
    command: click.Command, path: str, above: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """A command and those below it. The width is fixed: the page must not depend on a terminal."""
    settings = {**command.context_settings, "terminal_width": 100}
    around = click.Context(command, above, path.rpartition(" ")[2], **settings)
    yield path, command.get_help(around)
    if isinstance(command, click.Group):
        for name in command.list_commands(around):
            below = command.get_command(around, name)
            assert below is not None
            yield from _helps(below, f"{path} {name}", around)


def _ask_options() -> Iterator[str]:
    """`ask` as a table: what argparse prints differs between versions of Python."""
    parser: argparse.ArgumentParser = ask._arguments([])[0]  # noqa: SLF001  (the one place that declares them)
    yield from ("| option | meaning |", "| --- | --- |")
    for action in parser._actions:  # noqa: SLF001  (argparse has no public list)
        value = f" {action.metavar}" if action.metavar else ""
        names = ", ".join(action.option_strings) or action.dest
        yield _row(f"`{names}{value}`", (action.help or "").replace("program's version number", "version"))


def _every_row() -> tuple[RouteRow, ...]:
    nobody: Any = None
    return every_row(Owners(Status(__version__, 0.0), *[nobody] * (len(dataclasses.fields(Owners)) - 1)))


def openapi() -> str:
    """The OpenAPI document."""
    return json.dumps(document(_every_row(), __version__), indent=2, ensure_ascii=False) + "\n"


def routes() -> str:
    """The route table."""
    rows = _every_row()
    templates = {(row.method, row.template) for row in rows}
    lines = []
    for row in rows:
        if (row.method, f"/v1{row.template}") in templates:
            continue  # the short form of a row that is listed
        short = (row.method, row.template.removeprefix("/v1")) in templates and row.template.startswith("/v1")
        lines.append(_row(*_route(row, short=short)))
    return "\n".join([
        "# Routes", NOTE,
        "Everything the gateway answers; a path that is not here does not exist. `HEAD` works where `GET`",
        "does. Under `base_path` every route works with the prefix present or stripped.\n",
        "Access: *anyone* needs no key (address rules still apply); *caller* needs a key, or nothing in open",
        "mode; *viewer* needs a viewer key, an admin key or the master key, *admin* one of the last two, in",
        "open mode too.\n",
        "| method | path | access | answers | while draining | without its database |",
        "| --- | --- | --- | --- | --- | --- |", *lines, "",
    ])  # fmt: skip


def _route(row: RouteRow, *, short: bool) -> tuple[str, ...]:
    also = ", also without `/v1`" if short else ""
    return (
        row.method,
        f"`{row.template}`{also}",
        row.access.value,
        row.doc,
        "yes" if row.while_draining else "no",
        row.store,
    )


def dialects() -> str:
    """What becomes of the members of requests in Ollama's API and in the Responses API."""
    head = ["| member | | |", "| --- | --- | --- |"]
    ollama = [_row(f"`{row.member}`", row.fate.value, f"{row.how} ({', '.join(row.where)})") for row in FATES]
    responses = [_row(f"`{row.member}`", row.fate.value, row.how) for row in RESPONSES]
    return "\n".join([
        "# Members of requests in other dialects", NOTE,
        f"{FATES_TOLD} Anthropic's members are in [Anthropic's Messages API](../anthropic.md).\n",
        "## Ollama\n", *head, *ollama, "", "## Responses\n", *head, *responses, "",
    ])  # fmt: skip


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    texts = {
        "failures.md": failures(),
        "configuration.md": settings(),
        "commands.md": commands(),
        "routes.md": routes(),
        "dialects.md": dialects(),
        "openapi.json": openapi(),
        ID: json.dumps(json_schema(), indent=2) + "\n",
    }
    return {REFERENCE / name: text for name, text in texts.items()}


if __name__ == "__main__":
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
        print(file.relative_to(REFERENCE.parent.parent))
