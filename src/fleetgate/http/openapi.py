"""The OpenAPI document: the route table and the forms of bodies and answers, as other programs read them.

It is made of the rows, so that it cannot say something else than what is answered. Bodies are closed
(a member that is not declared is refused), answers are open: later versions may add members.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from fleetgate.http import answers
from fleetgate.http.table import Access, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel

    from fleetgate.http.call import Call
    from fleetgate.http.parameters import Parameter

AT: Final = "/admin/api/openapi.json"
ADMIN: Final = "/admin/api/"
INFERENCE: Final = "/v1/"
_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"
_NOTE: Final = (
    "Answers may get more members in later versions; a body or a query with one that is not declared is "
    "refused. `HEAD` works where `GET` does. Paths of OpenAI's API work without `/v1`, too. Money is in "
    "nano-dollars, and what nobody knows is null."
)
_TAGS: Final = (
    ("gateway", "What it knows, and its configuration.", ("explain", "models", "status", "config", "reload")),
    ("keys", "Keys.", ("keys",)),
    ("people", "Users and teams.", ("users", "teams")),
    ("audit", "Administrative changes.", ("audit",)),
    ("limits", "Limits, quotas and budgets.", ("limits",)),
    ("money", "Money as a whole.", ("budget",)),
    ("usage", "What was used.", ("usage", "exchanges")),
    ("fleet", "Machines, and what they have in memory.", ("nodes", "deployments", "top")),
    ("providers", "Providers and their accounts.", ("providers",)),
    ("cache", "The answer cache.", ("cache",)),
    ("document", "This document.", ("openapi.json",)),
    ("inference", "OpenAI's API.", ()),
)
_REFUSALS: Final = {
    400: "Something in it is wrong: `param` names it where it has a name.",
    401: "The key is missing or not valid.",
    403: "The key may not do this, or the address or web page it comes from may not.",
    404: "There is no such thing.",
    409: "It does not fit what is there.",
    413: "The body is too large.",
    415: "The body has a type that is not taken here.",
    429: "Too many wrong keys came from this address, or a limit is reached.",
    503: "The database does not answer, or the gateway is stopping.",
}
_ALWAYS: Final = (400, 401, 403, 429, 503)


def rows(others: Sequence[Row], version: str) -> Iterable[Row]:
    """The row of the document about these rows and itself. It is made when it is asked for first."""
    made: list[bytes] = []

    async def show(call: Call) -> None:
        if not made:
            made.append(msgspec.json.encode(document([*others, row], version)))
        await call.reply(200, ((b"content-type", _JSON.encode()),), made[0])

    doc = "This API as an OpenAPI document."
    row = Row("GET", AT, Access.VIEWER, show, doc, query=(), gives=answers.Document)
    yield row


def document(table: Iterable[Row], version: str) -> dict[str, Any]:
    """All of the admin API, and OpenAI's with `/v1`."""
    shown = [row for row in table if row.template.startswith((ADMIN, INFERENCE))]
    paths: dict[str, dict[str, Any]] = {}
    for row in shown:
        paths.setdefault(row.template, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fleetgate", "version": version, "description": _NOTE},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"header": []}],
        "tags": [{"name": name, "description": text} for name, text, _ in _TAGS],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "responses": {str(status): _refusal(status, text) for status, text in _REFUSALS.items()},
            "schemas": _schemas(shown),
        },
    }


def _operation(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _name(row),
        "summary": row.doc,
        "description": f"Access: {row.access.value}. While the database is down: {row.store}.",
        "tags": [_tag(row)],
        "parameters": [*_in_path(row), *map(_in_query, row.query or ())],
    }
    if row.capability is not None:
        return {**found, "requestBody": _asked(row), "responses": _inferred(row)}
    if row.request is not None:
        required = any(field.is_required() for field in row.request.model_fields.values())
        found["requestBody"] = {"required": required, "content": _content(_form(row.request))}
    return {**found, "responses": _responses(row)}


def _name(row: Row) -> str:
    path = row.template.removeprefix(ADMIN.rstrip("/")).removesuffix(".json")
    return "_".join([row.method.lower(), *re.findall(r"\w+", path)])


