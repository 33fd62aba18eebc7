import hmac
import stat

import pytest

from fleetgate.keys import owner
from fleetgate.keys.master import master_key, presented_key
from fleetgate.keys.owner import MASTER, Keys

KEY = "fg_master_abcdefghijklmnop"


@pytest.mark.parametrize("presented", [None, b"", b"x", KEY[:-1].encode(), KEY.encode() + b" ", b"\xff" * 50])
def test_whatever_is_not_the_key_is_nobody(presented):
    assert Keys(KEY).identify(presented) is None


def test_the_master_key_is_the_administrator():
    assert Keys(KEY).identify(KEY.encode()) is MASTER
    assert MASTER.admin


def test_every_comparison_is_one_of_two_digests_of_the_same_length(monkeypatch):
    """No early way out for a missing, short or long key: what is compared is always as long."""
    lengths = []
    compare = hmac.compare_digest

    def watched(a, b):
        lengths.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr(owner.hmac, "compare_digest", watched)
    known = Keys(KEY)
    for presented in (None, b"", b"x", KEY.encode(), b"y" * 10_000):
        known.identify(presented)
    assert lengths == [(32, 32)] * 5


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([(b"authorization", b"Bearer abc")], b"abc"),
        ([(b"authorization", b"bearer  abc ")], b"abc"),
        ([(b"authorization", b"BEARER abc")], b"abc"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"abc")], None),
        ([(b"authorization", b"Bearer ")], b""),
        ([(b"x-api-key", b"abc")], b"abc"),
        ([(b"x-api-key", b"abc"), (b"authorization", b"Bearer def")], b"def"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"def")], b"def"),
        ([(b"cookie", b"key=abc")], None),
    ],
)
def test_where_a_key_is_presented(headers, key):
    assert presented_key(headers) == key


def test_a_given_key_is_taken_and_no_file_is_made(tmp_path):
    assert master_key(tmp_path, "given") == ("given", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, "", "\n"])
def test_a_key_is_made_once_in_a_file_for_its_owner_alone(tmp_path, before):
    file = tmp_path / "master.key"
    if before is not None:
        file.write_text(before)
        file.chmod(0o644)
    key, path = master_key(tmp_path, None)
    assert path == file
    assert key.startswith("fg_master_")
    assert len(key) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert master_key(tmp_path, None) == (key, file)


def test_two_gateways_have_two_keys(tmp_path):
    made = {master_key(directory, None)[0] for directory in (make(tmp_path / "a"), make(tmp_path / "b"))}
    assert len(made) == 2


def make(directory):
    directory.mkdir()
    return directory
