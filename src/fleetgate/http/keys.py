"""The part of the admin API about keys, users, teams and the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate import units
from fleetgate.errors import Refused
from fleetgate.http import answers, forms
from fleetgate.http.parameters import Parameter
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import Actor, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.budgets.rules import Rules
    from fleetgate.http.call import Call
    from fleetgate.http.table import Answerer
    from fleetgate.keys.people import People
    from fleetgate.keys.registry import Registry
    from fleetgate.store.access import AuditRow, KeyRow

NOT_KEPT: Final = ((b"cache-control", b"no-store"),)
"""for answers that hold a secret"""
MOST_LINES: Final = 1_000
MOST_NUMBER: Final = 2**31 - 1
"""of a line of the trail: more is no number to PostgreSQL"""
DOWN: Final = "503"
_YES: Final = ("true", "1")
_NO: Final = ("false", "0")
LISTED: Final = (
    Parameter("user", "only those of this user"),
    Parameter("team", "only those of this team"),
    Parameter("revoked", "revoked ones too", bool),
)
TRAIL: Final = (
    Parameter("limit", f"at most so many lines; {MOST_LINES} at the most", forms.Count),
    Parameter("below", "only lines with smaller numbers", forms.Count),
)


def rows(registry: Registry, people: People, rules: Rules) -> Iterator[Row]:
    yield from _key_rows(registry, rules)
    yield from _people_rows(people)

    async def trail(call: Call) -> None:
        query = call.query()
        limit = _number(query.get("limit", "100"), "limit")
        below = min(_number(query["below"], "below"), MOST_NUMBER) if "below" in query else None
        found = await registry.trail(min(limit, MOST_LINES), below)
        await call.json({"rows": [_line(row) for row in found]})

    yield Row(
        "GET",
        "/admin/api/audit",
        Access.VIEWER,
        trail,
        "Administrative changes, newest first; `?limit=`, `?below=NUMBER` for older ones.",
        store=DOWN,
        query=TRAIL,
        gives=answers.Trail,
    )


def _key_rows(registry: Registry, rules: Rules) -> Iterator[Row]:
    async def create(call: Call) -> None:
        form = await forms.filled(call, forms.CreateKey)
        limits = rules.prepared(actor(call), [one.document() for one in form.limits], for_key=True)
        changes = form.changes(call.gateway.wall())
        row, key = await registry.create(actor(call), form.kind, changes, limits.write)
        words = await rules.words_of(row.id) if form.limits else []
        await call.json({"key": registry.view(row), "secret": key, "limits": words}, 201, NOT_KEPT)

    async def listed(call: Call) -> None:
        query = call.query()
        found = await registry.listed(
            user=query.get("user"),
            team=query.get("team"),
            revoked=_yes(query.get("revoked", "false"), "revoked"),
        )
        await call.json({"rows": [registry.view(row) for row in found]})

    async def show(call: Call) -> None:
        await _answer(call, await registry.show(call.argument))

    async def update(call: Call) -> None:
        form = await forms.filled(call, forms.UpdateKey)
        changes = form.changes(call.gateway.wall())
        if not changes:
            raise _nothing_to_change()
        await _answer(call, await registry.update(actor(call), call.argument, changes))

    async def rotate(call: Call) -> None:
        form = await forms.filled(call, forms.RotateKey)
        row, key = await registry.rotate(actor(call), call.argument, units.duration(form.grace))
        await call.json({"key": registry.view(row), "secret": key}, 200, NOT_KEPT)

    async def revoke(call: Call) -> None:
        row = await registry.revoke(actor(call), call.argument, rules.removing(actor(call)))
        await rules.poll()
        await _answer(call, row)

    async def _answer(call: Call, row: KeyRow) -> None:
        await call.json({"key": registry.view(row)})

    at, one = "/admin/api/keys", "/admin/api/keys/{id}"
    yield _looked_up(at, listed, "Keys; `?user=`, `?team=`, `?revoked=true`.", answers.Keys, LISTED)
    yield _audited(
        "POST",
        at,
        create,
        "A new key; its secret is in this answer and nowhere else.",
        request=forms.CreateKey,
        gives=answers.NewKey,
        status=201,
    )
    yield _looked_up(one, show, "One key, by id or alias.", answers.OneKey)
    yield _audited(
        "PATCH",
        one,
        update,
        "Change some members of a key.",
        request=forms.UpdateKey,
        gives=answers.OneKey,
    )
    yield _audited(
        "POST",
        f"{one}/rotate",
        rotate,
        "A new secret; the one before counts for `grace`, by default 1h.",
        request=forms.RotateKey,
        gives=answers.NewSecret,
    )
    yield _audited("POST", f"{one}/revoke", revoke, "The key never counts again.", gives=answers.OneKey)


def _people_rows(people: People) -> Iterator[Row]:
    async def users(call: Call) -> None:
        await call.json({"rows": await people.users()})

    async def create_user(call: Call) -> None:
        form = await forms.filled(call, forms.CreateUser)
        await call.json({"user": await people.create_user(actor(call), form.name, form.team, form.note)}, 201)

    async def update_user(call: Call) -> None:
        form = await forms.filled(call, forms.UpdateUser)
        changes = {name: getattr(form, name) for name in form.model_fields_set}
        if not changes:
            raise _nothing_to_change()
        await call.json({"user": await people.update_user(actor(call), call.argument, changes)})

    async def remove_user(call: Call) -> None:
        await people.remove_user(actor(call), call.argument)
        await call.json({"removed": call.argument})

    async def teams(call: Call) -> None:
        await call.json({"rows": await people.teams()})

    async def create_team(call: Call) -> None:
        form = await forms.filled(call, forms.CreateTeam)
        await call.json({"team": await people.create_team(actor(call), form.name, form.note)}, 201)

    async def remove_team(call: Call) -> None:
        await people.remove_team(actor(call), call.argument)
        await call.json({"removed": call.argument})

    yield _looked_up("/admin/api/users", users, "Users.", answers.Users)
    yield _audited(
        "POST",
        "/admin/api/users",
        create_user,
        "A new user, of a team if said.",
        request=forms.CreateUser,
        gives=answers.OneUser,
        status=201,
    )
    yield _audited(
        "PATCH",
        "/admin/api/users/{name}",
        update_user,
        "Change the team or note of a user.",
        request=forms.UpdateUser,
        gives=answers.OneUser,
    )
    yield _audited(
        "DELETE",
        "/admin/api/users/{name}",
        remove_user,
        "Remove a user who has no keys.",
        gives=answers.Removed,
    )
    yield _looked_up("/admin/api/teams", teams, "Teams.", answers.Teams)
    yield _audited(
        "POST",
        "/admin/api/teams",
        create_team,
        "A new team.",
        request=forms.CreateTeam,
        gives=answers.OneTeam,
        status=201,
    )
    yield _audited(
        "DELETE",
        "/admin/api/teams/{name}",
        remove_team,
        "Remove a team that has neither users nor keys.",
        gives=answers.Removed,
    )


def _nothing_to_change() -> Refused:
    return Refused(400, "malformed", "nothing is to be changed", advice="Name a member to change.")


def _looked_up(
    template: str,
    answer: Answerer,
    doc: str,
    gives: type[answers.Answer],
    query: tuple[Parameter, ...] = (),
) -> Row:
    return Row("GET", template, Access.VIEWER, answer, doc, store=DOWN, query=query, gives=gives)


def _audited(
    method: str,
    template: str,
    answer: Answerer,
    doc: str,
    *,
    gives: type[answers.Answer],
    request: type[forms.Form] | None = None,
    status: int = 200,
) -> Row:
    return Row(
        method,
        template,
        Access.ADMIN,
        answer,
        doc,
        store=DOWN,
        audited=True,
        query=(),
        request=request,
        gives=gives,
        status=status,
        refuses=(409,),
    )


def actor(call: Call) -> Actor:
    """Who changes something, for the trail."""
    client = call.scope.get("client")
    return Actor(call.principal.id, client[0] if client else "", call.request_id)


def _line(row: AuditRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "at": moment(row.at),
        "who": row.who,
        "action": row.action,
        "subject": row.subject,
        "before": row.before,
        "after": row.after,
        "address": row.address,
        "request_id": row.request_id,
    }


def _yes(text: str, name: str) -> bool:
    if text not in _YES and text not in _NO:
        raise Refused(400, "malformed", f"`{name}` is true or false, not {text[:50]!r}", param=name)
    return text in _YES


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Refused(400, "malformed", f"`{name}` must be a number: {text[:50]!r}", param=name)
    return int(text)
