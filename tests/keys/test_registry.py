import pytest
from tests.keys.house import ADA

from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.keys.changes import moment
from fleetgate.store.database import Store

pytestmark = pytest.mark.asyncio


async def refusal(doing):
    with pytest.raises(Refused) as caught:
        await doing
    return caught.value.status, caught.value.code


async def test_a_key_is_found_by_id_and_by_alias(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, _ = await here.make(alias="laptop", tags=("a", "b"), names=("chat", "!x"))
        by_id, by_alias = await here.registry.show(key_id), await here.registry.show("laptop")
        assert by_id == by_alias
        view = here.registry.view(by_id)
        assert (view["alias"], view["tags"], view["names"]) == ("laptop", ["a", "b"], ["chat", "!x"])
        assert (view["state"], view["kind"], view["last_used_at"]) == ("active", "caller", None)
        assert by_id.digest not in str(view)
        assert by_id.digest.startswith(view["fingerprint"])


async def test_what_is_refused(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, _ = await here.make(alias="a")
        other, _ = await here.make(alias="b")
        create = here.registry.create
        assert await refusal(create(ADA, KeyKind.CALLER, {"alias": "a"})) == (409, "alias_taken")
        assert await refusal(create(ADA, KeyKind.CALLER, {"alias": key_id})) == (409, "alias_taken")
        assert await refusal(create(ADA, KeyKind.CALLER, {"person": "x"})) == (400, "user_not_found")
        assert await refusal(create(ADA, KeyKind.CALLER, {"team": "x"})) == (400, "team_not_found")
        assert await refusal(here.registry.update(ADA, "b", {"alias": "a"})) == (409, "alias_taken")
        assert await refusal(here.registry.show("c")) == (404, "key_not_found")
        await here.registry.revoke(ADA, other)
        assert await refusal(here.registry.update(ADA, other, {"enabled": True})) == (409, "key_revoked")
        assert await refusal(here.registry.rotate(ADA, other, 1.0)) == (409, "key_revoked")
        assert len(await here.registry.listed(user=None, team=None, revoked=True)) == 2


async def test_a_revoked_keys_alias_is_free_again(house, tmp_path):
    async with house(tmp_path) as here:
        first, _ = await here.make(alias="a")
        await here.registry.revoke(ADA, "a")
        second, _ = await here.make(alias="a")
        assert (await here.registry.show("a")).id == second
        assert here.registry.view(await here.registry.show(first))["state"] == "revoked"


async def test_lists_are_by_user_and_team_and_leave_revoked_ones_out(house, tmp_path):
    async with house(tmp_path) as here:
        await here.people.create_team(ADA, "t", "")
        await here.people.create_user(ADA, "u", None, "")
        mine, _ = await here.make(person="u")
        ours, _ = await here.make(team="t")
        gone, _ = await here.make()
        await here.registry.revoke(ADA, gone)

        async def listed(**by):
            rows = await here.registry.listed(**{"user": None, "team": None, "revoked": False, **by})
            return {row.id for row in rows}

        assert await listed() == {mine, ours}
        assert await listed(user="u") == {mine}
        assert await listed(team="t") == {ours}
        assert await listed(revoked=True) == {mine, ours, gone}


async def test_every_change_is_in_the_trail_with_fingerprints_for_secrets(house, tmp_path):
    async with house(tmp_path) as here:
        await here.people.create_team(ADA, "t", "")
        await here.people.create_user(ADA, "u", "t", "")
        key_id, key = await here.make(alias="a", person="u")
        await here.registry.update(ADA, "a", {"enabled": False})
        await here.registry.update(ADA, "a", {"enabled": False})  # changes nothing
        _, again = await here.registry.rotate(ADA, "a", 5.0)
        await here.registry.revoke(ADA, "a")
        await here.registry.revoke(ADA, key_id)
        await here.people.remove_user(ADA, "u")
        await here.people.remove_team(ADA, "t")
        rows = (await here.registry.trail(100, None))[::-1]
        assert [row.action for row in rows] == [
            *("team.create", "user.create", "key.create", "key.update", "key.rotate", "key.revoke"),
            *("user.remove", "team.remove"),
        ]
        assert {(row.who, row.address, row.request_id) for row in rows} == {("ada", "192.0.2.7", "req_1")}
        assert rows[2].before is None
        assert (rows[3].before["enabled"], rows[3].after["enabled"]) == (True, False)
        assert rows[4].before["fingerprint"] != rows[4].after["fingerprint"]
        assert rows[5].after["revoked_at"] == moment(round(here.clock.unix * 1e3))
        assert rows[6].after is None
        text = str(rows)
        assert key[-49:-6] not in text
        assert again[-49:-6] not in text
        older = await here.registry.trail(2, rows[2].number)
        assert [row.action for row in older] == ["user.create", "team.create"]


async def test_a_change_that_fails_leaves_no_line(house, tmp_path):
    async with house(tmp_path) as here:
        await here.make(alias="a")
        await refusal(here.make(alias="a"))
        assert len(await here.registry.trail(10, None)) == 1


async def test_users_and_teams_stay_while_something_belongs_to_them(house, tmp_path):
    async with house(tmp_path) as here:
        people = here.people
        await people.create_team(ADA, "t", "ours")
        await people.create_user(ADA, "u", "t", "")
        assert await refusal(people.create_team(ADA, "t", "")) == (409, "team_exists")
        assert await refusal(people.create_user(ADA, "u", None, "")) == (409, "user_exists")
        assert await refusal(people.create_user(ADA, "v", "x", "")) == (400, "team_not_found")
        assert await refusal(people.remove_team(ADA, "t")) == (409, "team_has_users")
        key_id, _ = await here.make(person="u", team="t")
        assert await refusal(people.remove_user(ADA, "u")) == (409, "user_has_keys")
        assert await refusal(people.remove_team(ADA, "t")) == (409, "team_has_keys")
        await here.registry.revoke(ADA, key_id)
        await people.remove_user(ADA, "u")
        await people.remove_team(ADA, "t")
        assert await refusal(people.remove_user(ADA, "u")) == (404, "user_not_found")
        assert await refusal(people.remove_team(ADA, "t")) == (404, "team_not_found")
        assert (await people.users(), await people.teams()) == ([], [])


async def test_while_the_database_is_down_nothing_can_be_looked_up(house, tmp_path):
    async with house(tmp_path) as here:
        await here.make(alias="a")
        here.break_reading()
        assert await refusal(here.registry.show("a")) == (503, "database_unavailable")
        assert await refusal(here.people.users()) == (503, "database_unavailable")
        here.mend()


async def test_a_change_that_was_given_up_does_not_happen_later(house, tmp_path, monkeypatch):
    """Told that nothing was changed, nothing may change behind one's back."""
    import threading

    from fleetgate.keys import changes

    async with house(tmp_path) as here:
        monkeypatch.setattr(changes, "PATIENCE", 0.02)
        free = threading.Event()
        blocked = here.store.change(lambda _connection: free.wait(10.0), 0.02)
        assert "unknown" in str(await failed(blocked))
        assert await refusal(here.make(alias="late")) == (503, "database_unavailable")
        free.set()
        monkeypatch.undo()
        assert await refusal(here.registry.show("late")) == (404, "key_not_found")
        await here.make(alias="later")
        assert await refusal(here.registry.show("late")) == (404, "key_not_found")


async def failed(doing):
    with pytest.raises(Exception, match="database") as caught:
        await doing
    return caught.value


async def test_keys_survive_a_restart(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, key = await here.make()
    async with house(tmp_path) as here:
        assert isinstance(here.store, Store)
        assert (await here.who(key)).id == key_id