def _tag(row: Row) -> str:
    word = row.template.removeprefix(ADMIN).partition("/")[0]
    return next((name for name, _, words in _TAGS if word in words), "inference")


def _in_path(row: Row) -> list[dict[str, Any]]:
    name = row.template.partition("{")[2].partition("}")[0]
    if not name:
        return []
    text = "Percent-encoded, a slash as `%2F`."
    form = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "description": text, "schema": form}]


def _in_query(one: Parameter) -> dict[str, Any]:
    form: dict[str, Any] = _plain(TypeAdapter(one.form).json_schema())
    if one.required and form.get("type") == "string":
        form["minLength"] = 1
    doc = f"{one.doc[0].upper()}{one.doc[1:]}."
    return {"name": one.name, "in": "query", "required": one.required, "description": doc, "schema": form}


def _responses(row: Row) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done." if row.audited else "What is asked for."}
    if row.gives is not None:
        good["content"] = _content(_form(row.gives), row.media)
    statuses = {*_ALWAYS, *row.refuses}
    statuses |= {404} if "{" in row.template else set()
    statuses |= {413} if row.request is not None else set()
    statuses |= {415} if row.method != "GET" else set()
    found: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)
    }
    for status, form in row.others:
        either = _content({"anyOf": [_form(answers.Error), _form(form)]})
        found |= {str(status): {"description": _REFUSALS[status], "content": either}}
    return {str(row.status): good, **found}


def _refusal(status: int, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": text, "content": _content(_form(answers.Error))}
    if status in (429, 503):
        wait = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
        found["headers"] = {"retry-after": wait}
    return found


def _asked(row: Row) -> dict[str, Any]:
    form = {
        "type": "object",
        "properties": {"model": {"type": "string", "description": "A name that `/v1/models` lists."}},
        "required": ["model"],
        "additionalProperties": True,
    }
    return {"required": True, "content": {row.takes: {"schema": form}}}


def _inferred(row: Row) -> dict[str, Any]:
    fault = {"description": "An error, in OpenAI's form.", "content": _content(_form(answers.Error))}
    whole = _content({"type": "object"}, row.media or ("text/event-stream",))
    return {"200": {"description": "The answer, as the engine gave it.", "content": whole}} | {
        "4XX": fault,
        "5XX": fault,
    }


def _content(form: dict[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
    return {_JSON: {"schema": form}} | {media: {"schema": {"type": "string"}} for media in others}


def _form(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


class _Untitled(GenerateJsonSchema):
    """Titles that repeat the name of a member say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002
        """Keeps the declared order, which readers see."""
        return value


def _schemas(table: Iterable[Row]) -> dict[str, Any]:
    table = tuple(table)
    bodies = {row.request: None for row in table if row.request is not None}
    partial = {row.request.__name__ for row in table if row.request is not None and row.method == "PATCH"}
    given = {row.gives: None for row in table if row.gives is not None}
    given |= dict.fromkeys(form for row in table for _, form in row.others)
    open_ones = {
        name: {key: value for key, value in form.items() if key != "additionalProperties"}
        if form.get("additionalProperties") is False
        else form
        for name, form in _defined([answers.Error, *given]).items()
    }
    closed = {
        name: _without_defaults(form) if name in partial else form for name, form in _defined(bodies).items()
    }
    return {name: _plain(form) for name, form in sorted({**closed, **open_ones}.items())}


def _without_defaults(form: dict[str, Any]) -> dict[str, Any]:
    """Of a change: members that are not there stay as they are."""
    members = {
        name: {key: value for key, value in member.items() if key != "default"}
        for name, member in form["properties"].items()
    }
    return {**form, "properties": members}


def _defined(models: Iterable[type[BaseModel]]) -> dict[str, dict[str, Any]]:
    mode: JsonSchemaMode = "validation"
    wanted = [(model, mode) for model in models]
    _, found = models_json_schema(wanted, ref_template=_REF, schema_generator=_Untitled)
    return dict(found["$defs"])


def _plain(form: dict[str, Any]) -> dict[str, Any]:
    """Without its name, which stands where it is used, and with its text on one line."""
    found = {key: value for key, value in form.items() if key != "title"}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    return found
