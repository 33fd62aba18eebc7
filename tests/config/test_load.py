from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate.config.findings import Document, Positions
from fleetgate.config.load import is_litellm, load

REFERENCE = Path(__file__).parents[2] / "examples" / "reference.yaml"


def said(text, environ=None, *, severity="error", **options):
    loaded = load(text, environ or {}, **options)
    return [found.render() for found in loaded.findings if found.severity == severity]


def test_the_reference_passes_without_errors():
    loaded = load(REFERENCE, {})
    assert loaded.errors == ()
    assert loaded.settings is not None
    assert loaded.settings.nodes["box"].engines[1].port == 8081
    assert loaded.settings.roles["resilient"].use[1].first_token == 120.0
    assert loaded.settings.gateway.drain == 300.0
    warned = {found.path for found in loaded.findings if found.severity == "warning"}
    assert warned == {
        "providers.openai.key", "providers.groq.keys[0]", "providers.groq.keys[1]", "providers.anthropic.key",
        "providers.reseller.key",
    }  # fmt: skip


def test_no_configuration_is_a_configuration():
    loaded = load(None, {})
    assert loaded.settings is not None
    assert loaded.findings == ()
    assert loaded.settings.gateway.listen == ("127.0.0.1:4000",)


def test_all_problems_are_told_at_once_with_their_places():
    text = """\
gateway:
  lisen: 127.0.0.1:1
  drain: 30
nodes:
  box:
    address: [TO_BE_CONFIGURED]
    engines:
      - {kind: olama, port: 99999}
roles:
  a: {use: []}
providers: {openai: {key: sk-1234, keyz: x}}
aliases: {a: [b]}
"""
    loaded = load(text, {})
    assert loaded.settings is None
    assert [
        f"{found.line}:{found.column} {found.message}; {found.hint}"[:60] for found in loaded.findings
    ] == [
        "2:3 unknown key lisen; did you mean listen?",
        "3:10 30 has no unit; write a duration with its unit, such as",
        "6:15 a placeholder is left in (TO_BE_CONFIGURED); write the ",
        "8:16 'olama' is not known here; did you mean ollama?",
        "8:29 is not at most 65535; write at most 65535",
        "10:12 is empty; at least 1 is needed",
        "11:36 unknown key keyz; did you mean key?",
        "12:14 is a list; write a text",
        "11:27 a well-known key; choose one that nobody can guess",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gatway: {}", "<text>:1:1: gatway: unknown key gatway; did you mean gateway?"),
        (
            "gateway: {master_key: x}",
            "<text>:1:11: gateway.master_key: unknown key master_key; the master key comes from FLEETGATE_",
        ),
        ("nodes: {a: {engines: [{port: 1}]}}", "<text>:1:23: nodes.a.engines[0]: kind is missing; add kind:"),
        ("attempts: many", "<text>:1:11: attempts: is a text; write a whole number"),
        ("health: {fails: 1.5}", "<text>:1:17: health.fails: is a number; write a whole number"),
        (
            "gateway: 4",
            "<text>:1:10: gateway: is a number; write a map below gateway with listen, base_path,",
        ),
        ("nodes: [a]", "<text>:1:8: nodes: is a list; write a map of names"),
        ("- a", "<text>:1:1: the file is a list; write a map of settings, such as nodes:"),
        ("routing: quick", "<text>:1:10: routing: 'quick' is not known here; write one of least_busy"),
        ("a: 1\na: 2", "<text>:2:1: a: this key was already written at 1:1; keep one of them"),
        (
            "providers: {openai: {key: os.environ/OPENAI_API_KEY}}",
            "<text>:1:27: providers.openai.key: 'os.environ/OPENAI_API_KEY' is the form of LiteLLM's files;",
        ),
        (
            "roles: {a: {use: [x], deadline: 0}}",
            "<text>:1:33: roles.a.deadline: is not more than 0; write more",
        ),
        ("gateway: {drain: [5s]}", "<text>:1:18: gateway.drain: a list is not a quantity; write a duration"),
    ],
)
def test_what_is_wrong_and_what_would_be_right(text, line):
    assert any(found.startswith(line) for found in said(text)), said(text)


