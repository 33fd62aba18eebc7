from fleetgate.config.findings import Document, Place, Positions
from fleetgate.config.reader import read_text
from fleetgate.config.scalars import YAML_1_1, YAML_1_2
from fleetgate.config.sources import Files, lay_over, litellm_includes, override, with_includes


def read(text, file):
    return read_text(text, file)


def test_maps_merge_and_lists_are_replaced():
    both = lay_over(
        read("a: {x: 1, l: [1, 2, 3]}\nb: 1\n", "low"), read("a: {l: [9], y: 2}\nb: {c: 1}\n", "high")
    )
    assert both.tree == {"a": {"x": 1, "l": [9], "y": 2}, "b": {"c": 1}}
    assert both.positions.at(("a", "x")) == Place("low", 1, 8)
    assert both.positions.at(("a", "l", 0)) == Place("high", 1, 9)
    assert ("a", "l", 2) not in both.positions.values
    assert both.positions.at(("b", "c")).file == "high"


def test_includes_lie_under_the_file_that_names_them(tmp_path):
    (tmp_path / "one.yaml").write_text("a: 1\nb: 1\nc: 1\ninclude: sub/three.yaml\n")
    (tmp_path / "two.yaml").write_text("b: 2\nc: 2\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "three.yaml").write_text("c: 3\nd: 3\n")
    files = Files()
    main = read("include: [one.yaml, two.yaml]\nc: 0\n", "main")
    whole = with_includes(main, tmp_path, files, YAML_1_2)
    assert whole.tree == {"c": 0, "d": 3, "a": 1, "b": 2, "include": ["one.yaml", "two.yaml"]}
    assert whole.findings == ()
    assert {path.name for path in files.digests} == {"one.yaml", "two.yaml", "three.yaml"}


def test_an_include_circle_is_an_error(tmp_path):
    path = tmp_path / "main.yaml"
    path.write_text("include: other.yaml\na: 1\n")
    (tmp_path / "other.yaml").write_text("include: [main.yaml]\nb: 1\n")
    files = Files()
    whole = with_includes(files.document(path, YAML_1_2), tmp_path, files, YAML_1_2, (path,))
    assert whole.tree["b"] == 1
    (found,) = whole.findings
    assert (found.file, found.line, found.column) == (str(tmp_path / "other.yaml"), 1, 11)
    assert found.message == "main.yaml is already being read"


def test_a_wrong_include_is_told_where_it_is_written(tmp_path):
    (tmp_path / "nodes.yaml").write_text("a: 1")
    (tmp_path / "bad.yaml").write_text("a: [")
    main = read("include:\n  - node.yaml\n  - bad.yaml\n", "main")
    found = with_includes(main, tmp_path, Files(), YAML_1_2).findings
    assert found[0].render() == (
        "main:2:5: include[0]: node.yaml: there is no such file; beside it: nodes.yaml, bad.yaml"
    )
    assert found[1].line == 3
    (wrong,) = with_includes(read("include: {a: 1}", "main"), tmp_path, Files(), YAML_1_2).findings
    assert "not a list of files" in wrong.message


def test_litellm_extends_lists_and_lets_the_included_file_win(tmp_path):
    (tmp_path / "more.yaml").write_text("model_list: [{model_name: b}]\nrouter_settings: {y: 2}\n")
    main = read_text(
        "include: [more.yaml]\nmodel_list: [{model_name: a}]\nrouter_settings: {x: 1}\n", "main", YAML_1_1
    )
    whole = litellm_includes(main, tmp_path, Files(), YAML_1_1)
    assert whole.tree["model_list"] == [{"model_name": "a"}, {"model_name": "b"}]
    assert whole.tree["router_settings"] == {"y": 2}
    assert whole.positions.at(("model_list", 0, "model_name")).file == "main"
    assert whole.positions.at(("model_list", 1, "model_name")).file.endswith("more.yaml")
    assert ("router_settings", "x") not in whole.positions.values


def test_a_litellm_include_circle_is_an_error(tmp_path):
    path = tmp_path / "main.yaml"
    path.write_text("include: [main.yaml]\nmodel_list: []\n")
    files = Files()
    whole = litellm_includes(files.document(path, YAML_1_1), tmp_path, files, YAML_1_1, (path,))
    assert "already being read" in whole.findings[0].message


def test_an_override_has_its_own_place():
    document = override(
        Document({"gateway": {"listen": "a"}}, Positions()), ("gateway", "listen"), ["b"], Place("env X")
    )
    assert document.tree == {"gateway": {"listen": ["b"]}}
    assert document.positions.at(("gateway", "listen", 0)) == Place("env X")
