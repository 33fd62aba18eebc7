"""A stored answer and its form outside of the process."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.cache.stored import Stored, decode, encode

ONE = Stored(
    at=1.5,
    ttl=60.0,
    deployment="box/openai/m",
    weights="sha256:1",
    streamed=True,
    body=b"aaUUbbVV",
    usage_at=((2, 4), (6, 8)),
    input_tokens=3,
    output_tokens=None,
)


def test_it_comes_back_as_it_was():
    assert decode(encode(ONE)) == ONE


def test_frames_with_and_without_the_usage():
    assert ONE.frames(usage=True) == b"aaUUbbVV"
    assert ONE.frames(usage=False) == b"aabb"
    assert msgspec.structs.replace(ONE, usage_at=()).frames(usage=False) == b"aaUUbbVV"


def test_age_is_never_negative():
    assert (ONE.age(2.0), ONE.age(1.0)) == (0.5, 0.0)


def test_every_part_counts_for_its_size():
    bare = Stored(at=0.0, ttl=0.0, deployment="", weights="", streamed=False, body=b"")
    assert ONE.size("key") - bare.size("") == 8 + 3 + len("box/openai/m") + len("sha256:1") + 200


def test_another_version_is_nothing():
    assert decode(msgspec.msgpack.encode([1.0, 2.0])) is None
    assert decode(msgspec.msgpack.encode({"at": 1})) is None


@given(st.binary(max_size=60))
def test_foreign_bytes_are_nothing(value):
    assert decode(value) is None