def test_empty_values_count_as_not_written():
    loaded = load("providers:\nnodes:\ngateway:\n  listen:\n", {})
    assert loaded.findings == ()
    assert loaded.settings == load(None, {}).settings


def test_a_secret_on_the_wrong_line_is_not_repeated():
    text = "providers:\n  openai: sk-private-text\n  groq: {keys: sk-private-text, sk-private-text}\n"
    loaded = load(text, {})
    assert loaded.errors
    assert all("sk-private-text" not in f"{found.message}{found.hint}" for found in loaded.findings[:2])


def test_what_was_loaded_does_not_print_secrets():
    loaded = load("providers: {openai: {key: sk-private-text}}", {"OTHER": "sk-private-text"})
    assert loaded.settings is not None
    assert "sk-private-text" not in repr(loaded)


def test_flag_over_environment_over_file_over_default():
    text = "gateway: {listen: 127.0.0.1:1}"

    def listen(environ, flags=None, text=text):
        loaded = load(text, environ, flags=flags)
        (origin,) = [row for row in loaded.origins if row.path == "gateway.listen"]
        return loaded.settings.gateway.listen, origin.origin

    environ = {"FLEETGATE_LISTEN": "127.0.0.1:2, 127.0.0.1:3"}
    flags = {"gateway.listen": ("127.0.0.1:4",)}
    assert listen(environ, flags) == (("127.0.0.1:4",), "flag gateway.listen")
    assert listen(environ) == (("127.0.0.1:2", "127.0.0.1:3"), "env FLEETGATE_LISTEN")
    assert listen({}) == (("127.0.0.1:1",), "<text>:1")
    assert listen({}, text="") == (("127.0.0.1:4000",), "default")


def test_secrets_come_from_the_given_environment_and_from_files(tmp_path):
    (tmp_path / "key").write_text("file-key-text")
    config = tmp_path / "config.yaml"
    config.write_text('providers:\n  openai: {key: "${K}"}\n  groq: {key: "${file:key}"}\n')
    loaded = load(config, {"K": "env-key-text"})
    assert loaded.findings == ()
    assert loaded.settings.providers["openai"].key.reveal() == "env-key-text"
    assert loaded.settings.providers["groq"].key.reveal() == "file-key-text"
    assert set(loaded.sources) == {config, tmp_path / "key"}
    shown = " ".join(f"{row.value}" for row in loaded.origins)
    assert "key-text" not in shown


def test_the_fingerprint_covers_every_file_that_was_read(tmp_path):
    config, part, key = tmp_path / "config.yaml", tmp_path / "part.yaml", tmp_path / "key"
    config.write_text('include: part.yaml\nproviders: {openai: {key: "${file:key}"}}')
    part.write_text("attempts: 2")
    key.write_text("one-private-key")
    seen = {load(config, {}).fingerprint}
    assert load(config, {}).fingerprint in seen
    for path, text in ((key, "another-private-key"), (part, "attempts: 4"), (config, "include: part.yaml")):
        path.write_text(text)
        fingerprint = load(config, {}).fingerprint
        assert fingerprint not in seen
        seen.add(fingerprint)
    part.unlink()
    loaded = load(config, {})
    assert loaded.fingerprint not in seen
    assert part in loaded.sources


