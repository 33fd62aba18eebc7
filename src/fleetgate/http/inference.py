"""OpenAI's routes: inference and the list of models."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic.models import ModelRow, models_form
from fleetgate.dialects.cohere import Rerank
from fleetgate.domain import Capability
from fleetgate.errors import Refused
from fleetgate.gateway.exchange import Exchange
from fleetgate.gateway.operation import Operation
from fleetgate.http import answers
from fleetgate.http.door import check_type, read_head
from fleetgate.http.table import FORM, Access, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.http.call import Call
    from fleetgate.routing.plan import Route


def rows() -> Iterator[Row]:
    """Every route with and without `/v1`: clients differ in what they call the base URL."""
    for prefix in ("/v1", ""):
        for path, capability, doc in _INFERENCE:
            yield Row(
                "POST",
                f"{prefix}{path}",
                Access.CALLER,
                infer,
                doc,
                capability,
                store=STORE_DOWN,
                media=_ANSWERS.get(capability, (EVENTS,)),
                takes=FORM if capability in _FORMS else JSON,
            )
        yield Row(
            "GET",
            f"{prefix}/models",
            Access.CALLER,
            models,
            "The names that can be asked for.",
            gives=answers.ModelList,
        )
        yield Row(
            "GET",
            f"{prefix}/models/{{id}}",
            Access.CALLER,
            model,
            "One of these names.",
            gives=answers.ModelEntry,
        )

    doc = "The same as Cohere's clients ask for it."
    yield Row("POST", "/v2/rerank", Access.CALLER, infer, doc, Capability.RERANK, Rerank(), store=STORE_DOWN)


STORE_DOWN: Final = "goes on; entries wait in memory, bounded"
_INFERENCE: Final = (
    ("/chat/completions", Capability.CHAT, "Chat, whole or streamed."),
    ("/completions", Capability.COMPLETE, "Text completion, whole or streamed."),
    ("/embeddings", Capability.EMBED, "Embeddings."),
    ("/images/generations", Capability.IMAGE, "Pictures, by their description."),
    ("/images/edits", Capability.EDIT, "Pictures changed by words, as a form with the pictures."),
    ("/audio/speech", Capability.SPEAK, "Text spoken, streamed as it is made."),
    ("/audio/transcriptions", Capability.TRANSCRIBE, "Speech as text, as a form with the recording."),
    ("/audio/translations", Capability.TRANSLATE, "Speech as English text, as a form with the recording."),
    ("/moderations", Capability.MODERATE, "Whether a text or picture is harmful."),
    ("/rerank", Capability.RERANK, "Documents in the order of their fit to a question."),
)


_FORMS: Final = frozenset({Capability.EDIT, Capability.TRANSCRIBE, Capability.TRANSLATE})
"""work that is asked for with a form"""
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
_ANSWERS: Final = MappingProxyType(
    {
        Capability.SPEAK: ("audio/*", EVENTS),
        Capability.TRANSCRIBE: ("text/plain", EVENTS),
        Capability.TRANSLATE: ("text/plain",),
        Capability.EMBED: (),
        Capability.RERANK: (),
        Capability.MODERATE: (),
    }
)
"""what answers may be beside JSON; who is not here may stream"""


async def infer(call: Call) -> None:
    """One exchange."""
    row = call.row
    assert row is not None
    assert row.capability is not None
    gateway = call.gateway
    check_type(call, row.takes, strict=False)
    form = call.header(b"content-type") if row.takes == FORM else None
    head = read_head(call, gateway.instance, gateway.conversation_headers)
    exchange = Exchange(
        gateway,
        call.receive,
        call.send,
        principal=call.principal,
        operation=Operation(row.capability, row.template, row.dialect, form, call.cut),
        request_id=call.request_id,
        head=head,
    )
    await exchange.run()


async def models(call: Call) -> None:
    """The catalogue, from what is known: never by asking the engines."""
    may = call.gateway.routes_listed(call.principal)
    if b"anthropic-version" in call.headers:
        await call.json(_for_anthropic(call, may))
        return
    await call.json({"object": "list", "data": [_entry(route.name, route) for route in may]})


def _for_anthropic(call: Call, may: list[Route]) -> dict[str, Any]:
    """The same list as Anthropic's clients read it: their own header asks for that."""
    query = call.query()
    limit = query.get("limit", "")
    found = [ModelRow(route.name, context_length=_fits(route)) for route in may]
    return models_form(
        found,
        limit=int(limit) if limit.isdigit() else None,
        after=query.get("after_id", ""),
        before=query.get("before_id", ""),
    )


def _fits(route: Route) -> int | None:
    """Tokens that fit into the model that would answer first."""
    return next((one.context for step in route.steps for one in step.candidates), None)


async def model(call: Call) -> None:
    await call.json(_entry(call.argument, call.gateway.route_of(call.argument, call.principal)))


def _entry(name: str, route: Route) -> dict[str, Any]:
    """An entry in OpenAI's form; `owned_by` says what kind of name it is."""
    return {"id": name, "object": "model", "created": 0, "owned_by": f"fleetgate:{route.origin}"}


def capability_named(name: str) -> Capability:
    """A capability from a query. Raises Refused."""
    try:
        return Capability(name or "chat")
    except ValueError:
        known = ", ".join(one.value for one in Capability)
        raise Refused(
            400, "malformed", f"there is no capability {name[:50]!r}", advice=f"Known: {known}."
        ) from None
