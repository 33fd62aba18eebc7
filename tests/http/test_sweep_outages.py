"""Every row of the route table while something it rests on is away: who may do what stays as it is."""

import asyncio
import json
import resource
import sqlite3
from contextlib import closing, contextmanager

import pytest
from tests.http.test_sweep import KEYS, ask, behind, declared, engine, issue, target, written
from tests.support.gateway import running_gateway

from fleetgate.keys import changes

pytestmark = pytest.mark.asyncio

CHANGES = [
    ("PATCH", "/admin/api/users/ada", {"note": "late"}),
    ("POST", "/admin/api/keys", {"alias": "new"}),
    ("PATCH", "/admin/api/keys/caller", {"enabled": False}),
    ("POST", "/admin/api/keys/caller/rotate", {}),
    ("POST", "/admin/api/keys/caller/revoke", {}),
    ("POST", "/admin/api/users", {"name": "new"}),
    ("PATCH", "/admin/api/users/ada", {"note": "new"}),
    ("DELETE", "/admin/api/users/ada", {}),
    ("POST", "/admin/api/teams", {"name": "new"}),
    ("DELETE", "/admin/api/teams/crew", {}),
]
LOOKS = ("keys?revoked=true", "users", "teams", "audit")


@contextmanager
def locked(gateway):
    """Somebody else writes, and does not come to an end."""
    with closing(sqlite3.connect(gateway.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(gateway):
    """No file can grow."""
    del gateway
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def body(form):
    return json.dumps(form).encode()


async def looked(gateway):
    return [(await ask(gateway, "GET", f"/admin/api/{at}", KEYS["master key"])).json() for at in LOOKS]


async def furnish(gateway):
    """Keys of every kind, a user and a team; what everybody sends to be known."""
    everybody = {**KEYS, **await issue(gateway)}
    for at, name in (("users", "ada"), ("teams", "crew")):
        made = await ask(gateway, "POST", f"/admin/api/{at}", KEYS["master key"], body({"name": name}))
        assert made.status == 201
    return everybody


@pytest.mark.parametrize("trouble", [locked, full])
async def test_while_the_database_takes_no_writes(trouble, tmp_path, monkeypatch):
    """A change is refused, and not made later either: but for the one that the writer had begun.

    That one says that its outcome is unknown.
    """
    async with engine() as upstream, running_gateway(written(upstream, "keys"), tmp_path) as gateway:
        everybody = await furnish(gateway)
        reached = await behind(gateway)
        before = await looked(gateway)
        monkeypatch.setattr(changes, "PATIENCE", 0.05)
        with trouble(gateway):
            told = []
            for method, path, form in CHANGES:
                reply = await ask(gateway, method, path, everybody["admin"], body(form))
                assert (reply.status, path) == (503, path), reply.body
                assert reply.error["code"] == "database_unavailable"
                assert reply.header("retry-after") == "5"
                told.append(reply.error["message"])
                for key, status in (("viewer", 403), ("caller", 403), ("revoked", 401), ("no key", 401)):
                    reply = await ask(gateway, method, path, everybody[key], body(form))
                    assert (reply.status, path, key) == (status, path, key)
            for row in gateway.app.surface.table.rows:
                if row.method != "GET" and row.template.startswith("/admin"):
                    continue
                for key in ("caller", "viewer", "admin", "expired", "no key"):
                    reply = await ask(gateway, row.method, target(row), everybody[key])
                    wanted = declared(row, "keys", key, reached)
                    assert (reply.status, row.template, key) == (wanted, row.template, key)
        monkeypatch.setattr(changes, "PATIENCE", 5.0)
        async with asyncio.timeout(20):
            while await refused_to_note(gateway):  # noqa: ASYNC110  (the writer recovers by itself)
                await asyncio.sleep(0.01)
        after = await looked(gateway)
        assert [row["note"] for row in after[1]["rows"]] == ["after"]
        assert after[0] == before[0]
        assert after[2] == before[2]
        begun = len(after[3]["rows"]) - len(before[3]["rows"]) - 1
        assert begun <= sum("unknown" in message for message in told) <= 1


async def refused_to_note(gateway):
    path = "/admin/api/users/ada"
    reply = await ask(gateway, "PATCH", path, KEYS["master key"], body({"note": "after"}))
    return reply.status != 200


async def test_while_shared_state_is_away(tmp_path):
    away = lambda upstream: written(upstream, "keys", shared_state="redis://127.0.0.1:1/0")  # noqa: E731
    async with engine() as upstream, running_gateway(away(upstream), tmp_path) as gateway:
        everybody = await furnish(gateway)
        reached = await behind(gateway)
        for row in gateway.app.surface.table.rows:
            for name, headers in everybody.items():
                reply = await ask(gateway, row.method, target(row), headers)
                wanted = declared(row, "keys", name, reached)
                assert (reply.status, row.template, name) == (wanted, row.template, name)
