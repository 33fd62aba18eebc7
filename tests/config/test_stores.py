"""Where the state is: written out or by reference, checked, and shown without its password."""

import json
import pickle

import pytest

from fleetgate.config.json_schema import json_schema
from fleetgate.config.load import load
from fleetgate.config.locator import Locator
from fleetgate.config.reference import rows

PASSWORD = "pw/of:all#3"
ENCODED = "pw%2Fof%3Aall%233"


def loaded(key, value, **environ):
    return load(f"gateway: {{{key}: {json.dumps(value)}}}", environ)


def findings(key, value, **environ):
    found = loaded(key, value, **environ).findings
    return [f"{one.severity} {one.render().removeprefix('<text>:1:')}" for one in found]


@pytest.mark.parametrize(
    ("written", "shown", "password"),
    [
        ("sqlite", "sqlite", ""),
        ("redis://h:6379/0", "redis://h:6379/0", ""),
        (f"redis://:{ENCODED}@h/0", "redis://:***@h/0", PASSWORD),
        (f"rediss://ada:{ENCODED}@h:1/0?db=2", "rediss://ada:***@h:1/0?db=2", PASSWORD),
        ("redis://ada@h", "redis://ada@h", ""),
        ("redis://:odd/p@ss@h/0", "redis://:***@h/0", "odd/p@ss"),
        ("postgresql://u:pw@h/d", "postgresql://u:***@h/d", "pw"),
        (
            "postgresql://h/d?user=u&password=pw&sslmode=require",
            "postgresql://h/d?user=u&password=***&sslmode=require",
            "pw",
        ),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1", ""),
    ],
)
def test_everything_but_the_password_is_shown(written, shown, password):
    place = Locator(written)
    assert (str(place), f"{place}", place.password) == (shown, shown, password)
    assert repr(place) == f"<{shown} from a literal>"
    if password:
        assert all(password not in text for text in (repr(place), str(pickle.dumps(place))))


@pytest.mark.parametrize("key", ["database", "shared_state"])
def test_no_form_of_the_settings_shows_a_password(key):
    url = f"postgresql://u:{ENCODED}@h/d" if key == "database" else f"redis://:{ENCODED}@h/0"
    for value, environ in ((url, {}), ("${PLACE}", {"PLACE": url})):
        found = loaded(key, value, **environ)
        shown = [repr(found.settings), str(found.settings), found.settings.model_dump_json()]
        shown += [repr(found.settings.model_dump()), *(repr(one.row()) for one in found.origins)]
        shown += [one.render() for one in found.findings]
        assert all(PASSWORD not in text and ENCODED not in text for text in shown)
        (line,) = [one.row() for one in found.origins if one.path == f"gateway.{key}"]
        assert "***@h" in line["value"]
        assert line["value"].startswith("${PLACE} (") is bool(environ)
        assert getattr(found.settings.gateway, key).reveal() == url


def test_what_is_not_written_is_the_default():
    gateway = load("{}", {}).settings.gateway
    assert (gateway.database.reveal(), gateway.shared_state.reveal()) == ("sqlite", "memory")
    defaults = {row.path: (row.type, row.default) for row in rows()}
    assert defaults["gateway.database"] == ("address", "sqlite")
    assert defaults["gateway.shared_state"] == ("address", "memory")
    schema = json_schema()["$defs"]["Gateway"]["properties"]["shared_state"]
    assert (schema["type"], schema["default"]) == ("string", "memory")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0",
        "redis://[::1]:6379/15",
        "redis://:pw-of-mine@h/0",
        "rediss://ada:pw-of-mine@h:6380/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis/redis.sock?db=1",
        "unix://:pw-of-mine@/run/redis/redis.sock",
    ],
)
def test_addresses_of_redis_that_are_fine(url):
    assert findings("shared_state", "${R}", R=url) == []
    found = findings("shared_state", url)
    assert [one.partition(" ")[0] for one in found] == (["warning"] if "pw-of-mine" in url else [])
    assert all("a password is written out here" in one and "pw-of-mine" not in one for one in found)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis", "no shared state that is known here; write memory, or redis://host:6379/0"),
        ("postgresql://u@h/d", "no shared state that is known here"),
        ("redis://", "host or port are missing"),
        ("redis://:pw-of-mine@/0", "host or port are missing"),
        ("redis://h:0/0", "host or port are missing"),
        ("redis://h:pw-of-mine/0", "it cannot be read as an address"),
        ("redis://:pw/of-mine@h/0", "it cannot be read as an address"),
        ("redis://h:99999/0", "it cannot be read as an address"),
        ("redis://[::1/0", "it cannot be read as an address"),
        ("redis://h/one", "the database is not a number"),
        ("redis://h/0?password=pw-of-mine", "an option that is not known here; known are db, ssl_ca_certs"),
        ("redis://h/0?ssl_cert_reqs=none", "an option that is not known here"),
        ("redis://h/0?db=x", "an option that is not known here"),
        ("redis://h/0#x", "an option that is not known here"),
        ("unix://run/redis.sock", "the path of the socket is missing"),
        ("unix://", "the path of the socket is missing"),
    ],
)
def test_addresses_of_redis_that_are_not(url, says):
    found = next(one for one in findings("shared_state", url) if one.startswith("error "))
    assert says in found
    assert "pw" not in found
    (found,) = findings("shared_state", "${R}", R=url)
    assert says in found
    assert "pw" not in found


