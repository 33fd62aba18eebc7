import pytest

from fleetgate.config.schema import Gateway
from fleetgate.errors import Refused
from fleetgate.gateway.gateway import conversation_headers
from fleetgate.http.call import Call
from fleetgate.http.door import Door, host_name, new_request_id, read_head, read_headers
from fleetgate.http.table import Access, Row
from fleetgate.keys.owner import ANYBODY, MASTER, Keys

KEY = "fg_master_abcdefghijklmnop"


async def nothing(_call):
    pass


ROWS = {access: Row("GET", "/x", access, nothing, "A row.") for access in Access}


def call(headers=(), *, client="127.0.0.1", method="GET", server=("127.0.0.1", 4000)):
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    if not any(name == b"host" for name, _ in pairs):
        pairs.append((b"host", b"127.0.0.1:4000"))
    scope = {"type": "http", "http_version": "1.1", "method": method, "headers": pairs, "server": server}
    scope["client"] = (client, 1) if client else None
    made = Call(None, scope, None, None, "req_1")
    read_headers(made)
    return made


def door(**gateway):
    return Door(Gateway.model_validate(gateway), Keys(KEY))


def refusal(do, *arguments):
    with pytest.raises(Refused) as caught:
        do(*arguments)
    return caught.value.status, caught.value.code


BEARER = ("authorization", f"Bearer {KEY}")
HOST = ("host", "127.0.0.1:4000")
JSON = ("content-type", "application/json")


# --- addresses --------------------------------------------------------------------------------------

OPEN = {"auth": "open"}
RANGES = ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    ("gateway", "client", "allowed"),
    [
        ({}, "203.0.113.9", True),
        (OPEN, "127.0.0.1", True),
        (OPEN, "127.9.9.9", True),
        (OPEN, "::1", True),
        (OPEN, "::ffff:127.0.0.1", True),
        (OPEN, "10.0.0.5", False),
        (OPEN, "::ffff:10.0.0.5", False),
        (OPEN, "203.0.113.9", False),
        ({**OPEN, "allow_from": RANGES}, "10.0.0.5", True),
        ({**OPEN, "allow_from": RANGES}, "::ffff:10.0.0.5", True),
        ({**OPEN, "allow_from": RANGES}, "fd00::7", True),
        ({**OPEN, "allow_from": RANGES}, "fd00::7%eth0", True),
        ({**OPEN, "allow_from": RANGES}, "11.0.0.5", False),
        ({**OPEN, "allow_from": RANGES}, "::ffff:11.0.0.5", False),
        ({**OPEN, "allow_from": RANGES}, "127.0.0.1", True),
        ({**OPEN, "allow_from": RANGES}, "not-an-address", False),
        ({"allow_from": RANGES}, "10.0.0.5", True),
        ({"allow_from": RANGES}, "203.0.113.9", False),
        ({"allow_from": RANGES}, "127.0.0.1", True),
        ({"allow_from": ["10.0.0.5"]}, "10.0.0.5", True),
        ({"allow_from": ["10.0.0.5/8"]}, "10.9.9.9", True),
    ],
)
def test_who_may_connect(gateway, client, allowed):
    here = door(**gateway)
    for _ in range(2):  # the second time from memory
        if allowed:
            here.admit_address(call(client=client))
        else:
            assert refusal(here.admit_address, call(client=client)) == (403, "address_not_allowed")


@pytest.mark.parametrize("header", ["x-forwarded-for", "x-real-ip", "forwarded"])
def test_headers_do_not_make_an_address(header):
    here = door(**OPEN)
    assert refusal(here.admit_address, call([(header, "127.0.0.1")], client="203.0.113.9"))[0] == 403


# --- keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer wrong")], [("x-api-key", "")]])
def test_without_the_right_key_nothing_but_health_is_answered(headers):
    here = door()
    assert here.admit(call(headers), ROWS[Access.ANYONE]) is ANYBODY
    for access in (Access.CALLER, Access.ADMIN):
        assert refusal(here.admit, call(headers), ROWS[access]) == (401, "invalid_api_key")


@pytest.mark.parametrize("headers", [[BEARER], [("x-api-key", KEY)]])
def test_the_master_key_opens_everything(headers):
    assert door().admit(call(headers), ROWS[Access.CALLER]) is MASTER
    assert door().admit(call(headers), ROWS[Access.ADMIN]) is MASTER


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer whatever")]])
def test_open_mode_takes_any_key_or_none_and_makes_nobody_an_administrator(headers):
    here = door(**OPEN)
    assert here.admit(call([HOST, *headers]), ROWS[Access.CALLER]) is ANYBODY
    assert refusal(here.admit, call([HOST, *headers]), ROWS[Access.ADMIN]) == (401, "invalid_api_key")
    assert here.admit(call([HOST, BEARER]), ROWS[Access.ADMIN]) is MASTER


