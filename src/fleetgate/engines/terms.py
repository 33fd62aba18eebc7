"""On which terms an engine or provider takes a request: the rules of the table, compiled for one model. Pure.

`fits` is asked for every attempt and decides by names alone; only where a rule may apply the body is taken
apart, at its top level, and put together again with every value as it was. Nothing is done in secret: each
change is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.engines import bounds, rules
from fleetgate.engines.rules import Book, Deed, Rule, Written
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_TOKENS: Final = 1_000_000
"""of an answer, where it is not known what fits"""
MOST_GRAMMAR: Final = 64 * 1024
"""Bytes of what an engine compiles before it answers"""
MOST_SWITCHES: Final = 32
LONGEST_SWITCH: Final = 1_000
_GRAMMARS: Final = frozenset(
    {"text", "output_config", "output_format"}  # in the dialects of OpenAI's Responses and Anthropic
    | {"grammar", "json_schema", "response_format", "format", "structured_outputs", "regex", "ebnf"}
    | {"guided_json", "guided_regex", "guided_grammar", "guided_choice", "guided_decoding"}
)
_LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SWITCHES: Final = "chat_template_kwargs"
_SAYS_NOTHING: Final = frozenset({b"null", b"false", b"[]", b"{}", b'""', b"0"})
_NOTHING_OF: Final = {"n": b"1"}
_split: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encode: Final = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Change:
    """One rule that applied."""

    member: str
    deed: Deed
    why: str
    to: str = ""
    silent: bool = False
    counted: str = "other"
    """the rule's member, by which it is counted: never a name that a caller made up"""

    @property
    def text(self) -> str:
        """In a few words."""
        if self.deed is Deed.RENAME:
            return f"{self.member} sent as {self.to}"
        if self.deed is Deed.CLAMP and self.to:
            return f"{self.member} lowered to {self.to}"
        if self.deed is Deed.MAP:
            return f"{self.member} changed to {self.to}"
        return f"{self.member} {self.deed.value}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a body without taking it apart."""

    names: frozenset[str]
    """of its top-level members, but for those that the gateway writes"""
    translated: bool = False
    """the gateway made it from another dialect"""
    longest: int | None = None
    """tokens of the answer, where it says so"""
    chat: bool = True
    """False: a completion"""
    pictures: bool = False
    """there may be some in it"""


class Unfit(AttemptFailed):
    """The request cannot be taken there. `changes`: the rules that had fired, the one that refuses last."""

    def __init__(self, failed: AttemptFailed, changes: tuple[Change, ...]) -> None:
        super().__init__(failed.failure, failed.text, status=failed.status)
        self.changes = changes


NOTHING: Final = Written()


