import pytest

from fleetgate.config.findings import Finding, Place, Positions, arrange, finding, show_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ((), ""),
        (("nodes", "box", "engines", 0, "port"), "nodes.box.engines[0].port"),
        (("aliases", "local/chat"), "aliases.local/chat"),
        (("roles", "a.b"), 'roles."a.b"'),
        (("roles", ""), 'roles.""'),
    ],
)
def test_paths_render(path, shown):
    assert show_path(path) == shown


def test_a_finding_is_one_line():
    found = Finding("error", "config.yaml", 57, 9, "models[3].rpm", "is a text", "write a whole number")
    assert found.render() == "config.yaml:57:9: models[3].rpm: is a text; write a whole number"
    assert found.row() == {
        "severity": "error", "file": "config.yaml", "line": 57, "column": 9, "path": "models[3].rpm",
        "message": "is a text", "hint": "write a whole number",
    }  # fmt: skip


def test_parts_that_are_not_known_are_left_out():
    assert finding("error", Place("config.yaml"), (), "there is no such file").render() == (
        "config.yaml: there is no such file"
    )


def test_positions_fall_back_to_what_was_written_around():
    positions = Positions({(): Place("f", 1, 1), ("a",): Place("f", 2, 4)}, {("a",): Place("f", 2, 1)})
    assert positions.at(("a", "b", 0)) == Place("f", 2, 4)
    assert positions.key(("a",)) == Place("f", 2, 1)
    assert positions.key(("x",)) == Place("f", 1, 1)
    assert Positions().at(("x",)) == Place("")


def test_errors_come_first_and_nothing_comes_twice():
    note = finding("note", Place("f", 1, 1), "a", "n")
    late = finding("error", Place("f", 9, 1), "a", "e")
    early = finding("error", Place("f", 2, 1), "a", "e")
    assert arrange([note, late, early, late]) == (early, late, note)
