import pytest
from tests.support.live import read_settings

from fleetgate.config.names import USUAL_PORTS
from fleetgate.domain import Capability, Power
from fleetgate.engines.kinds import KINDS
from fleetgate.fleet.build import AccountPlan, plans, power_of, read_url


def plans_of(text, **environ):
    return {plan.id: plan for plan in plans(read_settings(text, **environ), KINDS)}


def test_engines_are_named_by_kind_and_port_and_their_own_name():
    found = plans_of("""
nodes:
  box:
    address: 10.0.0.1
    engines:
      - {kind: ollama}
      - {kind: llamacpp, port: 8080}
      - {kind: llamacpp, port: 8081}
      - {kind: vllm, name: big, port: 9000}
""")
    assert list(found) == ["box/ollama", "box/llamacpp-8080", "box/llamacpp-8081", "box/big"]
    assert [plan.target.port for plan in found.values()] == [11434, 8080, 8081, 9000]
    assert all(plan.local for plan in found.values())
    assert [plan.accounts for plan in found.values()] == [(AccountPlan(plan_id, None),) for plan_id in found]


@pytest.mark.parametrize(
    ("address", "seconds"),
    [("10.0.0.1", 2.0), ("100.64.1.2", 3.0), ("box.tail1.ts.net", 3.0), ("box.local", 2.0)],
)
def test_overlays_get_longer_to_connect(address, seconds):
    (plan,) = plans_of(f"nodes: {{box: {{address: {address}, engines: [{{kind: ollama}}]}}}}").values()
    assert plan.target.connect_timeout == seconds
    assert plan.target.idle_expiry == 4.0


def test_several_addresses_of_one_machine_stay_in_order():
    (plan,) = plans_of("nodes: {box: {address: [10.0.0.1, 100.64.1.2], engines: [{kind: ollama}]}}").values()
    assert plan.target.hosts == ("10.0.0.1", "100.64.1.2")


def test_an_ipv6_address_may_stand_in_brackets():
    (plan,) = plans_of("nodes: {box: {address: '[fd00::1]', engines: [{kind: ollama}]}}").values()
    assert plan.target.hosts == ("fd00::1",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_and_the_kind_agree_on_the_usual_port(kind):
    assert USUAL_PORTS[kind] == KINDS[kind].ports[0]


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "root", "versioned"),
    [
        ("http://10.0.0.1:5100/v1", "10.0.0.1", 5100, False, "", True),
        ("http://10.0.0.1:5100", "10.0.0.1", 5100, False, "", True),
        ("https://llm.example.net/v1/", "llm.example.net", 443, True, "", True),
        ("https://llm.example.net/openai/v1", "llm.example.net", 443, True, "/openai", True),
        ("https://llm.example.net/v1beta/openai", "llm.example.net", 443, True, "/v1beta/openai", False),
        ("http://[fd00::1]:8000/v1", "fd00::1", 8000, False, "", True),
    ],
)
def test_urls(url, host, port, tls, root, versioned):
    target, prefix, has_version = read_url(url, None)
    assert (target.hosts, target.port, target.tls) == ((host,), port, tls)
    assert (prefix, has_version) == (root, versioned)
    assert target.idle_expiry == (55.0 if tls else 4.0)


def test_a_provider_is_always_on_and_its_models_are_prefixed_with_its_name():
    text = """
providers:
  cloud: {kind: openai, url: "https://llm.example.net/v1", key: "${KEY}", models: [{id: big-2, name: big}]}
"""
    (plan,) = plans_of(text, KEY="secret-secret").values()
    assert (plan.id, plan.prefix, plan.local) == ("cloud", "cloud", False)
    assert plan.accounts == (AccountPlan("cloud/1", "secret-secret"),)
    assert "secret-secret" not in repr(plan)
    assert [(model.id, model.name) for model in plan.models] == [("big-2", "big")]
    assert plan.target.connect_timeout == 5.0
    assert power_of(read_settings(text, KEY="secret-secret"), "cloud") is Power.ALWAYS


@pytest.mark.parametrize("environ", [{}, {"KEY": "changeme"}])
def test_a_provider_without_a_key_is_there_and_unconfigured(environ):
    text = """
providers: {cloud: {kind: openai, url: "https://llm.example.net/v1", key: "${KEY}", models: [{id: m}]}}
"""
    (plan,) = plans_of(text, **environ).values()
    assert [account.configured for account in plan.accounts] == [False]


def test_a_planned_node_has_no_plans():
    assert (
        plans_of("nodes: {later: {planned: true, address: TO_BE_CONFIGURED, engines: [{kind: ollama}]}}")
        == {}
    )


def test_what_is_written_about_models_is_kept_and_the_rest_is_unknown():
    text = """
nodes:
  box:
    engines:
      - {kind: vllm, slots: 4, health: {fails: 1, cool: 60s}, transport: general,
         models: [{id: bge, does: [embed], dimensions: 768, space: s, context: 512, aliases: [b]}, {name: x}]}
"""
    (plan,) = plans_of(text).values()
    known, bare = plan.models
    assert known.does == {Capability.EMBED}
    assert (known.dimensions, known.space, known.context, known.aliases) == (768, "s", 512, ("b",))
    assert (bare.id, bare.does, bare.context, bare.digest) == ("x", None, None, None)
    assert (plan.slots, plan.transport, plan.health.fails, plan.health.cool) == (4, "general", 1, 60.0)


def test_an_engine_without_written_models_is_to_be_discovered():
    (plan,) = plans_of("nodes: {box: {engines: [{kind: ollama}]}}").values()
    assert plan.models is None
