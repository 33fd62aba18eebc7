import asyncio
import json
import re

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, answer, chain, node, openai_engine, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.cli.main import fleetgate

pytestmark = pytest.mark.asyncio
KEY = r"fg_caller_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"


@pytest.fixture
def call(tmp_path):
    """A command that asks this gateway, in a thread: the gateway lives in this loop."""
    unset = ("FLEETGATE_URL", "FLEETGATE_KEY", "FLEETGATE_MASTER_KEY", "FLEETGATE_CONFIG", "XDG_CONFIG_HOME",
             "XDG_STATE_HOME", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "FORCE_COLOR")  # fmt: skip
    environ = {**dict.fromkeys(unset), "HOME": str(tmp_path / "home")}

    async def run(gateway, *words, key=MASTER_KEY, code=0):
        env = {**environ, "FLEETGATE_KEY": key}
        done = await asyncio.to_thread(CliRunner().invoke, fleetgate, [*words, "--url", gateway.url], env=env)
        assert done.exit_code == code, done.output
        return done

    return run


async def test_a_key_from_its_creation_to_its_end(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        assert "no keys yet" in (await call(gateway, "keys", "list")).stderr
        await call(gateway, "teams", "create", "family")
        await call(gateway, "users", "create", "anna", "--team", "family")
        done = await call(
            gateway,
            "keys",
            "create",
            "--alias",
            "laptop",
            "--user",
            "anna",
            "--allow",
            "chat",
            "--expires",
            "30d",
        )
        assert re.fullmatch(KEY + "\n", done.stdout)
        assert "shown this once" in done.stderr
        assert "laptop" in done.stderr
        key_id = done.stdout.split("_")[2]

        head, row = (await call(gateway, "keys", "list")).stdout.splitlines()
        assert head.split() == [
            "KEY",
            "ALIAS",
            "KIND",
            "STATE",
            "USER",
            "TEAM",
            "USED",
            "EXPIRES",
            "MAY",
            "USE",
        ]
        assert row.split()[:7] == [key_id, "laptop", "caller", "active", "anna", "-", "never"]
        done = await call(gateway, "keys", "update", "laptop", "--allow", "-", "--expires", "-", "--disable")
        assert "disabled" in done.stdout
        assert "expires" not in done.stdout
        assert "may use" not in done.stdout
        done = await call(gateway, "keys", "update", key_id, "--enable", "--tag", "x", "--json")
        assert json.loads(done.stdout)["key"]["tags"] == ["x"]

        done = await call(gateway, "keys", "rotate", "laptop", "--grace", "5m")
        assert re.fullmatch(KEY + "\n", done.stdout)
        assert "old secret until" in done.stderr
        done = await call(gateway, "keys", "rotate", "laptop", "--json")
        assert re.fullmatch(KEY, json.loads(done.stdout)["secret"])
        assert "state            active" in (await call(gateway, "keys", "show", "laptop")).stdout

        assert "has keys: laptop" in (await call(gateway, "users", "remove", "anna", code=1)).stderr
        assert "revoked" in (await call(gateway, "keys", "revoke", "laptop")).stdout
        assert "no key 'laptop'" in (await call(gateway, "keys", "show", "laptop", code=1)).stderr
        rows = json.loads((await call(gateway, "keys", "list", "--revoked", "--json")).stdout)["rows"]
        assert [row["state"] for row in rows] == ["revoked"]

        shown = (await call(gateway, "keys", "audit")).stdout
        assert [line.split()[2] for line in shown.splitlines()[1:]] == [
            *("key.revoke", "key.rotate", "key.rotate", "key.update", "key.update", "key.create"),
            *("user.create", "team.create"),
        ]
        assert "enabled: yes → no" in shown


async def test_users_and_teams(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        assert "no users yet" in (await call(gateway, "users", "list")).stderr
        assert "no teams yet" in (await call(gateway, "teams", "list")).stderr
        assert "no team 'x'" in (await call(gateway, "users", "create", "a", "--team", "x", code=1)).stderr
        await call(gateway, "teams", "create", "x", "--note", "ours")
        done = await call(gateway, "users", "create", "a", "--team", "x", "--json")
        assert json.loads(done.stdout)["user"]["team"] == "x"
        assert "user 'a' already" in (await call(gateway, "users", "create", "a", code=1)).stderr
        assert (await call(gateway, "users", "list")).stdout.splitlines()[1].split()[:2] == ["a", "x"]
        assert (await call(gateway, "teams", "list")).stdout.splitlines()[1].split()[0::2] == ["x", "ours"]
        assert "changed the user a" in (await call(gateway, "users", "update", "a", "--team", "-")).stdout
        done = await call(gateway, "users", "update", "a", "--team", "x", "--note", "tall", "--json")
        assert json.loads(done.stdout)["user"] | {"created_at": 0} == {
            "name": "a",
            "team": "x",
            "note": "tall",
            "created_at": 0,
        }
        assert "nothing is to be changed" in (await call(gateway, "users", "update", "a", code=1)).stderr
        assert "no user 'b'" in (await call(gateway, "users", "update", "b", "--note", "-", code=1)).stderr
        assert "has users: a" in (await call(gateway, "teams", "remove", "x", code=1)).stderr
        await call(gateway, "users", "remove", "a")
        await call(gateway, "teams", "remove", "x")
        assert json.loads((await call(gateway, "teams", "list", "--json")).stdout) == {"rows": []}


async def test_a_viewer_key_looks_and_changes_nothing(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        done = await call(gateway, "keys", "create", "--alias", "eye", "--kind", "viewer")
        viewer = done.stdout.strip()
        assert "eye" in (await call(gateway, "keys", "list", key=viewer)).stdout
        done = await call(gateway, "keys", "create", key=viewer, code=77)
        assert "admin key" in done.stderr
        await call(gateway, "keys", "list", key="fg_wrong", code=77)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "create", "--expires", "soon"), "duration"),
        (("keys", "create", "--alias", "a b"), "alias"),
        (("keys", "revoke", "nobody"), "no key 'nobody'"),
        (("keys", "update", "nobody"), "nothing is to be changed"),
    ],
)
async def test_what_is_refused_says_why(words, said, call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        assert said in (await call(gateway, *words, code=1)).stderr


async def test_a_plan_as_a_key_may_use_it(call, tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as one, openai_engine() as two:
        house = settings(
            nodes={"box": node(one), "desk": node(two)}, roles={"chat": chain("box/m", "desk/m")}
        )
        async with running_gateway(house, tmp_path) as gateway:
            await call(gateway, "keys", "create", "--alias", "k", "--allow", "chat", "--allow", "!desk/*")
            plan = (await call(gateway, "explain", "chat", "--for", "k")).stdout
            assert "desk/openai/m: the key may not use it" in plan
            assert "box/openai/m: 0 in flight" in plan
