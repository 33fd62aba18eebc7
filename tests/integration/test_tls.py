"""Engines behind TLS: trusted by the file that is named, or by what the system trusts."""

import ssl

import pytest
import trustme
from tests.gateway.pairs import replies
from tests.support.gateway import gateway_process, openai_engine, running_gateway, settings

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    """The engine's side, for 127.0.0.1."""
    side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(side)
    return side


def behind_tls(engine, **members):
    url = f"https://127.0.0.1:{engine.port}/v1"
    return settings(nodes={"box": {"engines": [{"kind": "openai", "url": url, **members}]}})


async def answers(gateway):
    for stream in (False, True):
        reply = await gateway.chat("m", stream=stream)
        assert (reply.status, reply.complete, reply.text) == (200, True, "fine")


async def test_an_authority_named_for_one_engine(tmp_path, authority, tls):
    """Its models are found, and it answers whole and streamed. The path starts at the file's directory."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with (
        openai_engine(route=replies(), ssl=tls) as engine,
        running_gateway(behind_tls(engine, ca="ca.pem"), tmp_path) as gateway,
    ):
        assert gateway.engine("box/openai").alive is True
        await answers(gateway)


async def test_what_the_system_trusts(tmp_path, authority, tls):
    authority.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    environ = {"SSL_CERT_FILE": str(tmp_path / "system.pem")}
    async with (
        openai_engine(route=replies(), ssl=tls) as engine,
        gateway_process(behind_tls(engine), tmp_path, environ) as gateway,
    ):
        await answers(gateway)


async def test_whom_nobody_trusts_is_not_spoken_to(tmp_path, tls):
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with (
        openai_engine(route=replies(), ssl=tls) as engine,
        running_gateway(behind_tls(engine, ca="ca.pem", models=[{"name": "m"}]), tmp_path) as gateway,
    ):
        reply = await gateway.chat("m")
        assert reply.status in (502, 503)
        assert "certificate" in reply.error["message"]
        assert engine.requests == []
        assert engine.probes == 0
