"""Every row of the failure table, end to end: what the caller sees, who answers instead, what is recorded.

Two engines stand behind the names `a/m` and `b/m`, and the role `both` is a chain of them. The first
one fails as scripted, the second one answers.
"""

import datetime as dt
import gzip
import ssl
from dataclasses import dataclass

import pytest
import trustme
from tests.gateway.pairs import SSE_HEAD, alone, both, good
from tests.support.gateway import (
    PROVIDER_KEY,
    answer,
    chain,
    error,
    node,
    openai_engine,
    provider,
    role_frame,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import (
    black_hole,
    chunk,
    close,
    head,
    refusing_port,
    reset,
    respond,
    respond_json,
    send,
    stream_sse,
)

from fleetgate.domain import Presence
from fleetgate.errors import TABLE, FailureClass
from fleetgate.health import Phase

pytestmark = pytest.mark.asyncio
F = FailureClass

JSON_HEAD = [("Content-Type", "application/json")]
CHUNKED_JSON = [*JSON_HEAD, ("Transfer-Encoding", "chunked")]
GZIP = [("Content-Encoding", "gzip")]


@dataclass(frozen=True)
class Fault:
    """A way to fail before any content, whichever way the engine was asked."""

    name: str
    script: list
    failure: F
    status: int
    """for the caller, when nobody else is left"""
    stops: bool = False


def text_error(status, message, **members):
    return respond_json(status, error(message, **members))


def length(size):
    return ("Content-Length", str(size))


def whole(size, body, *then):
    """An answer that says it is `size` bytes long."""
    return [send(head(200, [*JSON_HEAD, length(size)]) + body), *then]


FAULTS = [
    Fault("500", text_error(500, "boom"), F.SERVER_ERROR, 502),
    Fault("502", respond(502, b"<html>Bad Gateway</html>", "text/html"), F.SERVER_ERROR, 502),
    Fault("503", text_error(503, "out of order"), F.SERVER_ERROR, 502),
    Fault("529", text_error(529, "overloaded"), F.SERVER_ERROR, 502),
    Fault("408", text_error(408, "slow"), F.SERVER_ERROR, 502),
    Fault("404 of the model", text_error(404, "The model `m` does not exist"), F.MODEL_MISSING, 404),
    Fault("429", text_error(429, "slow down"), F.RATE_LIMITED, 429),
    Fault("429 of the day", text_error(429, "requests per day (RPD) limit reached"), F.QUOTA_EXHAUSTED, 429),
    Fault("401", text_error(401, "no"), F.KEY_INVALID, 502),
    Fault("402", text_error(402, "pay"), F.KEY_UNFUNDED, 502),
    Fault("403", text_error(403, "not for you"), F.KEY_FORBIDDEN, 502),
    Fault("redirect", respond(302, headers=[("Location", "http://169.254.169.254/latest")]), F.GARBAGE, 502),
    Fault("a page", respond(200, b"<html>hello</html>", "text/html"), F.GARBAGE, 502),
    Fault("not JSON", respond(200, b'{"choices": [', "application/json"), F.GARBAGE, 502),
    Fault("not an object", respond(200, b"[1]", "application/json"), F.GARBAGE, 502),
    Fault("not HTTP", [send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")], F.GARBAGE, 502),
    Fault("a length and chunks", [send(head(200, [*CHUNKED_JSON, length(2)]))], F.GARBAGE, 502),
    Fault("gzip unasked", respond(200, gzip.compress(b"{}"), "application/json", GZIP), F.GARBAGE, 502),
    Fault("bad chunks", [send(head(200, CHUNKED_JSON) + b"zz\r\n")], F.GARBAGE, 502),
    Fault("a length too short", whole(5, b'{"choices": []}', close()), F.GARBAGE, 502),
    Fault("a length too long", whole(500, b'{"choices": []}', close()), F.CUT_SHORT, 502),
    Fault("error inside", respond_json(200, error("boom", code=500)), F.SERVER_ERROR, 502),
    Fault("reset before the head", [reset()], F.CUT_SHORT, 502),
    Fault("end before the head", [close()], F.CUT_SHORT, 502),
    Fault("reset in the head", [send(b"HTTP/1.1 200 OK\r\nContent-Ty"), reset()], F.CUT_SHORT, 502),
    Fault("reset behind the head", [send(head(200, CHUNKED_JSON)), reset()], F.CUT_SHORT, 502),
    Fault("end in the body", [send(head(200, CHUNKED_JSON) + chunk(b'{"id":')), close()], F.CUT_SHORT, 502),
    Fault("400", text_error(400, "temperature must be a number"), F.BAD_REQUEST, 400, stops=True),
    Fault("422", text_error(422, "no such tool"), F.BAD_REQUEST, 422, stops=True),
    Fault("404 of the path", respond(404, b"404 page not found"), F.BAD_REQUEST, 404, stops=True),
    Fault("501", text_error(501, "not implemented"), F.BAD_REQUEST, 501, stops=True),
    Fault("content policy", text_error(400, "no", code="content_filter"), F.REFUSED_CONTENT, 400, stops=True),
]  # fmt: skip

STREAM_FAULTS = [
    Fault("whole answer", respond_json(200, answer("hi")), F.GARBAGE, 502),
    Fault("empty stream", stream_sse([]), F.CUT_SHORT, 502),
    Fault("only the end mark", stream_sse(["[DONE]"]), F.CUT_SHORT, 502),
    Fault("only a role", stream_sse([role_frame()]), F.CUT_SHORT, 502),
    Fault("reset behind the head of a stream", [send(head(200, SSE_HEAD)), reset()], F.CUT_SHORT, 502),
    Fault("reset behind the role", stream_sse([role_frame(), reset()]), F.CUT_SHORT, 502),
    Fault("only comments", stream_sse([b": still here\n\n"] * 3), F.CUT_SHORT, 502),
    Fault("garbage frame", stream_sse(["<html>"]), F.GARBAGE, 502),
    Fault("error frame", stream_sse([role_frame(), error("boom")]), F.SERVER_ERROR, 502),
    Fault("error frame with its code", stream_sse([error("slow down", code=429)]), F.RATE_LIMITED, 429),
    Fault("error frame of a key", stream_sse([error("no", code="401")]), F.KEY_INVALID, 502),
]
WHOLE_FAULTS = [
    Fault("a stream nobody asked for", stream_sse(said("hi")), F.GARBAGE, 502),
    Fault("reset in the body", whole(99, b"{", reset()), F.CUT_SHORT, 502),
]  # fmt: skip
CASES = [(fault, streamed) for fault in FAULTS for streamed in (False, True)]
CASES += [(fault, True) for fault in STREAM_FAULTS] + [(fault, False) for fault in WHOLE_FAULTS]


@pytest.mark.parametrize(
    ("fault", "streamed"), CASES, ids=[f"{fault.name}, {'stream' if on else 'whole'}" for fault, on in CASES]
)
async def test_a_failure_before_any_content(tmp_path, fault, streamed):
    """`a` fails and `b` answers for it; `c` fails in the same way and nobody stands behind it."""
    async with openai_engine(fault.script) as a, good() as b, openai_engine(fault.script) as c:
        nodes = {"a": node(a), "b": node(b), "c": node(c)}
        async with running_gateway(both(a, b, nodes=nodes, attempts=1), tmp_path) as gateway:
            reply = await gateway.chat("both", stream=streamed)
            entry = await gateway.entry()
            assert entry.attempts[0].outcome == fault.failure
            assert entry.attempts[0].dispatched
            counted = fault.failure in {F.SERVER_ERROR, F.CUT_SHORT, F.GARBAGE}
            assert gateway.deployment("a/openai/m").breaker.fails_in_row == counted
            assert (len(a.requests), len(b.requests)) == (1, not fault.stops)
            if not fault.stops:
                assert (reply.status, reply.text) == (200, "fine")
                assert reply.header("x-fleetgate-attempts") == "2"
                assert reply.header("x-fleetgate-deployment") == "b/openai/m"
                assert (entry.outcome, entry.deployment) == ("ok", "b/openai/m")
                assert [attempt.step for attempt in entry.attempts] == [0, 1]

            reply = await gateway.chat("c/m", stream=streamed)
            row = TABLE[fault.failure]
            assert reply.status == fault.status
            assert (reply.header("retry-after") is not None) == row.retry_after
            assert (reply.header("x-should-retry") == "false") == row.terminal
            assert reply.header("x-fleetgate-attempts") == "1"
            assert reply.header("content-type") == "application/json"
            said = reply.error
            assert said["code"] == said["class"] == fault.failure
            assert said["source"] == ("caller" if fault.stops and fault.status < 500 else "upstream")
            assert said["request_id"] == reply.header("x-request-id")
            entry = await gateway.entry(2)
            assert (entry.outcome, entry.status) == (fault.failure, fault.status)
            assert len(c.requests) == 1


# --- unsent -----------------------------------------------------------------------------------------------


async def test_a_refused_connection_opens_the_engine_and_counts_no_attempt(tmp_path):
    with refusing_port() as port:
        text = both(port, 1, nodes={"a": node(port, models=[{"name": "m"}])}, roles={})
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["class"]) == (503, F.UNSENT_REFUSED)
            assert reply.header("retry-after") is not None
            assert reply.header("x-fleetgate-attempts") == "0"
            engine = gateway.engine("a/openai")
            assert engine.breaker.phase(gateway.app.gateway.clock()) is Phase.OPEN
            assert engine.node.presence is Presence.AWAKE
            entry = await gateway.entry()
            assert [attempt.dispatched for attempt in entry.attempts] == [False]
            assert await gateway.count_logged("engine_down") == 1


async def test_the_second_engine_answers_for_one_that_refuses(tmp_path):
    with refusing_port() as port:
        async with good() as b:
            nodes = {"a": node(port, models=[{"name": "m"}]), "b": node(b)}
            async with running_gateway(both(port, b, nodes=nodes), tmp_path) as gateway:
                reply = await gateway.chat("both")
                assert (reply.status, reply.text) == (200, "fine")
                assert reply.header("x-fleetgate-attempts") == "1"


@pytest.mark.parametrize(
    ("power", "presence", "code"),
    [("always", Presence.MISSING, F.UNSENT_UNREACHABLE), ("manual", Presence.ASLEEP, "node_asleep")],
)
async def test_an_unreachable_node(tmp_path, power, presence, code):
    """An address that may never be connected to stands for a machine without a route."""
    unreachable = {"address": "169.254.7.7", **node(9, power=power, models=[{"name": "m"}])}
    async with good() as b:
        text = both(1, b, nodes={"a": unreachable, "b": node(b)})
        async with running_gateway(text, tmp_path) as gateway:
            await gateway.logged("node_presence", node="a", presence=presence)
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["code"]) == (503, code)
            assert reply.header("retry-after") is not None
            assert reply.header("x-fleetgate-attempts") == "0"
            reply = await gateway.chat("both")
            assert (reply.status, reply.text) == (200, "fine")
            assert reply.header("x-fleetgate-attempts") == "1"
            engine = gateway.engine("a/openai")
            assert engine.node.presence is presence
            opened = engine.breaker.phase(gateway.app.gateway.clock()) is not Phase.CLOSED
            assert opened == (power == "always")
            entry = await gateway.entry(2)
            assert [attempt.deployment for attempt in entry.attempts] == ["b/openai/m"]


async def test_a_black_hole_costs_one_connect_timeout(tmp_path):
    with black_hole() as port:
        async with good() as b:
            nodes = {"a": node(port, power="manual", models=[{"name": "m"}]), "b": node(b)}
            async with running_gateway(both(port, b, nodes=nodes), tmp_path) as gateway:
                reply = await gateway.chat("both")
                assert (reply.status, reply.text) == (200, "fine")
                assert (await gateway.entry()).attempts[0].outcome == F.UNSENT_UNREACHABLE
                assert gateway.engine("a/openai").node.presence is Presence.ASLEEP
                assert gateway.engine("a/openai").breaker.fails_in_row == 0
                reply = await gateway.chat("both")
                assert [one.deployment for one in (await gateway.entry(2)).attempts] == ["b/openai/m"]
                assert reply.text == "fine"


async def test_a_refused_certificate_benches_the_engine_and_alerts_once(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with openai_engine(respond_json(200, answer("never")), ssl=context) as a, good() as b:
        secret = {**provider(a), "url": f"https://localhost:{a.port}/v1"}
        text = settings(providers={"p": secret}, nodes={"b": node(b)}, roles={"both": chain("p/m", "b/m")})
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("both")
            assert (reply.status, reply.text) == (200, "fine")
            assert reply.header("x-fleetgate-attempts") == "1"
            entry = await gateway.entry()
            assert (entry.attempts[0].outcome, entry.attempts[0].dispatched) == (F.TLS_FAILED, False)
            reply = await gateway.chat("p/m")
            assert (reply.status, reply.error["class"]) == (502, F.TLS_FAILED)
            assert await gateway.count_logged("tls_failed") == 1
            wait = gateway.engine("p").breaker.opens_again_in(gateway.app.gateway.clock())
            assert 290 < wait <= 300
            assert a.requests == []


# --- effects ----------------------------------------------------------------------------------------------


async def test_three_failures_in_a_row_take_a_deployment_out(tmp_path):
    async with (
        openai_engine(text_error(500, "boom")) as a,
        good() as b,
        running_gateway(both(a, b), tmp_path) as gateway,
    ):
        for _ in range(3):
            assert (await gateway.chat("both")).status == 200
        found = await gateway.logged("deployment_cooling")
        assert (found["deployment"], found["failure"]) == ("a/openai/m", "server_error")
        assert (await gateway.chat("both")).header("x-fleetgate-attempts") == "1"
        assert (len(a.requests), len(b.requests)) == (3, 4)


async def test_two_models_of_one_engine_that_fail_open_the_engine(tmp_path):
    async with (
        openai_engine(text_error(500, "boom"), models=["m", "n"]) as a,
        running_gateway(alone(a, attempts=1), tmp_path) as gateway,
    ):
        await gateway.chat("a/m")
        assert await gateway.count_logged("engine_down") == 0
        await gateway.chat("a/n")
        await gateway.logged("engine_down", engine="a/openai")


async def test_a_missing_model_is_out_and_the_catalogue_is_read_again(tmp_path):
    async with (
        openai_engine(text_error(404, "model 'm' not found")) as a,
        good() as b,
        running_gateway(both(a, b), tmp_path) as gateway,
    ):
        assert a.probes == 1
        a.models = ("other",)
        assert (await gateway.chat("both")).text == "fine"
        await gateway.logged("model_missing", deployment="a/openai/m")
        await gateway.until(lambda: "a/openai/other" in gateway.app.fleet.deployments)
        assert a.probes == 2
        assert "a/openai/m" not in gateway.app.fleet.deployments
        reply = await gateway.chat("a/m")
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")


async def test_a_missing_model_that_is_written_stays_out_until_the_engine_lists_it(tmp_path):
    async with openai_engine(text_error(404, "model 'm' not found"), respond_json(200, answer("back"))) as a:
        a.models = ()
        nodes = {"a": node(a, models=[{"name": "m"}])}
        async with running_gateway(alone(a, nodes=nodes), tmp_path) as gateway:
            assert (await gateway.chat("a/m")).error["class"] == F.MODEL_MISSING
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["code"]) == (503, "nothing_available")
            assert reply.header("x-should-retry") == "false"
            a.models = ("m",)
            gateway.app.probes._catalogue_wanted(gateway.engine("a/openai"))
            await gateway.until(lambda: not gateway.deployment("a/openai/m").removed)
            assert (await gateway.chat("a/m")).text == "back"


async def test_a_rate_limit_lasts_as_long_as_the_provider_says(tmp_path):
    date = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
    later = date + dt.timedelta(seconds=20)
    web = "%a, %d %b %Y %H:%M:%S GMT"
    for headers, low, high in (
        ([("Retry-After", "7")], 6, 7),
        ([("Date", date.strftime(web)), ("Retry-After", later.strftime(web))], 19, 20),
        ([("retry-after-ms", "1500")], 1, 1.5),
        ([("Retry-After", "1000000000")], 290, 300),
        ([("Retry-After", "soon")], 4, 5),
        ([], 4, 5),
    ):
        limited = respond_json(429, error("slow down"), headers)
        async with openai_engine(limited) as a, good() as b:
            text = settings(
                providers={"p": provider(a), "q": provider(b)}, roles={"both": chain("p/m", "q/m")}
            )
            async with running_gateway(text, tmp_path) as gateway:
                assert (await gateway.chat("both")).text == "fine"
                account = gateway.engine("p").account
                until, failure = account.models_out["m"]
                assert failure == F.RATE_LIMITED
                assert low < until - gateway.app.gateway.clock() <= high
                assert gateway.deployment("p/m").breaker.fails_in_row == 0
                assert (await gateway.chat("both")).header("x-fleetgate-attempts") == "1"
                reply = await gateway.chat("p/m")
                assert (reply.status, reply.error["code"]) == (429, "rate_limited")
                assert low <= int(reply.header("retry-after")) <= high + 1
                assert reply.header("x-should-retry") is None
                assert len(a.requests) == 1


async def test_a_used_up_quota_is_left_alone_until_its_reset(tmp_path):
    spent = respond_json(429, error("requests per day (RPD) limit reached"), [("Retry-After", "7200")])
    async with (
        openai_engine(spent) as a,
        running_gateway(settings(providers={"p": provider(a)}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("p/m")
        assert (reply.status, reply.error["class"]) == (429, F.QUOTA_EXHAUSTED)
        assert reply.header("retry-after") == "7200"
        until, failure = gateway.engine("p").account.models_out["m"]
        assert failure == F.QUOTA_EXHAUSTED
        assert 7100 < until - gateway.app.gateway.clock() <= 7200
        await gateway.logged("quota_exhausted", account="p/1", model="m")
        reply = await gateway.chat("p/m")
        assert reply.status == 429
        assert 7100 < int(reply.header("retry-after")) <= 7200
        assert len(a.requests) == 1


@pytest.mark.parametrize(("status", "failure"), [(401, F.KEY_INVALID), (402, F.KEY_UNFUNDED)])
async def test_a_refused_key_benches_the_account_and_its_text_is_not_relayed(tmp_path, status, failure):
    script = text_error(status, f"Incorrect API key provided: {PROVIDER_KEY}")
    async with openai_engine(script) as a, good() as b:
        text = settings(
            providers={"p": provider(a, "m", "n"), "q": provider(b)},
            roles={"both": chain("p/m", "q/m")},
        )
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("p/m")
            assert (reply.status, reply.error["class"]) == (502, failure)
            assert "Incorrect" not in reply.body.decode()
            assert PROVIDER_KEY not in reply.body.decode()
            assert a.requests[0].header("authorization") == f"Bearer {PROVIDER_KEY}"
            wait = gateway.engine("p").account.benched_until - gateway.app.gateway.clock()
            assert 1790 < wait <= 1800
            reply = await gateway.chat("p/n")
            assert (reply.status, reply.error["code"]) == (503, "nothing_available")
            assert (await gateway.chat("both")).text == "fine"
            assert len(a.requests) == 1
            assert await gateway.count_logged("key_refused") == 1


async def test_a_key_that_may_not_use_a_model_still_serves_the_others(tmp_path):
    async with (
        openai_engine(text_error(403, "no access"), respond_json(200, answer("other"))) as a,
        running_gateway(settings(providers={"p": provider(a, "m", "n")}), tmp_path) as gateway,
    ):
        assert (await gateway.chat("p/m")).error["class"] == F.KEY_FORBIDDEN
        reply = await gateway.chat("p/m")
        assert reply.status == 503
        assert (await gateway.chat("p/n")).text == "other"
        assert await gateway.count_logged("key_forbidden") == 1


async def test_a_request_that_is_wrong_blames_nobody(tmp_path):
    async with (
        openai_engine(text_error(400, "temperature must be a number")) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        for _ in range(4):
            reply = await gateway.chat("a/m")
            assert reply.status == 400
            assert "temperature must be a number" in reply.error["message"]
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0
        assert len(a.requests) == 4


# --- waiting ----------------------------------------------------------------------------------------------

LOADING = respond_json(503, error("Loading model"), [("retry-after-ms", "20")])
FULL = respond_json(503, error("Server busy: maximum pending requests exceeded"), [("retry-after-ms", "20")])


@pytest.mark.parametrize(("script", "failure"), [(LOADING, F.LOADING), (FULL, F.FULL)])
async def test_the_only_candidate_is_waited_for(tmp_path, script, failure):
    async with (
        openai_engine(script, script, script, script, respond_json(200, answer("there"))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        reply = await gateway.chat("a/m")
        assert (reply.status, reply.text) == (200, "there")
        assert reply.header("x-fleetgate-attempts") == "1"
        entry = await gateway.entry()
        assert [one.outcome for one in entry.attempts] == [failure] * 4 + ["ok"]
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0


async def test_a_full_engine_that_stays_full(tmp_path):
    full = respond_json(503, error("Server busy: maximum pending requests exceeded"))
    async with (
        openai_engine(full) as a,
        running_gateway(alone(a, gateway={"wait": "50ms"}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("a/m")
        assert (reply.status, reply.error["class"]) == (503, F.FULL)
        assert reply.header("retry-after") is not None
        assert reply.header("x-should-retry") is None


@pytest.mark.parametrize(("script", "failure"), [(LOADING, F.LOADING), (FULL, F.FULL)])
async def test_another_candidate_of_the_pool_answers_meanwhile(tmp_path, script, failure):
    async with (
        openai_engine(script) as a,
        good() as b,
        running_gateway(both(a, b, routing="spread"), tmp_path) as gateway,
    ):
        for _ in range(2):
            assert (await gateway.chat("m")).text == "fine"
        assert len(a.requests) == 1
        outcomes = {one.outcome for entry in gateway.entries for one in entry.attempts}
        assert outcomes == {failure, "ok"}


@pytest.mark.parametrize("script", [LOADING, FULL])
async def test_the_next_step_answers_when_the_wait_is_over(tmp_path, script):
    async with (
        openai_engine(script) as a,
        good() as b,
        running_gateway(both(a, b, gateway={"wait": "50ms"}), tmp_path) as gateway,
    ):
        assert (await gateway.chat("both")).text == "fine"


# --- context, content, and steps that name what leads into them -----------------------------------------

TOO_LONG = text_error(400, "This model's maximum context length is 10 tokens", code="context_length_exceeded")


async def test_a_prompt_that_is_too_long_goes_where_more_fits(tmp_path):
    async with openai_engine(TOO_LONG) as a, good() as b, good() as c:
        nodes = {
            "a": node(a, models=[{"name": "m", "context": 1000}]),
            "b": node(b, models=[{"name": "m", "context": 1000}]),
            "c": node(c, models=[{"name": "m", "context": 2000}]),
        }
        roles = {"small": chain("a/m", "b/m"), "large": chain("a/m", "b/m", "c/m")}
        async with running_gateway(settings(nodes=nodes, roles=roles), tmp_path) as gateway:
            reply = await gateway.chat("small")
            assert (reply.status, reply.error["class"]) == (400, F.CONTEXT_TOO_LONG)
            assert reply.error["source"] == "caller"
            assert b.requests == []
            reply = await gateway.chat("large")
            assert reply.text == "fine"
            assert reply.header("x-fleetgate-deployment") == "c/openai/m"
            assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0


@pytest.mark.parametrize(
    ("script", "on"),
    [
        (text_error(400, "no", code="content_policy_violation"), "refused_content"),
        (text_error(400, "no such option"), "bad_request"),
    ],
)
async def test_a_step_may_ask_for_what_otherwise_stops(tmp_path, script, on):
    async with (
        openai_engine(script) as a,
        good() as b,
        running_gateway(both(a, b, second={"on": [on]}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("both")
        assert (reply.status, reply.text) == (200, "fine")


@pytest.mark.parametrize("tries", [1, 2])
async def test_what_ended_a_step_leads_on_also_when_nobody_was_left_in_it(tmp_path, tries):
    """After a refused key there is no second try: the step that asks for this class is reached."""
    async with openai_engine(text_error(401, "no")) as a, good() as b:
        first, second = {"tries": tries}, {"on": ["key_invalid"]}
        async with running_gateway(both(a, b, first=first, second=second), tmp_path) as gateway:
            assert (await gateway.chat("both")).text == "fine"


async def test_a_step_with_on_is_passed_over_by_other_failures(tmp_path):
    async with openai_engine(text_error(500, "boom")) as a, good("b") as b, good("c") as c:
        nodes = {"a": node(a), "b": node(b), "c": node(c)}
        roles = {"r": chain("a/m", {"pool": "b/m", "on": ["context_too_long"]}, "c/m")}
        async with running_gateway(settings(nodes=nodes, roles=roles), tmp_path) as gateway:
            reply = await gateway.chat("r")
            assert reply.text == "c"
            assert b.requests == []


async def test_a_fault_of_our_own_is_recorded_as_one(tmp_path, monkeypatch):
    def boom(*_, **__):
        raise RuntimeError("a mistake of ours")

    async with good() as a, running_gateway(alone(a), tmp_path) as gateway:
        gateway.faults = frozenset()
        monkeypatch.setattr("fleetgate.gateway.exchange.task_of", boom)
        reply = await gateway.chat("a/m")
        assert (reply.status, reply.error["code"]) == (500, "internal_error")
        assert (await gateway.entry()).outcome == "internal_error"
        assert gateway.app.gateway.bodies.held == 0
