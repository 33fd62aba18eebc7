"""Where something outside is, as a URL that may hold a password: the database, the shared state.

It is a secret that shows everything but the password. It is written out, or as a reference to the whole
of it: `"${DATABASE_URL}"`, `"${file:/path}"`. Only `reveal()` gives the text, and `password` the part
that logs must never hold.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import unquote

from pydantic import BeforeValidator, Field

from fleetgate.config.secrets import Secret, secret

if TYPE_CHECKING:
    from pydantic import ValidationInfo

_HIDDEN: Final = re.compile(r"([?&][^=&#]*(?:pass|secret|token|key)[^=&#]*=)[^&#]*", re.IGNORECASE)
_IN_QUERY: Final = re.compile(r"[?&]password=([^&#]*)", re.IGNORECASE)


class Locator(Secret):
    """A place by its URL, or by a word such as `sqlite`."""

    __slots__ = ()

    @classmethod
    def of(cls, given: Secret) -> Locator:
        text = given.reveal() if given.resolved else None
        return cls(text, kind=given.kind, reference=given.reference, problem=given.problem)

    @property
    def password(self) -> str:
        """The password in it; empty where there is none."""
        if self._text is None:
            return ""
        _, _, password, tail = _taken_apart(self._text)
        asked = _IN_QUERY.search(tail)
        return unquote(password or (asked[1] if asked else ""))

    def __str__(self) -> str:
        if self._text is None:
            return "unresolved"
        head, user, password, tail = _taken_apart(self._text)
        login = f"{user}:***@" if password else f"{user}@" if user else ""
        return head + login + _HIDDEN.sub(r"\1***", tail)


def _taken_apart(text: str) -> tuple[str, str, str, str]:
    """What is before the login, user, password, what is after. A password with odd signs is taken whole."""
    scheme, mark, rest = text.partition("://")
    login, at, tail = rest.rpartition("@")
    if not mark or not at:
        return "", "", "", text
    user, _, password = login.partition(":")
    return f"{scheme}://", user, password, tail


def _locator(value: Any, info: ValidationInfo) -> Locator:
    return value if isinstance(value, Locator) else Locator.of(secret(value, info))


LocatorRef = Annotated[
    Locator,
    BeforeValidator(_locator, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "address"}),
]
"""a word, a URL, or `"${ENV}"` for the whole of it"""
