from pathlib import Path

import pytest

from fleetgate.config.paths import SYSTEM_FILE, candidates, directories, find_config, problem_with


def test_directories_of_a_person():
    found = directories({"HOME": "/home/x"})
    assert found.config == Path("/home/x/.config/fleetgate")
    assert found.state == Path("/home/x/.local/state/fleetgate")
    assert found.cache == Path("/home/x/.cache/fleetgate")
    assert found.runtime == Path("/home/x/.local/state/fleetgate/run")


def test_xdg_and_systemd_say_otherwise():
    environ = {
        "HOME": "/home/x",
        "XDG_STATE_HOME": "/s",
        "XDG_CACHE_HOME": "relative",
        "XDG_RUNTIME_DIR": "/r",
    }
    assert directories(environ).state == Path("/s/fleetgate")
    assert directories(environ).cache == Path("/home/x/.cache/fleetgate")
    assert directories(environ).runtime == Path("/r/fleetgate")
    environ["STATE_DIRECTORY"] = "/var/lib/fleetgate:/var/lib/other"
    assert directories(environ).state == Path("/var/lib/fleetgate")


def test_the_default_file(tmp_path):
    environ = {"HOME": str(tmp_path)}
    assert candidates(environ) == (tmp_path / ".config/fleetgate/config.yaml", SYSTEM_FILE)
    file = tmp_path / ".config/fleetgate/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert find_config(environ) == file
    assert find_config({**environ, "FLEETGATE_CONFIG": "/nowhere.yaml"}) == Path("/nowhere.yaml")
    holder = tmp_path / "holder"
    holder.write_text("/somewhere.yaml\n")
    assert find_config({"FLEETGATE_CONFIG_FILE": str(holder)}) == Path("/somewhere.yaml")
    assert find_config({"FLEETGATE_CONFIG_FILE": "/no/holder"}) == Path("/no/holder")


def test_a_missing_file_names_what_is_beside_it(tmp_path):
    (tmp_path / "litellm-config.yaml").write_text("")
    (tmp_path / "other.txt").write_text("")
    found = problem_with(tmp_path / "litellm_config.yaml")
    assert found.render() == (
        f"{tmp_path / 'litellm_config.yaml'}: there is no such file; beside it: litellm-config.yaml"
    )
    assert "does not exist either" in problem_with(tmp_path / "a" / "b.yaml").hint


def test_a_directory_tells_of_the_mount(tmp_path):
    found = problem_with(tmp_path)
    assert found.message == "this is a directory, not a file"
    assert "container mount of a missing host file" in found.hint
    (tmp_path / "a.yaml").write_text("")
    assert problem_with(tmp_path).hint.startswith("it holds a.yaml")


@pytest.mark.parametrize("name", ["a.yaml"])
def test_a_readable_file_has_no_problem(tmp_path, name):
    (tmp_path / name).write_text("")
    assert problem_with(tmp_path / name) is None
