import pytest

from fleetgate.config.names import Address, engine_addresses, engine_names, seen_from_here, url_address
from fleetgate.config.schema import Engine, Node


def test_default_names_of_engines():
    node = Node(engines=(Engine(kind="llamacpp", port=1), Engine(kind="llamacpp"), Engine(kind="vllm"),
                         Engine(kind="vllm", name="big")))  # fmt: skip
    assert engine_names(node) == ("llamacpp-1", "llamacpp-8080", "vllm", "big")


def test_addresses_of_engines():
    node = Node(address=("10.0.0.1", "[fd00::1]"))
    assert engine_addresses(node, Engine(kind="ollama")) == (
        Address("10.0.0.1", 11434),
        Address("fd00::1", 11434),
    )
    assert engine_addresses(node, Engine(kind="vllm", url="https://x/v1")) == (Address("x", 443),)
    assert str(Address("fd00::1", 1)) == "[fd00::1]:1"


@pytest.mark.parametrize(
    ("listen", "seen"),
    [
        ("127.0.0.1:4000", "127.0.0.1:4000"),
        ("0.0.0.0:4000", "127.0.0.1:4000"),
        (":4000", "127.0.0.1:4000"),
        ("[::]:4000", "[::1]:4000"),
        ("[fd00::1]:4000", "[fd00::1]:4000"),
        ("100.64.0.1:4000", "100.64.0.1:4000"),
    ],
)
def test_where_a_caller_of_this_host_finds_it(listen, seen):
    assert seen_from_here(listen) == seen


@pytest.mark.parametrize("url", ["x", "ftp://x", "http://", "http://x:99999", "http://["])
def test_what_is_no_url(url):
    with pytest.raises(ValueError):
        url_address(url)
