"""Words that stand for something still to be filled in, and passwords that everybody knows."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_ANYWHERE: Final = re.compile(
    r"TO[_ -]BE[_ -]CONFIGURED|CHANGE[_ -]?(?:ME|THIS)(?![a-z])|REPLACE[_ -]?ME|FILL[_ -]?ME", re.IGNORECASE
)
_WHOLE: Final = re.compile(
    r"<[^<>]+>"
    r"|\[[A-Z][A-Z0-9 _-]+\]"
    r"|(?:sk-)?(?:your|my|some)[_-](?:[a-z0-9]+[_-])*(?:key|token|password|secret)(?:[_-]here)?"
    r"|(?:sk-)?(?:\.{3,}|x{4,}|\*{4,})"
    r"|todo|tbd|placeholder|insert[_-].*[_-]here",
    re.IGNORECASE,
)
_KNOWN: Final = frozenset(
    {
        "sk-1234",
        "sk-12345",
        "sk-123456",
        "admin",
        "administrator",
        "password",
        "passw0rd",
        "postgres",
        "root",
        "secret",
        "test",
        "test123",
        "1234",
        "12345",
        "123456",
        "12345678",
        "123456789",
        "letmein",
        "qwerty",
        "default",
        "dbpassword9090",
        "litellm",
        "fleetgate",
        "master-key",
        "masterkey",
    }
)
NO_KEY: Final = frozenset(
    {"none", "empty", "dummy", "no-key", "nokey", "not-needed", "ollama", "null", "-", "x"}
)
"""What people write where an engine wants some text but no key: neither secret nor wrong."""


def is_placeholder(text: str) -> bool:
    """Whether a text says that something is still to be filled in."""
    return bool(placeholder_in(text))


def placeholder_in(text: str) -> str:
    """The placeholder alone, since the text around it may be a secret; empty where there is none."""
    match = _ANYWHERE.search(text) or _WHOLE.fullmatch(text.strip())
    return match[0] if match else ""


def is_known_password(text: str) -> bool:
    """Whether a secret is one that stands in an example somewhere."""
    return text.strip().lower() in _KNOWN


def known_password_in_url(text: str) -> bool:
    """`postgresql://postgres:postgres@…`: a well-known password, or the user's own name as one."""
    try:
        parts = urlsplit(text)
        password, user = parts.password, parts.username
    except ValueError:
        return False
    if not password:
        return False
    return password == user or is_known_password(password)


def hide_password(text: str) -> str:
    """A URL without its password; any other text as it is."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", r"\1:***@", text)
