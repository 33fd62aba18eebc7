"""Limits made over the API: kept in the database, one row for each measure, in effect everywhere.

The file wins: a stored limit that the file has too is kept and shown, and not in effect. What changes
here is in effect here at once; other gateways on the same database notice within two seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from fleetgate.budgets.compile import DATABASE, compile, of_entry  # noqa: A004  (see there)
from fleetgate.config import money
from fleetgate.config.check_money import strangers
from fleetgate.errors import Refused
from fleetgate.keys.changes import Actor, Note, change, moment
from fleetgate.limits import EACH
from fleetgate.store import access
from fleetgate.store import rules as stored
from fleetgate.store.failures import StoreError
from fleetgate.store.rules import RuleRow
from fleetgate.units import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from fleetgate.config.schema import Settings
    from fleetgate.limits import Limit
    from fleetgate.store.database import Store

POLL_EVERY: Final = 1.0
MOST_AT_ONCE: Final = 20
"""Entries in one change."""
NOT_ISSUED: Final = frozenset({"master", "anonymous"})
"""whom a key may name though nobody issued it"""


@dataclass(frozen=True, slots=True)
class Means:
    """What the rules need of others."""

    store: Store
    wall: Callable[[], float]
    settings: Callable[[], Settings]
    """those in effect"""
    report: Callable[..., None]


@dataclass(slots=True)
class Rule:
    """A stored limit, read. There may be one for each of many keys: it is compiled once."""

    row: RuleRow
    entry: money.Limit
    limit: Limit | None = None
    currency: money.Currency | None = None
    """with which it was compiled"""


class Rules:
    """Owner of the stored limits."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._rules: dict[str, Rule] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._epoch = -1
        self.on_change: Callable[[], None] = _nothing
        """called when other limits are in effect: by a change here, or at another gateway"""

    # -- what is in effect -----------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Those in effect."""
        return self._means.settings()

    def limits(self, settings: Settings) -> tuple[Limit, ...]:
        """Those of the file, then the stored ones that it does not have."""
        written = compile(settings)
        taken = {limit.id for limit in written}
        ours = (self._compiled(rule, settings) for rule in self._rules.values() if rule.row.id not in taken)
        return (*written, *ours)

    def created_at(self) -> dict[str, str | None]:
        """Stored limits by their ids, and when they were made."""
        return {rule.row.id: moment(rule.row.created_at) for rule in self._rules.values()}

    def overridden(self, settings: Settings) -> tuple[Limit, ...]:
        """Stored limits in whose place the file has one."""
        taken = {limit.id for limit in compile(settings)}
        rules = (rule for rule in self._rules.values() if rule.row.id in taken)
        return tuple(self._compiled(rule, settings) for rule in rules)

    def _compiled(self, rule: Rule, settings: Settings) -> Limit:
        if rule.limit is not None and rule.currency == settings.currency:
            return rule.limit
        try:
            (limit,) = of_entry(rule.entry, settings.currency, origin=DATABASE)
        except ValueError as error:
            # Its currency went out of the file: what cannot be counted must not be spent.
            self._means.report("limit_without_currency", "error", limit=rule.row.id, text=str(error))
            nothing = rule.entry.model_copy(update={"money": Amount(0)})
            (limit,) = of_entry(nothing, None, origin=DATABASE)
        rule.limit, rule.currency = limit, settings.currency
        return limit

    # -- following the database ------------------------------------------------------------------------

    def read_now(self) -> None:
        """At start, before anything is served. Raises StoreError."""
        self._take(*self._means.store.ask(_everything))

    async def refresh(self) -> None:
        """Read them again, and put them into effect."""
        self._take(*await asyncio.to_thread(self._means.store.ask, _everything))

    async def poll(self) -> None:
        """Read them where the counter of changes has moved. Without the database they stay as they are."""
        try:
            if await asyncio.to_thread(self._means.store.ask, stored.epoch) != self._epoch:
                await self.refresh()
        except StoreError:
            return

    async def follow(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(POLL_EVERY)
            await self.poll()

    def _take(self, rows: Sequence[RuleRow], epoch: int) -> None:
        if epoch <= self._epoch:
            return  # an older reading that came late
        known, unreadable = self._rules, []
        self._rules = {}
        for row in rows:
            before = known.get(row.id)
            if before is not None and before.row == row:
                self._rules[row.id] = before
                continue
            try:
                self._rules[row.id] = Rule(row, money.Limit.model_validate(row.document))
            except ValidationError as error:
                unreadable.append(row.id)
                if row.id not in self._unreadable:
                    self._means.report("limit_unreadable", "error", limit=row.id, text=_first(error))
        self._unreadable = frozenset(unreadable)
        self._epoch = epoch
        self.on_change()

    # -- changes ---------------------------------------------------------------------------------------

    async def create(self, actor: Actor, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Limits out of an entry, one for each of its measures. Their ids. Raises Refused."""
        adding = self.prepared(actor, [document])
        ids = await change(self._means.store, adding.write)
        await self.poll()  # the change is durable: a database that fails now is no failure of it
        return ids

    async def remove(self, actor: Actor, rule_id: str) -> None:
        """Raises Refused where no stored limit has this id."""
        written = any(limit.id == rule_id for limit in compile(self._means.settings()))
        now = self._now()

        def act(connection: Connection) -> None:
            row = stored.rule_called(connection, rule_id)
            if row is None:
                raise _in_file(rule_id) if written else _no_limit(rule_id)
            _remove(connection, Note(actor, now, "limit.remove", f"limit {row.id}"), row)

        await change(self._means.store, act)
        await self.poll()

    def prepared(
        self, actor: Actor, documents: Sequence[Mapping[str, Any]], *, for_key: bool = False
    ) -> Adding:
        """Checks entries. `Adding.write` is then part of somebody's change; after it comes `poll`.

        `for_key`: they are limits of a key that is made in the same change. Raises Refused.
        """
        if len(documents) > MOST_AT_ONCE:
            raise Refused(400, "malformed", f"at most {MOST_AT_ONCE} limits at once", param="limits")
        settings = self._means.settings()
        entries = tuple(_read(document, settings, for_key=for_key) for document in documents)
        taken = frozenset(limit.id for limit in compile(settings))
        return Adding(actor, self._now(), entries, settings.currency, taken)

    def removing(self, actor: Actor) -> Callable[[Connection, str], None]:
        """Part of the change that revokes a key: the limits for it go with it. After it comes `poll`."""
        now = self._now()

        def act(connection: Connection, key_id: str) -> None:
            its = [
                row for row in stored.rules(connection) if row.document.get("scope", {}).get("key") == key_id
            ]
            for row in its:
                _remove(connection, Note(actor, now, "limit.remove", f"limit {row.id}"), row)

        return act

    async def words_of(self, key_id: str) -> list[str]:
        """The stored limits for one key, in words, as they are now."""
        await self.poll()
        its = (rule for rule in self._rules.values() if rule.entry.scope.get("key") == key_id)
        return [self._compiled(rule, self._means.settings()).title for rule in its]

    def _now(self) -> int:
        return round(self._means.wall() * 1e3)


@dataclass(frozen=True, slots=True)
class Adding:
    """Limits that are about to be stored."""

    actor: Actor
    at: int
    entries: tuple[dict[str, Any], ...]
    currency: money.Currency | None
    taken: frozenset[str]
    """ids that the file has"""

    def write(self, connection: Connection, key_id: str | None = None) -> tuple[str, ...]:
        """Store them, of a key if said. Their ids. Raises Refused."""
        documents = [
            document for entry in self.entries for document in _single(_resolved(connection, entry, key_id))
        ]
        # A millisecond apart, so that they are listed in the order in which they were written.
        ids = tuple(self._add(connection, one, self.at + place) for place, one in enumerate(documents))
        if ids:
            stored.next_epoch(connection)
        return ids

    def _add(self, connection: Connection, document: dict[str, Any], at: int) -> str:
        (limit,) = of_entry(money.Limit.model_validate(document), self.currency, origin=DATABASE)
        if limit.id in self.taken:
            raise Refused(
                409,
                "limit_exists",
                f"the file has this limit: {limit.words}",
                advice="Change it there, or give this one a name of its own.",
            )
        if stored.rule_called(connection, limit.id) is not None:
            raise Refused(
                409,
                "limit_exists",
                f"there is such a limit already: {limit.id}",
                advice="Remove it first, or give this one a name of its own.",
            )
        row = RuleRow(limit.id, document, at)
        stored.add_rule(connection, row)
        Note(self.actor, self.at, "limit.create", f"limit {limit.id}").write(connection, None, _facts(row))
        return limit.id


def _everything(connection: Connection) -> tuple[list[RuleRow], int]:
    """In one snapshot."""
    return stored.rules(connection), stored.epoch(connection)


def _remove(connection: Connection, note: Note, row: RuleRow) -> None:
    stored.remove_rule(connection, row.id)
    note.write(connection, _facts(row), None)
    stored.next_epoch(connection)


def _facts(row: RuleRow) -> dict[str, Any]:
    return {"id": row.id, **row.document}


def _read(document: Mapping[str, Any], settings: Settings, *, for_key: bool) -> dict[str, Any]:
    """An entry that means something here. Raises Refused."""
    try:
        entry = money.Limit.model_validate(dict(document))
        of_entry(entry, settings.currency)
    except ValidationError as error:
        raise Refused(400, "malformed", _first(error)) from None
    except ValueError as error:
        raise Refused(400, "malformed", str(error), param="money") from None
    if for_key and ("key" in entry.scope or len(entry.scope) > 1):
        raise Refused(
            400, "malformed", "a key's own limit names no key, and one other thing at most", param="limits"
        )
    for stranger in strangers(settings, entry.scope):
        raise Refused(400, "malformed", stranger.message, advice=stranger.advice, param="scope")
    return {**document, "scope": dict(entry.scope)}


def _resolved(connection: Connection, entry: dict[str, Any], key_id: str | None) -> dict[str, Any]:
    """The entry with a key by its id, and with users and teams that exist."""
    scope = dict(entry["scope"])
    if key_id is not None:
        scope["key"] = key_id
    elif (name := scope.get("key")) is not None and EACH not in name and name not in NOT_ISSUED:
        row = access.key_called(connection, name)
        if row is None or row.revoked_at is not None:
            raise Refused(400, "key_not_found", f"there is no key {name[:100]!r}", param="scope")
        scope["key"] = row.id
    for kind, find in (("user", access.person_called), ("team", access.team_called)):
        name = scope.get(kind)
        if name is not None and EACH not in name and find(connection, name) is None:
            raise Refused(400, f"{kind}_not_found", f"there is no {kind} {name[:100]!r}", param="scope")
    return {**entry, "scope": scope}


def _single(document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The same for each measure by itself."""
    measures = [name for name in money.MEASURES if document.get(name) is not None]
    rest = {key: value for key, value in document.items() if key not in money.MEASURES}
    return ({**rest, measure: document[measure]} for measure in measures)


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    message = found["msg"].removeprefix("Value error, ")
    return f"`{where}`: {message}" if where else message


def _no_limit(rule_id: str) -> Refused:
    return Refused(
        404, "limit_not_found", f"there is no limit {rule_id[:100]!r}", advice="Name it by its id."
    )


def _in_file(rule_id: str) -> Refused:
    return Refused(
        409, "limit_in_file", f"the limit {rule_id} is written in the file", advice="Take it out there."
    )


def _nothing() -> None:
    """Until somebody wants to know."""