class Terms:
    """The terms of one deployment."""

    __slots__ = ("_allowed", "_of_messages", "_own", "_rules", "_watched")

    def __init__(self, book: Book, model: str, *, own: bool, written: Written = NOTHING) -> None:
        """`own`: an engine of one's own, which is kept from what would hurt it."""
        first = [one for one in written.rules if _is_for(one, model)]
        kept = {one.member for one in written.kept if _is_for(one, model)}
        settled = kept | {one.member for one in first}
        targets = {one.to for one in first if one.deed is Deed.RENAME}
        found = [
            *first,
            *(
                one
                for one in book.rules
                if _is_for(one, model)
                and one.member not in settled
                and not (one.deed is Deed.RENAME and one.member in targets)
            ),
        ]
        self._own = own
        self._allowed = book.allowed | settled | targets if book.allowed is not None else None
        self._of_messages = tuple(one for one in found if one.member.startswith(rules.IN_MESSAGES))
        self._rules = tuple(one for one in found if one not in self._of_messages)
        plain = {one.member for one in self._rules if not one.translated} | ({_SWITCHES} if own else set())
        self._watched = (frozenset(plain), frozenset(plain | {one.member for one in self._rules}))

    def fits(self, body: bytes, asked: Asked, context: int | None) -> bool:
        """Whether nothing of it concerns a rule. `body`: as it would be sent."""
        names = asked.names
        if self._own:
            longest = asked.longest
            if longest is not None and longest > (context or MOST_TOKENS):
                return False
            if len(body) > MOST_GRAMMAR and not _GRAMMARS.isdisjoint(names):
                return False
            if bounds.concern(body, names, longest, pictures=asked.pictures):
                return False
        if not self._watched[asked.translated].isdisjoint(names):
            return False
        if self._allowed is not None and not names <= self._allowed:
            return False
        return not any(_quoted(rule) in body for rule in self._of_messages)

    def writes(self, name: str) -> bool:
        """Whether a member that the gateway itself may write is one that a rule is about."""
        return name in self._watched[0] or (self._allowed is not None and name not in self._allowed)

    def apply(self, body: bytes, asked: Asked, context: int | None) -> tuple[bytes, tuple[Change, ...]]:
        """The body as it is taken there, and what was changed. Raises AttemptFailed where it cannot be."""
        members = _split.decode(body)
        changes: list[Change] = []
        if self._own:
            _bound(members, context, changes.append)
        for rule in self._rules:
            applies = asked.chat or self._own or rule.written
            if applies and rule.translated <= asked.translated and rule.member in members:
                try:
                    _do(rule, members, changes.append)
                except AttemptFailed as failed:
                    raise Unfit(failed, (*changes, _change(rule, rule.deed))) from None
        if asked.chat and self._allowed is not None:
            for name in [name for name in members if name not in self._allowed]:
                said = not _empty(name, members.pop(name))
                change = Change(name, Deed.DROP, "it refuses what it does not know", silent=not said)
                changes.append(change)
        if asked.chat and self._of_messages and "messages" in members:
            self._messages(members, changes.append)
        return (_encode(members), tuple(changes)) if changes else (body, ())

    def _messages(self, members: dict[str, msgspec.Raw], tell: Callable[[Change], None]) -> None:
        try:
            messages = _list.decode(members["messages"])
        except msgspec.DecodeError:
            return  # the provider says what is wrong with them
        changed = False
        for rule in self._of_messages:
            name = rule.member.removeprefix(rules.IN_MESSAGES)
            gone = [message.pop(name, None) for message in messages]
            if any(one is not None for one in gone):
                changed = True
                tell(_change(rule, rule.deed))
        if changed:
            members["messages"] = msgspec.Raw(_encode(messages))


def terms_of_engine(kind: str, model: str, written: Written = NOTHING) -> Terms:
    """For a model of an engine of one's own."""
    return Terms(rules.ENGINES.get(kind, rules.ANOTHER_ENGINE), model, own=True, written=written)


def terms_of_provider(name: str, model: str, written: Written = NOTHING) -> Terms | None:
    """For a model of a provider; None: it takes everything, as far as is known."""
    book = rules.PROVIDERS.get(name)
    if book is None and not written.rules:
        return None
    return Terms(book or Book(), model, own=False, written=written)


_QUOTES: Final = "[`'\"]"


def member_in(text: str, names: Iterable[str]) -> str:
    """The member of a request that an error answer speaks of, in quotes or as a path; empty: none."""
    if not _NOT_TAKEN.search(text):
        return ""
    for name in sorted(names, key=len, reverse=True):
        if name not in _NEEDED and re.search(rf"{_QUOTES}(?:body\.)?{re.escape(name)}{_QUOTES}", text):
            return name
    return ""


_NOT_TAKEN: Final = re.compile(
    r"not support|unsupported|unknown|unrecogni[sz]ed|not permitted|unexpected|extra|not allowed|cannot find",
    re.IGNORECASE,
)
_NEEDED: Final = frozenset({"model", "messages", "stream", "prompt", "input"})


def _is_for(rule: Rule, model: str) -> bool:
    return not rule.models or re.search(rule.models, model) is not None


