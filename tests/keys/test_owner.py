"""Issued keys over a real database: who is let in, and who is not."""

import asyncio
import hmac
import secrets

import pytest
from tests.keys.house import ADA, MASTER_KEY

from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.keys import form, owner
from fleetgate.keys.owner import MASTER, MOST_ASKED
from fleetgate.keys.ring import Unfamiliar
from fleetgate.store import access
from fleetgate.store.schema import metadata

pytestmark = pytest.mark.asyncio


def invented(kind=KeyKind.CALLER):
    return form.whole(kind, form.mint_id(secrets.token_bytes), form.mint_secret(secrets.token_bytes))


async def test_a_key_stands_for_its_id_its_user_and_its_users_team(house, tmp_path):
    async with house(tmp_path) as here:
        await here.people.create_team(ADA, "family", "")
        await here.people.create_user(ADA, "anna", "family", "")
        key_id, key = await here.make(person="anna", names=("chat",))
        for house_ in (here, here.beside()):  # from what was just made, and from the database
            who = await house_.who(key)
            assert (who.id, who.user, who.team, who.names) == (key_id, "anna", "family", ("chat",))
            assert not who.admin
        assert await here.who(MASTER_KEY) is MASTER


@pytest.mark.parametrize("kind", KeyKind)
async def test_the_kind_is_the_databases_not_the_texts(house, kind, tmp_path):
    async with house(tmp_path) as here:
        key_id, key = await here.make(kind)
        assert (await here.who(key)).kind is kind
        secret = key[-49:-6]
        for other in KeyKind:
            forged = form.whole(other, key_id, secret)
            assert ((await here.who(forged)) is not None) == (other is kind)


async def test_unknown_and_wrong_keys_take_the_same_path(house, tmp_path, monkeypatch):
    """The same comparisons of the same length, whatever is wrong."""
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        owner.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or compare(a, b)
    )
    async with house(tmp_path) as here:
        key_id, key = await here.make()
        wrong = form.whole(KeyKind.CALLER, key_id, form.mint_secret(secrets.token_bytes))
        unknown = invented()
        with pytest.raises(Unfamiliar):
            here.keys.identify(unknown.encode())
        assert await here.who(unknown) is None
        for presented in (wrong, unknown, key[:-1] + "!", "sk-something"):
            compared.clear()
            assert here.keys.identify(presented.encode()) is None
            assert compared == [(32, 32)] * 3


async def test_a_checksum_that_does_not_fit_needs_no_database(house, tmp_path):
    async with house(tmp_path) as here:
        here.break_reading()
        key = invented()
        assert await here.who(key[:-1] + ("a" if key[-1] != "a" else "b")) is None
        here.mend()


