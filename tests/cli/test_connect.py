"""`fleetgate connect`: what is shown for each client, and what is written where."""

import json
import stat
import tomllib

import pytest
from tests.support.commands import run

from fleetgate.cli.clients import ALIASES, CLIENTS
from fleetgate.config.reader import read_text

KEY = "fg_caller_abcdefghijkl"
URL = "https://gw.example.net/llm"
NAMES = [one.name for one in CLIENTS]
WRITE = ("--url", URL, "--key", KEY, "--model", "coder", "--write")
WRITERS = [one.name for one in CLIENTS if one.files is not None]


@pytest.fixture
def do(tmp_path):
    unset = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "CONTINUE_GLOBAL_DIR")
    return lambda *words, **more: run(tmp_path, "connect", *words, **{**dict.fromkeys(unset), **more})


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def backups(path):
    return sorted(path.parent.glob(f"{path.name}.*.bak"))


@pytest.mark.parametrize("name", NAMES)
def test_every_client_is_shown(do, name):
    done = do(name, "--url", f"{URL}/v1/", "--key", KEY, "--model", "coder")
    assert done.exit_code == 0
    assert URL in done.stdout
    assert "/v1/v1" not in done.stdout
    assert "YOUR_KEY" not in done.stdout
    assert KEY in done.stdout or name == "home-assistant"
    document = json.loads(do(name, "--url", URL, "--json").stdout)
    assert (document["client"], document["url"]) == (name, URL)
    text = "".join(part["text"] for part in document["parts"])
    assert "YOUR_KEY" in text
    assert "None" not in text
    assert all(part["text"].endswith("\n") for part in document["parts"])


def test_the_list(do):
    done = do()
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == NAMES
    rows = json.loads(do("--json").stdout)["rows"]
    assert [row["client"] for row in rows if row["writes"]] == WRITERS


def test_other_words_and_wrong_ones(do):
    for word, name in ALIASES:
        assert json.loads(do(word.upper(), "--json").stdout)["client"] == name
    done = do("cursr")
    assert (done.exit_code, "Did you mean `cursor`?" in done.stderr) == (2, True)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://me@x", "http://x?y", "http://x:port"])
def test_what_is_no_address(do, url):
    assert do("codex", "--url", url).exit_code == 2


def test_the_address_comes_from_where_other_commands_have_it(do, tmp_path):
    assert "http://127.0.0.1:4000/v1" in do("openai").stdout
    assert "https://far/v1" in do("openai", FLEETGATE_URL="https://far").stdout
    file = tmp_path / "config.yaml"
    file.write_text("gateway: {listen: '0.0.0.0:4321', base_path: /llm}\n")
    assert "http://127.0.0.1:4321/llm/v1" in do("openai", FLEETGATE_CONFIG=str(file)).stdout


def test_loopback_is_said_where_it_cannot_do(do):
    assert "will not do" in do("cursor").stdout
    assert "will not do" not in do("cursor", "--url", URL).stdout
    assert "will not do" not in do("codex").stdout


def test_codex_needs_no_longer_patience(do):
    done = do("codex", "--model", "coder")
    assert "stream_idle_timeout_ms" not in done.stdout
    assert 'wire_api = "responses"' in done.stdout


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_written_once(do, name):
    done = do(name, *WRITE[:-1], "--dry-run")
    assert done.exit_code == 0
    assert KEY not in done.stdout
    (first, *_) = files = [*json.loads(do(name, *WRITE, "--dry-run", "--json").stdout)["files"]]
    assert first["diff"].startswith("--- ")
    paths = [read_path(row) for row in files]
    assert not any(path.exists() for path in paths)

    assert do(name, *WRITE).exit_code == 0
    texts = [path.read_bytes() for path in paths]
    assert any(KEY.encode() in text for text in texts)
    for path, text in zip(paths, texts, strict=True):
        assert mode(path) == (0o600 if KEY.encode() in text else 0o644)

    done = do(name, *WRITE)
    assert (done.exit_code, "nothing to change" in done.stdout) == (0, True)
    assert [path.read_bytes() for path in paths] == texts
    assert not any(backups(path) for path in paths)

    done = do(name, "--url", "https://other.example", "--model", "coder", "--write")
    assert (done.exit_code, "--force" in done.stderr) == (1, True)
    assert [path.read_bytes() for path in paths] == texts
    rows = json.loads(do(name, *WRITE[2:], "--url", "https://other.example", "--force", "--json").stdout)[
        "files"
    ]
    kept = next(row for row in rows if row["changed"])["backup"]
    assert read_path({"file": kept}).read_bytes() in texts
    assert mode(read_path({"file": kept})) == 0o600
    assert any(b"https://other.example" in path.read_bytes() for path in paths)


