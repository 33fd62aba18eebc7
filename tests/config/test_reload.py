from fleetgate.config.load import load
from fleetgate.config.reload import Apply, Hold, Reject, decide

BASE = """\
nodes:
  box:
    address: box
    engines:
      - {kind: llamacpp, port: 1, models: [{name: a}, {name: b}]}
      - {kind: llamacpp, port: 2, models: [{name: a}]}
      - {kind: vllm}
providers:
  openai: {key: "${K}", models: [{id: x}], limits: [{requests: 10, per: day}]}
limits:
  - {scope: global, parallel: 14}
  - {scope: {role: r}, money: 100 USD, per: month}
"""
ENVIRON = {"K": "long-private-key"}


def judge(before, after, *, confirmed=False, environ=None):
    old = load(before, ENVIRON).settings
    assert old is not None
    return decide(old, load(after, environ or ENVIRON), confirmed=confirmed)


def test_no_change_is_applied_with_nothing_to_do():
    assert judge(BASE, BASE) == Apply(load(BASE, ENVIRON).settings, ())


def test_changes_are_named():
    decision = judge(BASE, BASE.replace("address: box", "address: box2") + "attempts: 2\n")
    assert isinstance(decision, Apply)
    assert decision.changes == ("attempts", "nodes.box.address")


def test_a_changed_secret_is_a_change():
    assert judge(BASE, BASE, environ={"K": "another-private-key"}).changes == ("providers.openai.key",)


def test_errors_are_rejected_with_their_findings():
    decision = judge(BASE, BASE + "nonsense: 1\n")
    assert isinstance(decision, Reject)
    assert decision.reason == "the new configuration has 1 error"
    assert decision.findings[0].path == "nonsense"


def test_a_restart_setting_is_rejected_even_when_confirmed():
    decision = judge(BASE, BASE + "gateway: {listen: 127.0.0.1:5000, drain: 1s}\n", confirmed=True)
    assert decision == Reject("gateway.listen can only change with a restart")


def test_a_truncated_file_is_held_until_confirmed():
    cut = BASE[: BASE.index("limits:\n")]
    decision = judge(BASE, cut)
    assert isinstance(decision, Hold)
    assert decision.reason.startswith("it drops 2 limits: ")
    assert isinstance(judge(BASE, cut, confirmed=True), Apply)


def test_a_limit_may_change_its_height_but_not_go():
    assert isinstance(judge(BASE, BASE.replace("14", "20").replace("100 USD", "50 USD")), Apply)
    assert isinstance(judge(BASE, BASE.replace("per: month", "per: day")), Hold)
    assert isinstance(judge(BASE, BASE.replace(", limits: [{requests: 10, per: day}]", "")), Hold)


def test_a_third_of_the_deployments_may_go_and_not_more():
    # five deployments: box/llamacpp-1/a and b, box/llamacpp-2/a, box/vllm/*, openai/x
    one = BASE.replace(", {name: b}", "")
    assert isinstance(judge(BASE, one), Apply)
    two = one.replace("      - {kind: vllm}\n", "")
    decision = judge(BASE, two)
    assert isinstance(decision, Hold)
    assert decision.reason == "it drops 2 of 5 deployments: box/llamacpp-1/b, box/vllm/*"


NAMED = """\
nodes: {a: {engines: [{kind: ollama}]}}
roles:
  r: {use: [m]}
  s: {use: [m]}
"""


def test_a_file_cut_behind_its_machines_is_held():
    cut = NAMED.partition("roles")[0]
    decision = judge(NAMED, cut)
    assert isinstance(decision, Hold)
    assert "2 of 2 written names" in decision.reason
    assert isinstance(judge(NAMED, cut, confirmed=True), Apply)


def test_one_role_may_be_taken_out():
    assert isinstance(judge(NAMED, NAMED.replace("  s: {use: [m]}\n", "")), Apply)


def test_engines_count_by_themselves():
    many = (
        "nodes: {a: {address: a, engines: [{kind: vllm, models: [%s]}, {kind: ollama, models: [{id: z}]}]}}"
    )
    models = ", ".join(f"{{id: m{n}}}" for n in range(9))
    after = (many % models).replace(", {kind: ollama, models: [{id: z}]}", "")
    assert judge(many % models, after) == Hold("it drops 1 of 2 engines: a/ollama")


def test_an_empty_file_is_held():
    assert isinstance(judge(BASE, ""), Hold)


def test_the_first_machines_are_applied_at_once():
    assert isinstance(judge("", BASE), Apply)