def _change(rule: Rule, deed: Deed, to: str = "", *, silent: bool = False) -> Change:
    return Change(rule.member, deed, rule.why, to, silent or rule.silent, rule.member)


def _quoted(rule: Rule) -> bytes:
    return b'"%b"' % rule.member.removeprefix(rules.IN_MESSAGES).encode()


def _empty(name: str, raw: msgspec.Raw) -> bool:
    """Whether the value asks for nothing."""
    value = bytes(raw)
    return value in _SAYS_NOTHING or value == _NOTHING_OF.get(name)


def _do(rule: Rule, members: dict[str, msgspec.Raw], tell: Callable[[Change], None]) -> None:
    name = rule.member
    if rule.values and bytes(members[name]) not in rule.values:
        return
    if rule.deed in _CHANGES_VALUES:
        _change_value(rule, members, tell)
        return
    if rule.deed is Deed.RENAME:
        value = members.pop(name)
        members.setdefault(rule.to, value)
    elif rule.deed is Deed.REFUSE and not _empty(name, members[name]):
        raise _unfit(f"`{name}` cannot be had there: {rule.why}")
    else:
        tell(_change(rule, Deed.DROP, silent=_empty(name, members.pop(name))))
        return
    tell(_change(rule, rule.deed, rule.to))


_CHANGES_VALUES: Final = frozenset({Deed.CLAMP, Deed.MAP})


def _change_value(rule: Rule, members: dict[str, msgspec.Raw], tell: Callable[[Change], None]) -> None:
    """Another value, where the rule is about this one."""
    try:
        value = msgspec.json.decode(members[rule.member])
    except msgspec.DecodeError:  # a number beyond all bounds: the provider says what is wrong with it
        return
    if rule.deed is Deed.MAP:
        into = dict(rule.into).get(_encode(value))
    else:
        above = isinstance(value, int | float) and not isinstance(value, bool) and value > (rule.most or 0)
        into = _encode(_plain(rule.most or 0)) if above else None
    if into is not None:
        members[rule.member] = msgspec.Raw(into)
        tell(_change(rule, rule.deed, into.decode()))


def _plain(number: float) -> int | float:
    """4096.0 as 4096: members that count are refused with a point in them."""
    return int(number) if number.is_integer() else number


def _bound(members: dict[str, msgspec.Raw], context: int | None, tell: Callable[[Change], None]) -> None:
    """What keeps an engine of one's own from harm."""
    bounds.check(members)
    most = context or MOST_TOKENS
    for name in _LENGTHS:
        if name in members and (_whole(members[name]) or 0) > most:
            members[name] = msgspec.Raw(b"%d" % most)
            tell(Change(name, Deed.CLAMP, "no more fits into the model", str(most), counted=name))
    for name in _GRAMMARS & members.keys():
        if len(members[name]) > MOST_GRAMMAR:
            raise _unfit(f"`{name}` is larger than {MOST_GRAMMAR} bytes")
    if _SWITCHES in members:
        _switches(members, tell)


def _switches(members: dict[str, msgspec.Raw], tell: Callable[[Change], None]) -> None:
    value = msgspec.json.decode(members[_SWITCHES])
    if value is None:
        return
    given = value if isinstance(value, dict) else {}
    kept = {name: one for name, one in list(given.items())[:MOST_SWITCHES] if _is_plain(one)}
    if kept == value:
        return
    members[_SWITCHES] = msgspec.Raw(_encode(kept))
    for name in sorted(given.keys() - kept.keys())[: bounds.MOST_CHOICES] or [""]:
        member = f"{_SWITCHES}.{name[:60]}".rstrip(".")
        tell(Change(member, Deed.DROP, "plain values only, few and short", counted=_SWITCHES))


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_SWITCH
    return value is None or isinstance(value, bool | int | float)


def _whole(raw: msgspec.Raw) -> int | None:
    value = msgspec.json.decode(raw)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _unfit(text: str) -> AttemptFailed:
    return AttemptFailed(FailureClass.ABSENT_FEATURE, text, status=400)
