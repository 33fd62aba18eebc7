import copy
import json
import pickle
import traceback

import pytest
from pydantic import ValidationError

from fleetgate.config.schema import Provider
from fleetgate.config.secrets import CONTEXT_KEY, Secret, SecretReader

TEXT = "sk-very-private-text"


def test_a_secret_shows_a_fingerprint_and_nothing_else():
    secret = Secret(TEXT)
    provider = Provider.model_validate({"key": TEXT})
    shown = [
        repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr(provider), str(provider.model_dump()),
        provider.model_dump_json(), json.dumps(provider.model_dump(mode="json")), repr({"a": [secret]}),
        str(pickle.dumps(secret)), str(pickle.dumps(provider)),
    ]  # fmt: skip
    assert all(TEXT not in text for text in shown)
    assert secret.fingerprint in str(secret)
    assert len(secret.fingerprint) == 8
    assert secret.reveal() == TEXT


def test_a_pickled_secret_comes_back_without_its_text():
    back = pickle.loads(pickle.dumps(Secret(TEXT, kind="environment", reference="A")))
    assert not back.resolved
    assert "not carried over" in back.problem
    with pytest.raises(LookupError, match="not carried over"):
        back.reveal()


def test_copies_inside_the_process_keep_the_text():
    secret = Secret(TEXT)
    assert copy.deepcopy(secret) is secret
    assert copy.copy(secret) is secret


def test_secrets_compare_by_text_and_reference():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != Secret("a", kind="environment", reference="A")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_has_a_text_or_a_problem():
    with pytest.raises(ValueError, match="either"):
        Secret(None)
    with pytest.raises(ValueError, match="either"):
        Secret("a", problem="b")


def test_references_are_resolved(tmp_path):
    (tmp_path / "key").write_text("from-file\n")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "openai").write_text("from-systemd")
    reader = SecretReader({"KEY": " from-env ", "CREDENTIALS_DIRECTORY": str(credentials)}, tmp_path)
    assert reader.read("${KEY}").reveal() == "from-env"
    assert reader.read("${file:key}").reveal() == "from-file"
    assert reader.read(f"${{file:{tmp_path / 'key'}}}").reveal() == "from-file"
    assert reader.read("${credential:openai}").reveal() == "from-systemd"
    assert reader.read("plain").kind == "literal"
    assert set(reader.files) == {tmp_path / "key", credentials / "openai"}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("${NOT_THERE}", "NOT_THERE is not set"),
        ("${EMPTY}", "EMPTY is empty"),
        ("${file:missing}", "no such file"),
        ("${file:empty}", "is empty"),
        ("${file:binary}", "not text"),
        ("${file:large}", "larger than 64 KiB"),
        ("${file:.}", "directory"),
        ("${credential:openai}", "CREDENTIALS_DIRECTORY is not set"),
        ("", "is empty"),
    ],
)
def test_an_unresolved_secret_keeps_the_reason(tmp_path, written, problem):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large").write_bytes(b"a" * 70_000)
    secret = SecretReader({"EMPTY": ""}, tmp_path).read(written)
    assert not secret.resolved
    assert problem in secret.problem
    assert "unresolved" in str(secret)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("Bearer ${KEY}", "whole value"),
        ("os.environ/KEY", r'write "\$\{KEY\}"'),
        ("${not a name}", "environment name"),
        ("${file:}", "no path"),
        ("${credential:../x}", "credential"),
    ],
)
def test_a_wrong_reference_is_an_error(written, hint):
    with pytest.raises(ValueError, match=hint):
        SecretReader({"KEY": "a"}).read(written)


def test_without_a_reader_nothing_of_the_environment_is_visible(monkeypatch):
    monkeypatch.setenv("FG_TEST_KEY", "seen")
    assert Provider.model_validate({"key": "${FG_TEST_KEY}"}).key.resolved is False
    reader = SecretReader({"FG_TEST_KEY": "given"})
    provider = Provider.model_validate({"key": "${FG_TEST_KEY}"}, context={CONTEXT_KEY: reader})
    assert provider.key.reveal() == "given"


def test_a_secret_in_the_wrong_place_does_not_reach_the_error():
    with pytest.raises(ValidationError) as caught:
        Provider.model_validate({"url": [TEXT], "key": [TEXT], TEXT[:0] + "kind": {"a": TEXT}})
    assert TEXT not in str(caught.value)
    assert TEXT not in "".join(traceback.format_exception(caught.value))
