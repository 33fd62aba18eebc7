"""Callers without a key whom Tailscale knows: over a real database and a real socket."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.keys.house import ADA, house
from tests.support.tailscale import tailscaled

from fleetgate.config.schema import Tailscale as Settings
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.keys import tailscale as module
from fleetgate.keys.changes import Actor
from fleetgate.keys.ring import Unfamiliar
from fleetgate.keys.tailscale import Stranger, Tailscale

pytestmark = pytest.mark.asyncio
LOGIN = "ada@example.com"
LOOPBACK = ("127.0.0.1", 4711)
FAR = ("100.64.0.7", 4711)


class Here:
    """A house with Tailscale in front, as the door uses it."""

    def __init__(self, house_, daemon, **settings):
        self.house, self.daemon = house_, daemon
        self.tailscale = Tailscale(house_.keys, house_.people, lambda: house_.clock.now, patience=5.0)
        self.tailscale.configure(Settings.model_validate(settings))

    async def who(self, client=FAR, *logins):
        headers = [(b"tailscale-user-login", login.encode("latin-1")) for login in logins]
        try:
            return self.tailscale.identify(client, headers, final=False)
        except Unfamiliar as unfamiliar:
            found = unfamiliar
        if isinstance(found, Stranger):
            await self.tailscale.ask(found)
            try:
                return self.tailscale.identify(client, headers, final=False)
            except Unfamiliar as unfamiliar:
                found = unfamiliar
        await self.house.keys.learn(found)
        await self.tailscale.welcome(found, Actor("tailscale", client[0], "req_1"))
        return self.tailscale.identify(client, headers, final=True)


@asynccontextmanager
async def here(directory, **settings):
    async with house(directory) as one, tailscaled() as daemon:
        daemon.machines[FAR[0]] = {"login": LOGIN}
        if settings.get("whois"):
            settings["whois"] = daemon.path
        yield Here(one, daemon, **settings)


async def people(one):
    await one.house.people.create_team(ADA, "family", "")
    await one.house.people.create_user(ADA, LOGIN, "family", "")


async def test_a_login_is_the_user_of_its_name(tmp_path):
    async with here(tmp_path, headers=True, whois=True) as one:
        await people(one)
        for found in (await one.who(LOOPBACK, LOGIN), await one.who(FAR)):
            assert (found.id, found.user, found.team) == (f"tailscale:{LOGIN}", LOGIN, "family")
            assert (found.kind, found.names, found.only_local) == (KeyKind.CALLER, (), False)
        assert one.daemon.asked == ["100.64.0.7:4711"]


async def test_a_login_is_the_user_listed_for_it(tmp_path):
    async with here(tmp_path, headers=True, users={LOGIN: "ada", "eve@example.com": "eve"}) as one:
        found = await one.who(LOOPBACK, LOGIN)
        assert (found.id, found.user, found.team) == (f"tailscale:{LOGIN}", "ada", None)
        await one.house.people.create_team(ADA, "family", "")
        await one.house.people.create_user(ADA, "ada", "family", "")
        assert (await one.who(LOOPBACK, LOGIN)).team == "family"


async def test_a_login_that_is_nobody_is_not_let_in(tmp_path):
    async with here(tmp_path, headers=True, whois=True) as one:
        assert await one.who(LOOPBACK, LOGIN) is None
        assert await one.who(FAR) is None


@pytest.mark.parametrize(
    "client",
    [("192.168.0.7", 1), ("100.64.0.7", 1), ("203.0.113.9", 1), ("::ffff:10.0.0.1", 1), ("", 0)],
    ids=str,
)
async def test_the_header_is_believed_from_loopback_alone(client, tmp_path):
    async with here(tmp_path, headers=True) as one:
        await people(one)
        assert await one.who(client, LOGIN) is None
        assert (await one.who(("::1", 1), LOGIN)).user == LOGIN


@pytest.mark.parametrize(
    "logins",
    [
        (LOGIN, LOGIN),
        (LOGIN, "eve@example.com"),
        ("",),
        (" ",),
        ("x" * 101,),
        (f"{LOGIN}\x00",),
        (f"{LOGIN} {LOGIN}",),
        ("ad\xe4@example.com",),
    ],
    ids=range(8),
)
async def test_a_header_that_is_odd_names_nobody(logins, tmp_path):
    async with here(tmp_path, headers=True, create=True) as one:
        await people(one)
        before = await one.house.people.users()
        assert await one.who(LOOPBACK, *logins) is None
        assert await one.house.people.users() == before


async def test_each_source_only_where_it_is_configured(tmp_path):
    async with here(tmp_path, whois=True) as one:
        await people(one)
        assert await one.who(LOOPBACK, LOGIN) is None
        assert one.daemon.asked == []
        one.tailscale.configure(None)
        assert await one.who(FAR) is None
        one.tailscale.configure(Settings())
        assert await one.who(FAR) is None
        assert one.daemon.asked == []


@pytest.mark.parametrize("client", [("192.168.0.7", 1), ("127.0.0.1", 1), ("8.8.8.8", 1)], ids=str)
async def test_nobody_is_asked_about_addresses_that_are_not_tailscales(client, tmp_path):
    async with here(tmp_path, whois=True) as one:
        assert await one.who(client) is None
        assert one.daemon.asked == []


async def test_an_answer_counts_for_a_minute(tmp_path):
    async with here(tmp_path, whois=True) as one:
        await people(one)
        for _ in range(3):
            assert (await one.who(FAR)).user == LOGIN
        assert len(one.daemon.asked) == 1
        one.daemon.machines.clear()
        one.house.clock.move(59)
        await one.house.keys.poll()
        assert (await one.who(FAR)).user == LOGIN
        one.house.clock.move(1)
        await one.house.keys.poll()
        assert await one.who(FAR) is None
        assert len(one.daemon.asked) == 2


async def test_a_new_configuration_forgets_what_was_heard(tmp_path):
    async with here(tmp_path, whois=True) as one:
        await people(one)
        await one.who(FAR)
        one.tailscale.configure(Settings.model_validate({"whois": one.daemon.path}))
        await one.who(FAR)
        assert len(one.daemon.asked) == 1
        one.tailscale.configure(Settings.model_validate({"whois": one.daemon.path, "create": True}))
        await one.who(FAR)
        assert len(one.daemon.asked) == 2


async def test_a_daemon_that_does_not_answer_lets_nobody_in(tmp_path):
    async with here(tmp_path, whois=True) as one:
        await people(one)
        one.daemon.silent = True
        one.tailscale._patience = module.ASK_LIMIT
        for _ in range(3):  # asked once: the next ones are refused from memory
            with pytest.raises(Refused) as caught:
                await one.who(FAR)
            assert (caught.value.status, caught.value.code) == (503, "identity_unavailable")
        assert len(one.daemon.asked) == 1
        one.daemon.silent = False
        one.tailscale._patience = 5.0
        one.house.clock.move(1)
        assert (await one.who(FAR)).user == LOGIN


async def test_a_daemon_that_is_gone_lets_nobody_in(tmp_path):
    async with here(tmp_path) as one:
        one.tailscale.configure(Settings(whois=str(tmp_path / "gone.sock")))
        with pytest.raises(Refused, match="does not answer"):
            await one.who(FAR)


async def test_what_is_remembered_and_asked_at_once_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 10)
    async with here(tmp_path, whois=True) as one:
        for number in range(20):
            assert await one.who((f"100.64.1.{number}", 1)) is None
        assert len(one.tailscale._heard) == 10
        one.daemon.silent = True
        one.tailscale._patience = module.ASK_LIMIT
        asked = [one.who((f"100.64.2.{number}", 1)) for number in range(50)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, Refused) and one.status == 503 for one in found)
        assert len(one.daemon.asked) == 20 + module.MOST_ASKED


async def test_users_are_made_where_that_is_wanted(tmp_path):
    async with here(tmp_path, headers=True, whois=True, create=True, users={"x@example.com": "x"}) as one:
        assert (await one.who(FAR)).user == LOGIN
        assert (await one.who(LOOPBACK, "x@example.com")).user == "x"
        assert [row["name"] for row in await one.house.people.users()] == [LOGIN]
        (line,) = await one.house.registry.trail(10, None)
        assert (line.who, line.action, line.address) == ("tailscale", "user.create", "100.64.0.7")
        assert await one.who(LOOPBACK, "-odd") is None
        assert len(await one.house.people.users()) == 1


async def test_a_user_who_is_removed_or_moved_counts_no_more_at_once_and_elsewhere(tmp_path):
    async with here(tmp_path, headers=True) as one:
        await people(one)
        await one.house.people.create_team(ADA, "work", "")
        other = Here(one.house.beside(), one.daemon, headers=True)
        for each in (one, other):
            assert (await each.who(LOOPBACK, LOGIN)).team == "family"
        await one.house.people.update_user(ADA, LOGIN, {"team": "work"})
        assert (await one.who(LOOPBACK, LOGIN)).team == "work"
        assert (await other.who(LOOPBACK, LOGIN)).team == "family"
        await other.house.keys.poll()
        assert (await other.who(LOOPBACK, LOGIN)).team == "work"
        await one.house.people.remove_user(ADA, LOGIN)
        assert await one.who(LOOPBACK, LOGIN) is None
        await other.house.keys.poll()
        assert await other.who(LOOPBACK, LOGIN) is None


async def test_without_the_database_known_users_go_on_with_own_machines(tmp_path):
    async with here(tmp_path, headers=True, users={"eve@example.com": "eve"}, create=True) as one:
        await people(one)
        assert not (await one.who(LOOPBACK, LOGIN)).only_local
        one.house.break_reading()
        await one.house.keys.poll()
        assert (await one.who(LOOPBACK, LOGIN)).only_local
        for login in ("eve@example.com", "new@example.com"):
            with pytest.raises(Refused) as caught:
                await one.who(LOOPBACK, login)
            assert caught.value.code == "keys_unavailable"
        one.house.mend()
        await one.house.keys.poll()
        assert (await one.who(LOOPBACK, "eve@example.com")).user == "eve"


async def test_no_key_opens_what_belongs_to_a_user(tmp_path):
    async with here(tmp_path, headers=True) as one:
        await people(one)
        await one.who(LOOPBACK, LOGIN)
        for presented in (f"user:{LOGIN}", f"fg_caller_user:{LOGIN}", f"tailscale:{LOGIN}"):
            assert await one.house.who(presented) is None
