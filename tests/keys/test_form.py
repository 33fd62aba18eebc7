import re
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.domain import KeyKind
from fleetgate.keys import form


def minted(kind=KeyKind.CALLER, token=secrets.token_bytes):
    return form.whole(kind, form.mint_id(token), form.mint_secret(token))


@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_has_its_form_and_comes_apart_again(kind):
    key = minted(kind)
    assert re.fullmatch(rf"fg_{kind}_[0-9A-Za-z]{{12}}_[0-9A-Za-z]{{49}}", key)
    parts = form.parse(key.encode())
    assert parts.kind == kind
    assert key.startswith(f"fg_{kind}_{parts.id}_{parts.secret.decode()}")


def test_the_smallest_and_the_largest_secret_have_the_same_length():
    for byte in (b"\x00", b"\xff"):
        key = minted(token=lambda count, byte=byte: byte * count)
        assert form.parse(key.encode()) is not None
    assert 62**form.SECRET_LENGTH >= 2**256
    assert 62**form.CHECK_LENGTH >= 2**32


def test_a_known_key_stays_the_same():
    """Keys outlive versions: their form and checksum must not change."""
    key = minted(token=lambda count: b"\x01" * count)
    assert key == "fg_caller_jAOLpZvq3hw1_0El6XFXwsUFD8J2vGxsaboW7rZYnQRBP5d9erwRwd292MPzWT"
    assert form.parse(key.encode()) is not None


@given(st.integers(0, 80), st.sampled_from(form.DIGITS + "_- "))
def test_every_mistyped_character_is_noticed(place, digit):
    key = minted(token=lambda count: b"\x5a" * count)
    at = place % len(key)
    wrong = key[:at] + digit + key[at + 1 :]
    assert (form.parse(wrong.encode()) is None) == (wrong != key)


@given(st.binary(max_size=200))
def test_anything_else_is_no_key(data):
    assert form.parse(data) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda key: key + "\n", lambda key: " " + key, lambda key: key[:-1]]
)
def test_a_key_in_another_spelling_is_no_key(change):
    assert form.parse(change(minted()).encode()) is None