def test_overlays_and_includes_merge_with_places_kept(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "include: [low.yaml]\nnodes: {a: {address: 10.0.0.1}}\nattempts: 2\n"
    )
    (tmp_path / "low.yaml").write_text(
        "attempts: 9\nnodes:\n  a: {power: manual}\n  b: {address: 10.0.0.2}\n"
    )
    (tmp_path / "site.yaml").write_text("nodes: {a: {adress: 10.0.0.3}}\n")
    loaded = load(tmp_path / "config.yaml", {}, [tmp_path / "site.yaml"])
    assert [found.render() for found in loaded.errors] == [
        f"{tmp_path / 'site.yaml'}:1:13: nodes.a.adress: unknown key adress; did you mean address?"
    ]
    (tmp_path / "site.yaml").write_text("nodes: {a: {address: 10.0.0.3}}\n")
    loaded = load(tmp_path / "config.yaml", {}, [tmp_path / "site.yaml"])
    assert loaded.settings.attempts == 2
    assert loaded.settings.nodes["a"].address == ("10.0.0.3",)
    assert loaded.settings.nodes["a"].power == "manual"
    assert loaded.settings.nodes["b"].address == ("10.0.0.2",)
    origin = {row.path: row.origin for row in loaded.origins}
    assert origin["nodes.a.power"] == f"{tmp_path / 'low.yaml'}:3"
    assert origin["nodes.a.address"] == f"{tmp_path / 'site.yaml'}:1"
    assert origin["attempts"] == f"{tmp_path / 'config.yaml'}:3"


def test_a_missing_overlay_is_an_error(tmp_path):
    assert "no such file" in said("attempts: 2", overlays=[tmp_path / "none.yaml"])[0]


LITELLM = "model_list:\n  - model_name: a\n    litellm_params: {model: openai/x, drop: no}\n"


def test_a_litellm_file_is_recognised_and_converted():
    assert is_litellm({"model_list": None})
    assert not is_litellm({"nodes": {}})
    assert not is_litellm(None)
    assert said(LITELLM)[0].startswith(
        "<text>:1:1: model_list: this is a LiteLLM configuration; this command reads only native"
    )

    def convert(document, environ):
        # Typing rules of YAML 1.1 were used for it.
        assert document.tree["model_list"][0]["litellm_params"]["drop"] is False
        assert environ == {"A": "1"}
        place = document.positions.at(("model_list", 0))
        native = {"providers": {"openai": {"key": "${FROM_FILE}", "modles": []}}}
        keys = {("providers", "openai", "modles"): place}
        return Document(native, Positions({(): place}, keys), environ={"FROM_FILE": "a-long-private-key"})

    loaded = load(LITELLM, {"A": "1"}, convert=convert)
    assert loaded.litellm
    assert [found.render() for found in loaded.errors] == [
        "<text>:2:5: providers.openai.modles: unknown key modles; did you mean models?"
    ]


REFERENCE_LINES = REFERENCE.read_text(encoding="utf-8").splitlines(keepends=True)


def whole_or_nothing(text):
    loaded = load(text, {})
    assert (loaded.settings is None) == bool(loaded.errors)
    assert bool(loaded.origins) == (loaded.settings is not None)
    assert all(found.severity in {"error", "warning", "note"} for found in loaded.findings)
    assert all("\n" not in found.render() for found in loaded.findings)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len("".join(REFERENCE_LINES))))
def test_a_truncated_file_is_whole_or_nothing(length):
    whole_or_nothing("".join(REFERENCE_LINES)[:length])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(REFERENCE_LINES), max_size=12))
def test_a_shuffled_file_is_whole_or_nothing(lines):
    whole_or_nothing("".join(lines))


NAMES = """gateway nodes roles use pool policy split engines kind models name key include keys providers
aliases limits listen url address health planned"""
KEYS = st.sampled_from(NAMES.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 9)
    | st.sampled_from(["a", "ollama", "5s", "", "http://[", "x:1"])
)
TREES = st.recursive(
    LEAVES, lambda held: st.lists(held, max_size=2) | st.dictionaries(KEYS, held, max_size=3), max_leaves=10
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_any_tree_is_whole_or_nothing(tree):
    import json

    whole_or_nothing(json.dumps(tree))
