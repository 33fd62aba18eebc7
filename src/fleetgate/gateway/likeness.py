"""What makes requests equal, and what a caller says about being answered from the cache. Pure.

Equal are requests with the same members at the top level, in whatever order, with values that are the
same byte for byte. Left out is what changes nothing about the words: `stream` and the wish for a usage
frame (streams are kept apart from whole answers), `user`, and LiteLLM's `cache`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTROL: Final = "cache"
"""LiteLLM's member; ours, and not sent on, where answers are kept"""
_LEFT_OUT: Final = frozenset({"user", "include_usage"})
_encode: Final = msgspec.json.encode


class _Control(msgspec.Struct, frozen=True):
    no_cache: bool | None = msgspec.field(name="no-cache", default=None)
    no_store: bool | None = msgspec.field(name="no-store", default=None)
    ttl: float | None = None
    oldest: float | None = msgspec.field(name="s-maxage", default=None)
    namespace: str | None = None


_control: Final = msgspec.json.Decoder(_Control | None)
_NOTHING_SAID: Final = _Control()


@dataclass(frozen=True, slots=True)
class Likeness:
    """What is taken from a body when it is read."""

    digest: bytes
    """of everything that counts; empty: too large to be compared"""
    control: bytes
    """the member `cache` as it came; empty: there is none"""


def likeness(
    members: dict[str, msgspec.Raw], options: dict[str, Any], *, stream: bool, compare: bool
) -> Likeness:
    """Of the members of a body that are not the gateway's own; takes `cache` out of them.

    `options`: `stream_options`, which change the frames of a stream. `compare` False: only the wishes.
    """
    control = bytes(members.pop(CONTROL, b""))
    if not compare:
        return Likeness(b"", control)
    found = hashlib.sha256(b"stream" if stream else b"whole")
    if stream:
        found.update(_encode({key: options[key] for key in sorted(options) if key not in _LEFT_OUT}))
    found.update(_encode({key: members[key] for key in sorted(members) if key not in _LEFT_OUT}))
    return Likeness(found.digest(), control)


def fingerprint(parts: Iterable[str], digest: bytes) -> str:
    """One digest of a body's and of whatever else tells requests apart. Parts never run into each other."""
    found = hashlib.sha256(digest)
    for part in parts:
        raw = part.encode()
        found.update(b"%d:" % len(raw))
        found.update(raw)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants of the cache. Times in seconds."""

    read: bool = True
    store: bool = True
    oldest: float | None = None
    """no answer older than that"""
    ttl: float | None = None
    """keep the answer no longer than that"""
    namespace: str = ""
    """only answers that were asked for in the same one"""


NO_WISHES: Final = Wishes()


def wishes(header: bytes, control: bytes) -> Wishes:
    """From `Cache-Control` and LiteLLM's member. Raises Refused (400) where the member has another form."""
    if not header and not control:
        return NO_WISHES
    said = _said(control) if control else _NOTHING_SAID
    directives = dict(_directives(header)) if header else {}
    ages = [age for age in (_seconds(directives.get("max-age")), said.oldest) if age is not None]
    return Wishes(
        read=not (said.no_cache or "no-cache" in directives),
        store=not (said.no_store or "no-store" in directives),
        oldest=min(ages, default=None),
        ttl=said.ttl,
        namespace=said.namespace or "",
    )


def _said(control: bytes) -> _Control:
    try:
        said = _control.decode(control) or _NOTHING_SAID
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(str(error)) from None
    if (said.ttl or 0) < 0 or (said.oldest or 0) < 0:
        raise _malformed("a time must not be negative")
    return said


def _malformed(why: str) -> Refused:
    return Refused(
        400,
        "malformed",
        f"`{CONTROL}`: {why}",
        advice='Known members: "no-cache", "no-store", "ttl", "s-maxage", "namespace".',
        param=CONTROL,
    )


def _directives(header: bytes) -> Iterable[tuple[str, str]]:
    """The directives of a header; what has another form says nothing."""
    for part in header.decode("latin-1").lower().split(","):
        name, _, value = part.partition("=")
        yield name.strip(), value.strip().strip('"')


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdecimal() and len(text) <= 10 else None