# --- browsers, in open mode -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:4000", True),
        ("localhost:4000", True),
        ("LOCALHOST", True),
        ("[::1]:4000", True),
        ("llm.home:4000", True),
        ("10.0.0.7:4000", True),
        ("10.0.0.8:4000", True),
        ("10.0.0.9:4000", False),
        ("evil.example:4000", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_open_mode_knows_its_own_names(host, allowed):
    here = door(**OPEN, hosts=["LLM.home"], listen=["10.0.0.7:4000", "0.0.0.0:4001"])
    made = call([("host", host)], server=("10.0.0.8", 4001))
    if allowed:
        assert here.admit(made, ROWS[Access.CALLER]) is ANYBODY
    else:
        assert refusal(here.admit, made, ROWS[Access.CALLER]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ([("origin", "http://127.0.0.1:4000")], True),
        ([("origin", "http://127.0.0.1:4001")], False),
        ([("origin", "http://localhost:4000")], False),
        ([("origin", "https://evil.example")], False),
        ([("origin", "null")], False),
        ([("origin", "http://[")], False),
        ([("origin", "file://127.0.0.1:4000")], False),
        ([("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "none")], True),
    ],
)
def test_open_mode_refuses_web_pages_of_others(headers, allowed):
    here = door(**OPEN)
    made = call([HOST, *headers])
    if allowed:
        assert here.admit(made, ROWS[Access.CALLER]) is ANYBODY
    else:
        assert refusal(here.admit, made, ROWS[Access.CALLER]) == (403, "foreign_origin")
    assert door().admit(call([HOST, BEARER, *headers]), ROWS[Access.CALLER]) is MASTER


@pytest.mark.parametrize(
    ("content_type", "allowed"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_open_mode_takes_json_alone(content_type, allowed):
    made = call([HOST, ("content-type", content_type)], method="POST")
    if allowed:
        assert door(**OPEN).admit(made, ROWS[Access.CALLER]) is ANYBODY
    else:
        assert refusal(door(**OPEN).admit, made, ROWS[Access.CALLER]) == (415, "json_only")


def test_with_keys_no_browser_can_do_anything_unnoticed_so_any_type_is_taken():
    made = call([HOST, BEARER, ("content-type", "text/plain")], method="POST")
    assert door().admit(made, ROWS[Access.CALLER]) is MASTER


# --- heads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["host", "content-length", "authorization", "content-type"])
def test_what_must_come_once_comes_once(name):
    assert refusal(call, [(name, "1"), (name, "1")]) == (400, "duplicate_header")


@pytest.mark.parametrize(("version", "passes"), [("1.0", True), ("1.1", False)])
def test_only_the_oldest_clients_may_leave_their_host_out(version, passes):
    made = Call(None, {"http_version": version, "headers": []}, None, None, "req_1")
    if passes:
        read_headers(made)
    else:
        assert refusal(read_headers, made) == (400, "no_host")


def test_other_headers_may_come_twice():
    assert call([("accept", "a"), ("accept", "b")]).header(b"accept") == "b"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("0.5", 0.5), ("2m", 120.0), ("250ms", 0.25), ("", None), ("86400", 86400.0)],
)
def test_a_callers_time(text, seconds):
    assert read_head(call([("x-fleetgate-timeout", text)]), "gw").timeout == seconds


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", "1e3", "86401", "2d 3x", "1.2.3", "\xb2"])
def test_a_time_that_is_none(text):
    assert refusal(read_head, call([("x-fleetgate-timeout", text)]), "gw") == (400, "malformed")


@pytest.mark.parametrize(
    ("via", "passes"), [("", True), ("other", True), ("gw", False), ("a, gw ,b", False), ("gw2", True)]
)
def test_a_request_that_was_here_before_is_refused(via, passes):
    made = call([("x-fleetgate-via", via)])
    if passes:
        assert read_head(made, "gw").via == via
    else:
        assert refusal(read_head, made, "gw") == (508, "loop")


@pytest.mark.parametrize(
    ("coding", "passes"), [("identity", True), ("", True), ("gzip", False), ("br, gzip", False)]
)
def test_compressed_bodies_are_refused(coding, passes):
    made = call([("content-encoding", coding)])
    if passes:
        read_head(made, "gw")
    else:
        assert refusal(read_head, made, "gw") == (415, "encoding_not_supported")


CONVERSATIONS = conversation_headers(["X-Thread ", "x-session-id"])


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([], ""),
        ([("x-session-id", "a")], "a"),
        ([("x-claude-code-session-id", "a")], "a"),
        ([("session-id", "a")], "a"),
        ([("x-session-affinity", "a")], "a"),
        ([("x-openwebui-chat-id", "a")], "a"),
        ([("x-thread", "a")], "a"),
        ([("x-openwebui-chat-id", "a"), ("x-thread", "b")], "b"),
        ([("x-thread", "b"), ("x-fleetgate-conversation", "c")], "c"),
        ([("x-fleetgate-conversation", ""), ("x-thread", "b")], "b"),
        ([("x-thread", "\xe9" * 300)], "\xe9" * 200),
        ([("x-other", "a")], ""),
    ],
)
def test_the_conversation_is_named_by_the_first_header_that_does(headers, name):
    assert read_head(call(headers), "gw", CONVERSATIONS).conversation == name


def test_further_headers_stand_behind_the_explicit_one_and_once():
    assert CONVERSATIONS[:3] == (b"x-fleetgate-conversation", b"x-thread", b"x-session-id")
    assert len(CONVERSATIONS) == 7


def test_what_else_a_head_may_ask():
    head = read_head(
        call(
            [
                ("content-length", "12"),
                ("x-fleetgate-keep-alive", "white-space"),
                ("traceparent", "00-a-b-01"),
            ]
        ),
        "gw",
    )
    assert (head.length, head.white_space, head.trace) == (12, True, "00-a-b-01")
    assert read_head(call([("traceparent", "x" * 65)]), "gw").trace is None
    assert read_head(call(), "gw").length is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a:1", "a"),
        ("A", "a"),
        ("[::1]:5", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("", ""),
        ("a:b:c", "a:b:c"),
    ],
)
def test_names_of_hosts(host, name):
    assert host_name(host) == name


def test_request_ids_differ():
    assert len({new_request_id() for _ in range(100)}) == 100
