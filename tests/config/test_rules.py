"""Rules about requests in the file: what can be written, and what is said of mistakes."""

import pytest

from fleetgate.config.load import load


def told(
    tmp_path,
    rules,
    at="providers: {p: {kind: openai, url: 'https://llm.example.net/v1', key: '${K}', rules: RULES}}",
):
    file = tmp_path / "c.yaml"
    file.write_text(at.replace("RULES", rules) + "\n")
    loaded = load(file, {"K": "a-key-of-this-house"})
    return loaded, [one.render().partition("rules")[2] for one in loaded.errors]


def test_every_kind_of_rule(tmp_path):
    rules = """[{drop: logit_bias}, {rename: max_tokens, to: max_completion_tokens},
      {clamp: temperature, to: 1}, {map: reasoning_effort, values: {minimal: low}},
      {reject: n, why: one is enough, models: "gpt-*"}, {keep: seed}, {drop: "messages[].name"}]"""
    loaded, errors = told(tmp_path, rules)
    assert errors == []
    found = loaded.settings.providers["p"].rules
    assert [(one.deed, one.member) for one in found] == [
        ("drop", "logit_bias"),
        ("rename", "max_tokens"),
        ("clamp", "temperature"),
        ("map", "reasoning_effort"),
        ("reject", "n"),
        ("keep", "seed"),
        ("drop", "messages[].name"),
    ]
    assert (found[2].to, found[4].models) == (1.0, ("gpt-*",))


def test_engines_have_them_too(tmp_path):
    loaded, errors = told(
        tmp_path, "[{drop: seed}]", "nodes: {box: {engines: [{kind: ollama, rules: RULES}]}}"
    )
    assert errors == []
    assert loaded.settings.nodes["box"].engines[0].rules[0].member == "seed"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{}", "[0]: a rule does one thing; write one of drop, rename, clamp, map, reject, keep"),
        ("{drop: a, reject: b}", "[0]: a rule does one thing; write one of"),
        ("{drop: model}", "[0].drop: model is what the request is about; no rule may change it"),
        ("{rename: stream, to: s}", "[0].rename: stream is what the request is about"),
        ("{reject: messages}", "[0].reject: messages is what the request is about"),
        ("{rename: seed, to: prompt}", "prompt is what the request is about"),
        (
            "{drop: a.b}",
            "[0].drop: 'a.b' is no name of a member; write one such as logit_bias or messages[].name",
        ),
        (
            '{clamp: "messages[].a", to: 1}',
            "[0]: members of messages can be dropped or kept; clamp is for the others",
        ),
        ("{rename: a}", "[0]: rename needs the other name: {rename: max_tokens, to: max_completion_tokens}"),
        ("{rename: a, to: 3}", "[0]: rename needs the other name"),
        ("{clamp: a}", "[0]: clamp needs the most that is sent: {clamp: temperature, to: 1.0}"),
        ("{clamp: a, to: much}", "[0]: clamp needs the most that is sent"),
        ("{drop: a, to: b}", "[0]: `to` is for rename and clamp; remove it"),
        ("{map: a}", "[0]: map and `values` go together"),
        ("{drop: a, values: {b: c}}", "[0]: map and `values` go together"),
        ("{dropp: a}", "[0].dropp: "),
    ],
)
def test_mistakes_are_said_where_they_are(tmp_path, rule, said):
    loaded, errors = told(tmp_path, f"[{rule}]")
    assert loaded.settings is None
    assert any(text.startswith(said) or said in text for text in errors), errors
