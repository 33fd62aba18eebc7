import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fleetgate.config.findings import Place
from fleetgate.config.reader import MAX_BYTES, read_bytes, read_text
from fleetgate.config.scalars import YAML_1_1


def said(text, **options):
    return [found.render() for found in read_text(text, "f.yaml", **options).findings]


def test_every_key_and_value_has_its_place():
    read = read_text("a: 1\nb:\n  - x\n  - {c: no, d: 'q'}\ne:\n", "f.yaml")
    assert read.tree == {"a": 1, "b": ["x", {"c": "no", "d": "q"}], "e": None}
    assert read.findings == ()
    assert read.positions.values == {
        (): Place("f.yaml", 1, 1),
        ("a",): Place("f.yaml", 1, 4),
        ("b",): Place("f.yaml", 3, 3),
        ("b", 0): Place("f.yaml", 3, 5),
        ("b", 1): Place("f.yaml", 4, 5),
        ("b", 1, "c"): Place("f.yaml", 4, 9),
        ("b", 1, "d"): Place("f.yaml", 4, 16),
        ("e",): Place("f.yaml", 5, 1),
    }
    assert read.positions.keys[("b", 1, "d")] == Place("f.yaml", 4, 13)


def test_the_typing_rules_are_a_parameter():
    text = "a: no\nb: 010\nc: 12:30\nd: 1e-7\n"
    assert read_text(text, "f").tree == {"a": "no", "b": 10, "c": "12:30", "d": 1e-7}
    assert read_text(text, "f", YAML_1_1).tree == {"a": False, "b": 8, "c": 750, "d": "1e-7"}


def test_a_version_directive_does_not_change_the_rules():
    assert read_text("%YAML 1.1\n---\na: no\n", "f").tree == {"a": "no"}


def test_quotes_and_tags_decide_the_type():
    assert read_text("a: '1'\nb: !!str 1\nc: !!float 1\nd: !!int '2'\n", "f").tree == {
        "a": "1", "b": "1", "c": 1.0, "d": 2,
    }  # fmt: skip


def test_every_duplicate_key_names_both_places():
    read = read_text("a: {x: 1}\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    assert [found.render() for found in read.findings] == [
        "f.yaml:2:11: b.c: this key was already written at 2:5; keep one of them",
        "f.yaml:3:1: a: this key was already written at 1:1; keep one of them",
    ]
    assert ("a", "x") not in read.positions.values


def test_a_litellm_file_may_repeat_a_key_and_the_last_wins():
    read = read_text("a: 1\na: 2\n", "f", YAML_1_1)
    assert read.tree == {"a": 2}
    assert [found.severity for found in read.findings] == ["warning"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n\tb: 1", "f.yaml:2:1: a tab in the indentation; YAML is indented with spaces"),
        ("a: b: c", "f.yaml:1:5: a colon where no value can begin; quote a text that contains ': '"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins here; a configuration is one document"),
        ("a: *x", "f.yaml:1:4: undefined alias 'x'; an anchor (&name) must stand before its alias (*name)"),
        ("a: &a [*a]", "f.yaml:1:4: a[0]: an alias inside its own anchor; write the values out"),
        ("a: {<<: 3}", "f.yaml:1:9: a: << takes a map; write <<: *anchor"),
        ("{[3]: 4}", "f.yaml:1:2: a list or map as a key; keys are texts"),
        ("a\0b", "f.yaml:1:2: control character U+0000; remove it"),
        ("a: !!int x", "f.yaml:1:4: a: 'x' is no int; remove the tag"),
        ("[" * 100, "f.yaml:1:61: nested too deeply; at most 60 levels"),
    ],
)
def test_what_is_wrong_with_the_text(text, line):
    assert said(text) == [line]


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 'x", "- a\nb", "}", "a: @x", "a: |\n b\n  c\nd"])
def test_broken_yaml_is_one_finding_with_a_place(text):
    read = read_text(text, "f.yaml")
    assert read.tree is None
    (found,) = read.findings
    assert found.severity == "error"
    assert found.line >= 1


def test_nothing_is_built_from_tags():
    assert "is not known" in said("!!python/object/apply:os.system ['true']")[0]
    assert "is not known" in said("a: !secret x")[0]


def test_anchors_and_merge_keys_keep_the_place_of_the_anchor():
    read = read_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}\n", "f")
    assert read.tree == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2, "z": 4}}
    assert read.positions.values[("b", "x")] == Place("f", 1, 11)
    assert read.findings == ()


def test_aliases_cannot_multiply_without_end():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100000 values" in said("\n".join(lines))[0]


def test_an_empty_file_is_an_empty_map():
    assert read_text("", "f").tree == {}
    assert read_text("# nothing\n", "f").tree == {}


def test_bytes_that_are_not_text_have_a_place():
    (found,) = read_bytes(b"a: 1\nb: \xff\n", "f").findings
    assert (found.line, found.column, found.message) == (2, 4, "this is not UTF-8")
    assert read_bytes(b"\xef\xbb\xbfa: 1\n", "f").tree == {"a": 1}
    assert "at most 4 MiB" in read_bytes(b" " * (MAX_BYTES + 1), "f").findings[0].hint


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXTS,
    lambda held: st.lists(held, max_size=3) | st.dictionaries(st.text("abc", min_size=1), held, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_json_is_read_as_it_is(tree):
    import json

    read = read_text(json.dumps(tree, ensure_ascii=False), "f")
    assert read.findings == ()
    assert read.tree == tree or tree is None


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!'\"#|>%@ \n\t,<?0123.", max_size=60))
def test_any_text_gives_a_tree_or_findings_and_never_an_exception(text):
    read = read_text(text, "f")
    if read.tree is None and not read.findings:
        assert YAML(typ="safe", pure=True).load(text) is None
    assert all(found.line >= 1 for found in read.findings)
