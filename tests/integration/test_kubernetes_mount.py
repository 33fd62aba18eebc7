"""A configuration and a secret in a volume of Kubernetes: a swap of `..data` takes effect by itself."""

import os

import pytest
from tests.support.gateway import answer, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


def fill(directory, files):
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
        os.utime(directory / name, ns=(1, 1))  # nothing but the link tells them apart


@pytest.mark.asyncio
async def test_a_swapped_volume_is_applied(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as engine:
        far = provider(engine, key="${file:key}")
        one = settings(providers={"far": far}, aliases={"a": "far/m"})
        two = settings(providers={"far": far}, aliases={"b": "far/m"})
        fill(tmp_path / "..one", {"config.yaml": "", "key": FIRST})
        (tmp_path / "..data").symlink_to("..one")
        for name in ("config.yaml", "key"):
            (tmp_path / name).symlink_to(f"..data/{name}")
        async with running_gateway(one, tmp_path) as gateway:
            assert gateway.config.is_symlink()
            assert (await gateway.chat("a")).text == "hi"

            fill(tmp_path / "..two", {"config.yaml": two, "key": SECOND})
            (tmp_path / "..fresh").symlink_to("..two")
            (tmp_path / "..fresh").replace(tmp_path / "..data")
            line = await gateway.logged("reloaded")
            assert line["changes"] == ["providers.far.key", "aliases.a", "aliases.b"]
            assert (await gateway.chat("b")).text == "hi"
            assert (await gateway.chat("a")).status == 404
        used = [request.header("authorization") for request in engine.requests]
        assert used == [f"Bearer {FIRST}", f"Bearer {SECOND}"]
