"""What `fleetgate up` makes of this machine without a configuration."""

from types import SimpleNamespace

import pytest
from tests.support.gateway import openai_engine

from fleetgate.cli.run import HERE, Discovery
from fleetgate.config.schema import Settings
from fleetgate.upstream.transports import Transports

pytestmark = pytest.mark.asyncio


async def test_an_engine_that_was_found_once_stays(tmp_path):
    """Silent is down, not unknown; and what starts later joins."""
    app = SimpleNamespace(transports=Transports())

    async def found(discovery):
        settings = await discovery.settings(app)
        return [engine.port for engine in settings.nodes[HERE].engines]

    try:
        async with openai_engine() as later, openai_engine() as first:
            ports = (first.port, later.port)
            discovery = Discovery(Settings(), tmp_path, with_demo=False, ports=ports[:1])
            assert await found(discovery) == [first.port]
            discovery._ports = ports
            assert await found(discovery) == list(ports)
        assert await found(discovery) == list(ports)
    finally:
        await app.transports.close()