async def test_rotation_has_two_valid_secrets_for_its_grace(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, first = await here.make(alias="x")
        _, second = await here.registry.rotate(ADA, "x", 60.0)
        assert (await here.who(first)).id == (await here.who(second)).id == key_id
        here.clock.move(59.9)
        assert await here.who(first) is not None
        here.clock.move(0.1)
        assert await here.who(first) is None
        assert await here.who(second) is not None
        _, third = await here.registry.rotate(ADA, key_id, 0.0)
        assert await here.who(second) is None
        assert await here.who(third) is not None


@pytest.mark.parametrize("way", ["revoke", "disable", "expire"])
async def test_a_key_that_ended_is_nobody_at_once(house, way, tmp_path):
    async with house(tmp_path) as here:
        key_id, key = await here.make(expires_at=round((here.clock.unix + 100) * 1e3))
        assert await here.who(key) is not None
        if way == "revoke":
            await here.registry.revoke(ADA, key_id)
        elif way == "disable":
            await here.registry.update(ADA, key_id, {"enabled": False})
        else:
            here.clock.move(100.0)
        assert await here.who(key) is None
        assert await here.beside().who(key) is None


async def test_a_revocation_elsewhere_is_in_effect_after_the_next_poll(house, tmp_path):
    async with house(tmp_path) as here:
        there = here.beside()
        key_id, key = await here.make()
        await there.keys.poll()
        assert await there.who(key) is not None
        await here.registry.revoke(ADA, key_id)
        assert await there.who(key) is not None  # not yet heard
        await there.keys.poll()
        assert await there.who(key) is None


async def test_the_counter_is_polled_often_enough(tmp_path):
    assert owner.POLL_EVERY + owner.READ_LIMIT * 2 < 2.0


async def test_known_keys_go_on_without_the_database_and_unknown_ones_are_not_let_in(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, key = await here.make()
        assert not (await here.who(key)).only_local
        here.break_reading()
        await here.keys.poll()
        who = await here.who(key)
        assert (who.id, who.only_local) == (key_id, True)
        with pytest.raises(Refused) as caught:
            await here.who(invented())
        assert (caught.value.status, caught.value.retry_after) == (503, 5.0)
        here.clock.move(899.0)
        assert await here.who(key) is not None
        here.clock.move(2.0)
        with pytest.raises(Refused):
            await here.who(key)
        here.mend()
        await here.keys.poll()
        assert not (await here.who(key)).only_local
        assert await here.who(invented()) is None


async def test_a_database_that_hangs_delays_a_request_only_so_long(house, tmp_path, monkeypatch):
    async with house(tmp_path) as here:
        _, key = await here.make()
        monkeypatch.setattr(owner, "READ_LIMIT", 0.01)
        there = here.beside()
        with there.no_reader_free():
            with pytest.raises(Refused) as caught:
                await there.who(key)
            assert caught.value.status == 503
        await asyncio.gather(*there.keys._asked.values())
        monkeypatch.undo()
        await there.keys.poll()
        assert await there.who(key) is not None


async def test_a_reading_that_is_late_counts_as_old_as_it_is(house, tmp_path, monkeypatch):
    async with house(tmp_path) as here:
        _, key = await here.make()
        there = here.beside()
        await there.keys.poll()
        assert not (await there.who(key)).only_local
        monkeypatch.setattr(owner, "READ_LIMIT", 0.01)
        with there.no_reader_free():
            await there.keys.poll()
            assert not (await there.who(key)).only_local  # a busy machine is no outage, …
            here.clock.move(2.1)
            assert (await there.who(key)).only_local  # … unless it lasts
        await asyncio.wait((there.keys._polling,))
        assert (await there.who(key)).only_local
        monkeypatch.undo()
        await there.keys.poll()
        assert not (await there.who(key)).only_local


async def test_whoever_tries_keys_cannot_make_the_database_count_as_down(house, tmp_path, monkeypatch):
    async with house(tmp_path) as here:
        _, key = await here.make()
        there = here.beside()
        await there.keys.poll()
        assert not (await there.who(key)).only_local
        monkeypatch.setattr(owner, "READ_LIMIT", 0.01)
        with there.no_reader_free():
            with pytest.raises(Refused):
                await there.who(invented())
            assert not (await there.who(key)).only_local
        await asyncio.gather(*there.keys._asked.values())


async def test_many_requests_with_one_new_key_are_one_reading(house, tmp_path):
    async with house(tmp_path) as here:
        _, key = await here.make()
        there = here.beside()
        read = []
        ask = there.store.ask
        there.store.ask = lambda look: read.append(look) or ask(look)
        try:
            found = await asyncio.gather(*(there.who(key) for _ in range(20)))
            assert len({one.id for one in found}) == 1
        finally:
            del there.store.ask
        assert len(read) == 1


async def test_whoever_tries_many_keys_at_once_is_told_to_wait(house, tmp_path):
    async with house(tmp_path) as here:
        tried = [here.who(invented()) for _ in range(MOST_ASKED + 10)]
        found = await asyncio.gather(*tried, return_exceptions=True)
        refused = [one for one in found if isinstance(one, Refused)]
        assert len(refused) == 10
        assert all(one.status == 503 for one in refused)
        assert all(one is None for one in found if one not in refused)


async def test_when_a_key_was_used_is_written_now_and_then(house, tmp_path):
    async with house(tmp_path) as here:
        key_id, key = await here.make()
        await here.who(key)
        assert (await here.registry.show(key_id)).last_used_at is None
        await here.keys.save()
        assert (await here.registry.show(key_id)).last_used_at == round(here.clock.unix * 1e3)
        epoch = here.store.ask(access.epoch)
        here.clock.move(60)
        await here.who(key)
        await here.keys.save()
        assert (await here.registry.show(key_id)).last_used_at == round(here.clock.unix * 1e3)
        assert here.store.ask(access.epoch) == epoch


async def test_the_database_holds_no_secret_and_no_pepper(house, tmp_path):
    async with house(tmp_path) as here:
        _, key = await here.make(alias="x")
        _, again = await here.registry.rotate(ADA, "x", 60.0)
        pepper = (tmp_path / "keys.pepper").read_text().strip()
        assert (tmp_path / "keys.pepper").stat().st_mode & 0o777 == 0o600
        rows = [
            here.store.ask(lambda line, table=table: line.execute(table.select()).all())
            for table in metadata.tables.values()
        ]
    found = str(rows).encode() + b"".join(file.read_bytes() for file in tmp_path.glob("fleetgate.db*"))
    assert b"key.rotate" in found
    for secret in (key[-49:-6], again[-49:-6], pepper):
        assert secret.encode() not in found


async def test_keys_of_another_pepper_are_worth_nothing(house, tmp_path):
    async with house(tmp_path) as here:
        _, key = await here.make()
        (tmp_path / "keys.pepper").unlink()
        assert await here.beside().who(key) is None
