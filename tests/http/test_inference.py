"""What `/v1/models` lists, over the wire: written names, discovered ones, names of steps."""

import pytest
from tests.support.gateway import answer, chain, node, openai_engine, running_gateway, settings
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("catalogue", "listed"),
    [
        (None, ["chat", "default", "middle"]),
        ("written", ["chat", "default", "middle"]),
        ("all", ["chat", "default", "middle", "m", "n"]),
    ],
)
async def test_names_that_are_listed_can_be_asked_for(tmp_path, catalogue, listed):
    async with openai_engine(respond_json(200, answer("hi")), models=["m", "n"]) as engine:
        text = settings(
            gateway={"catalogue": catalogue} if catalogue else {},
            nodes={"box": node(engine)},
            roles={"chat": chain("box/m", {"pool": "box/n", "as": "middle"})},
            aliases={"default": "chat"},
        )
        async with running_gateway(text, tmp_path) as gateway:
            for path in ("/v1/models", "/models"):
                document = (await gateway.get(path)).json()
                assert document["object"] == "list"
                assert [row["id"] for row in document["data"]] == listed
            for name in (*listed, "box/m", "box/openai/m"):
                assert (await gateway.get(f"/v1/models/{name}")).json()["id"] == name
                assert (await gateway.chat(name)).text == "hi"
            asked = [request.json()["model"] for request in engine.requests]
            assert asked[listed.index("middle")] == "n"


async def test_without_a_written_name_everything_is_listed(tmp_path):
    async with (
        openai_engine(models=["b", "a"]) as engine,
        running_gateway(settings(nodes={"box": node(engine)}), tmp_path) as gateway,
    ):
        rows = (await gateway.get("/v1/models")).json()["data"]
        assert [(row["id"], row["owned_by"]) for row in rows] == [
            ("a", "fleetgate:pool"),
            ("b", "fleetgate:pool"),
        ]