def test_a_reference_that_leads_nowhere_is_an_error():
    for key in ("database", "shared_state"):
        (found,) = findings(key, "${NOWHERE}")
        assert f"gateway.{key}: environment variable NOWHERE is not set; set it" in found
        assert found.startswith("error ")
        (found,) = findings(key, "redis://:${PW}@h/0")
        assert "a reference must be the whole value" in found


def test_passwords_that_everybody_knows():
    assert "a well-known password" in findings("shared_state", "redis://:secret@h/0")[0]
    (found,) = findings("shared_state", "${R}", R="redis://:secret@h/0")
    assert "a well-known password" in found
    found = findings("database", "${D}", D="postgresql://postgres:postgres@h/d")
    assert any("a well-known password" in one for one in found)


def test_databases():
    assert findings("database", "sqlite") == []
    (found,) = findings("database", "mysql")
    assert found.startswith("error ")
    assert "write sqlite, or postgresql://user@host/name" in found


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/d",
        "postgres://u@h:5432/d",
        "postgresql://u:pw-of-mine@[::1]:5432/d?sslmode=require",
        "postgresql://u@h1:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql://u@/d?host=/run/postgresql",
        "postgresql://h/?dbname=d&user=u",
    ],
)
def test_addresses_of_postgresql_that_are_fine(url):
    assert findings("database", "${D}", D=url) == []
    found = findings("database", url)
    assert [one.partition(" ")[0] for one in found] == (["warning"] if "pw-of-mine" in url else [])
    assert all("a password is written out here" in one and "pw-of-mine" not in one for one in found)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:pw-of-mine@h/d", "no database that is known here; write sqlite, or postgresql://"),
        (
            "postgresql+psycopg://u:pw-of-mine@h/d",
            "no database that is known here; write postgresql:// alone",
        ),
        ("postgresql:h/d", "no database that is known here"),
        ("postgresql://", "the host is missing"),
        ("postgresql:///d", "the host is missing"),
        ("postgresql://u:pw-of-mine@h", "the name of the database is missing"),
        ("postgresql://u@h/d/e", "the name of the database is missing"),
        ("postgresql://u:pw-of-mine@h:x/d", "a port is not a number"),
        ("postgresql://u@h:0/d", "a port is not a number"),
        ("postgresql://u:pw/of-mine@h/d", "it cannot be read as an address"),
        ("postgresql://u:pw@of-mine@h/d", "it cannot be read as an address"),
        ("postgresql://u:pw#of-mine@h/d", "it cannot be read as an address"),
        ("postgresql://[::1/d", "it cannot be read as an address"),
    ],
)
def test_addresses_of_postgresql_that_are_not(url, says):
    found = next(one for one in findings("database", url) if one.startswith("error "))
    assert says in found
    assert "pw" not in found
    (found,) = findings("database", "${D}", D=url)
    assert says in found
    assert "pw" not in found
