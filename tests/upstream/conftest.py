"""Every test of the transports runs on both event loops: plain asyncio, and uvloop as in production."""

import asyncio
import socket

import pytest_asyncio
import uvloop

from fleetgate.upstream.dial import Dialler
from fleetgate.upstream.general import GeneralTransport
from fleetgate.upstream.lean import LeanTransport


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def resolve(host, port):
    """A resolver that needs no network."""
    if host == "engine.test":
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]
    if host == "cloud.test":
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("169.254.169.254", port))]
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest_asyncio.fixture(params=[GeneralTransport, LeanTransport], ids=["general", "lean"])
async def transport(request):
    transport = request.param(Dialler(resolve))
    yield transport
    await transport.close()
