"""The route table: everything this gateway answers, one row each.

It drives dispatch, authorisation, the OpenAPI document, the reference page and the test that visits
every row. A path without a row does not exist.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pydantic import BaseModel

    from fleetgate.dialects.port import Dialect
    from fleetgate.domain import Capability
    from fleetgate.http.parameters import Parameter

    Answerer = Callable[..., Awaitable[None]]


class Access(Enum):
    """Who may use a row."""

    ANYONE = "anyone"
    CALLER = "caller"
    """whoever may ask models: a key, or everybody in open mode"""
    VIEWER = "viewer"
    """whoever may look: a viewer key, an admin key or the master key, in open mode too"""
    ADMIN = "admin"
    """an admin key or the master key, in open mode too"""


FORM: Final = "multipart/form-data"
_TWICE: Final = ("/v1/v1/", "/v1/api/")
_KEPT: Final = ("/v1/responses/", "/responses/")
_LONGEST: Final = 64
"""characters of a path that is looked at for a near one"""


@dataclass(frozen=True, slots=True)
class Row:
    """One route. `{name}` in a template is an argument: the rest of the path, or up to a verb behind it."""

    method: str
    template: str
    access: Access
    answer: Answerer
    doc: str
    capability: Capability | None = None
    dialect: Dialect | None = None
    """how its callers speak, and are told of errors; None: as OpenAI's do"""
    while_draining: bool = False
    """answered during the last moments too"""
    store: str = "not used"
    """what happens while the database is down"""
    audited: bool = False
    query: tuple[Parameter, ...] | None = None
    """what may stand behind the `?`, and nothing else; None: whatever stands there is not looked at"""
    request: type[BaseModel] | None = None
    """the form of the body; None: a body is not looked at"""
    gives: type[BaseModel] | None = None
    """the form of the answer, for the OpenAPI document: nothing is converted by it"""
    media: tuple[str, ...] = ()
    """what else than JSON can be asked for"""
    takes: str = "application/json"
    """the type of its body"""
    status: int = 200
    """of the answer where all went well"""
    others: tuple[tuple[int, type[BaseModel]], ...] = ()
    """statuses at which something else may be answered than an error, and its form"""
    refuses: tuple[int, ...] = ()
    """statuses of refusals that its kind of row does not have anyway"""


class RouteTable:
    """Finds the row of a request. Paths match exactly, never by normalising them."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: Final = tuple(rows)
        self._exact: dict[str, dict[str, Row]] = {}
        between: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.rows:
            head, brace, rest = row.template.partition("{")
            tail = rest.partition("}")[2]
            methods = between.setdefault((head, tail), {}) if brace else self._exact.setdefault(head, {})
            if row.method in methods:
                raise ValueError(f"two rows for {row.method} {row.template}")
            methods[row.method] = row
        # A path that ends in a verb means the verb, whatever else its beginning fits.
        self._between = sorted(between.items(), key=lambda item: -len(item[0][1]))

    def find(self, path: str) -> tuple[dict[str, Row], str] | None:
        """The rows of a path by method, and its argument; None: there is no such path."""
        found = self._exact.get(path)
        if found is not None:
            return found, ""
        for (head, tail), methods in self._between:
            if path.startswith(head) and path.endswith(tail) and len(path) > len(head) + len(tail):
                return methods, path[len(head) : len(path) - len(tail)]
        return None

    def hint(self, path: str) -> str:
        """What to do about a path that does not exist. Names of routes for callers only."""
        if path.startswith(_TWICE):
            return "The base URL has a /v1 that the program adds itself: leave it out there."
        if path.startswith(_KEPT):
            return "Responses are not kept here: send the whole conversation with `store: false`."
        known = [row.template for row in self.rows if row.access is Access.CALLER]
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.75) if len(path) <= _LONGEST else []
        return f"Did you mean {near[0]}?" if near else "OpenAI's routes begin with /v1, Ollama's with /api."


def describe(row: Row) -> dict[str, Any]:
    """A row as the reference shows it."""
    return {
        "method": row.method,
        "path": row.template,
        "access": row.access.value,
        "store_down": row.store,
        "audited": row.audited,
        "doc": row.doc,
    }