def read_path(row):
    from pathlib import Path

    return Path(row["file"])


def test_a_file_with_other_things_in_it_keeps_them(do, tmp_path):
    claude = tmp_path / ".claude" / "settings.json"
    codex = tmp_path / ".codex" / "config.toml"
    continued = tmp_path / ".continue" / "config.yaml"
    for path in (claude, codex, continued):
        path.parent.mkdir()
    claude.write_text('{\n  "permissions": {"allow": ["Bash(ls)"]},\n  "env": {"X": "1"}\n}\n')
    claude.chmod(0o644)
    codex.write_text('# mine\nsandbox_mode = "read-only"\n\n[mcp_servers.a]\ncommand = "x"\n')
    continued.write_text(
        "name: Mine\nversion: 2.0.0\nschema: v1\nmodels:\n  - name: x # first\n    provider: ollama\n"
    )
    for name, path in (("claude-code", claude), ("codex", codex), ("continue", continued)):
        old = path.read_bytes()
        assert do(name, *WRITE).exit_code == 0
        (kept,) = backups(path)
        assert (kept.read_bytes(), mode(kept)) == (old, 0o600)
    assert mode(claude) == 0o600
    settings = json.loads(claude.read_text())
    assert settings["permissions"] == {"allow": ["Bash(ls)"]}
    assert (settings["env"]["X"], settings["env"]["ANTHROPIC_BASE_URL"]) == ("1", URL)
    toml = tomllib.loads(codex.read_text())
    assert (toml["sandbox_mode"], toml["mcp_servers"]) == ("read-only", {"a": {"command": "x"}})
    assert (toml["model"], toml["model_provider"]) == ("coder", "fleetgate")
    assert toml["model_providers"]["fleetgate"]["base_url"] == f"{URL}/v1"
    assert "# mine" in codex.read_text()
    models = read_text(continued.read_text(), "x").tree["models"]
    assert models[0] == {"name": "x", "provider": "ollama"}
    assert models[1]["apiBase"] == f"{URL}/v1"
    assert "# first" in continued.read_text()


def test_the_key_from_standard_input(do, tmp_path):
    done = do("aider", "--url", URL, "--model", "m", "--key", "-", "--write", stdin=f"{KEY}\n")
    assert done.exit_code == 0
    assert KEY in (tmp_path / ".aider.conf.yml").read_text()
    assert KEY not in done.output
    assert do("aider", "--key", "-", stdin="\n").exit_code == 2


def test_without_a_key_none_is_written(do, tmp_path):
    done = do("codex", "--url", URL, "--model", "m", "--write")
    assert (done.exit_code, "no key was written" in done.stderr) == (0, True)
    assert "env_key" not in (tmp_path / ".codex" / "config.toml").read_text()
    assert not (tmp_path / ".codex" / ".env").exists()


def test_what_cannot_be_written_is_said(do, tmp_path):
    done = do("cursor", *WRITE)
    assert (done.exit_code, "connect cursor" in done.stderr) == (1, True)
    done = do("codex", "--write")
    assert (done.exit_code, "--model" in done.stderr) == (2, True)
    file = tmp_path / ".claude" / "settings.json"
    file.parent.mkdir()
    for text in (b"// mine\n{}", b"\xff", b"[]"):
        file.write_bytes(text)
        done = do("claude-code", *WRITE)
        assert (done.exit_code, "enter the settings yourself" in done.stderr) == (1, True)
        assert file.read_bytes() == text
    file.write_text('{"env": {"ANTHROPIC_API_KEY": "sk"}}')
    done = do("claude-code", *WRITE)
    assert (done.exit_code, "env.ANTHROPIC_API_KEY" in done.stderr) == (0, True)


def test_directories_of_the_clients_own(do, tmp_path):
    do("codex", *WRITE, CODEX_HOME=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "config.toml").exists()


def test_a_conflict_in_one_file_leaves_the_other_alone(do, tmp_path):
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / ".env").write_text("FLEETGATE_CODEX_KEY=other\n")
    assert do("codex", *WRITE).exit_code == 1
    assert not (tmp_path / ".codex" / "config.toml").exists()


def test_a_link_stays_one(do, tmp_path):
    real = tmp_path / "dotfiles.yml"
    real.write_text("dark-mode: true\n")
    (tmp_path / ".aider.conf.yml").symlink_to(real)
    assert do("aider", *WRITE).exit_code == 0
    assert (tmp_path / ".aider.conf.yml").is_symlink()
    assert real.read_text().startswith("dark-mode: true\n")
    assert len(backups(real)) == 1
