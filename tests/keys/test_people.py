"""Users: a change of a user is one of its keys, here at once and elsewhere at the next look."""

import pytest
from tests.keys.house import ADA

from fleetgate.errors import Refused

pytestmark = pytest.mark.asyncio


async def refusal(doing):
    with pytest.raises(Refused) as caught:
        await doing
    return caught.value.status, caught.value.code


async def test_the_team_of_a_user_is_that_of_its_keys(house, tmp_path):
    async with house(tmp_path) as here:
        people, other = here.people, here.beside()
        await people.create_team(ADA, "family", "")
        await people.create_team(ADA, "work", "")
        await people.create_user(ADA, "anna", "family", "")
        _, key = await here.make(person="anna")
        _, own = await here.make(person="anna", team="family")
        assert [(await one.who(key)).team for one in (here, other)] == ["family", "family"]
        changed = await people.update_user(ADA, "anna", {"team": "work", "note": "moved"})
        assert (changed["team"], changed["note"]) == ("work", "moved")
        assert (await here.who(key)).team == "work"
        await other.keys.poll()
        assert (await other.who(key)).team == "work"
        assert (await here.who(own)).team == "family"
        await people.update_user(ADA, "anna", {"team": None})
        assert (await here.who(key)).team is None


async def test_a_change_of_a_user_is_in_the_trail(house, tmp_path):
    async with house(tmp_path) as here:
        await here.people.create_user(ADA, "anna", None, "before")
        await here.people.update_user(ADA, "anna", {"note": "after"})
        await here.people.update_user(ADA, "anna", {"note": "after"})  # changes nothing
        line, *older = await here.registry.trail(10, None)
        assert (line.who, line.action, line.subject) == ("ada", "user.update", "user anna")
        assert (line.before["note"], line.after["note"]) == ("before", "after")
        assert [one.action for one in older] == ["user.create"]


async def test_a_change_that_cannot_be_made(house, tmp_path):
    async with house(tmp_path) as here:
        await here.people.create_user(ADA, "anna", None, "")
        assert await refusal(here.people.update_user(ADA, "eve", {"note": ""})) == (404, "user_not_found")
        assert await refusal(here.people.update_user(ADA, "anna", {"team": "x"})) == (400, "team_not_found")
        assert len(await here.registry.trail(10, None)) == 1


async def test_a_key_carries_its_tags_and_its_alias(house, tmp_path):
    async with house(tmp_path) as here:
        _, key = await here.make(alias="tv", tags=("home", "tv"))
        for one in (here, here.beside()):
            who = await one.who(key)
            assert (who.tags, who.alias) == (("home", "tv"), "tv")
