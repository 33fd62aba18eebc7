"""Who may go on with an answer that broke off."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.domain import Model
from fleetgate.routing.continuation import same_weights

MODEL = Model("m", "m", params=7.0, size=4_000, quantisation="Q4")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, True),
        ({}, {"id": "/models/m.gguf", "context": 8, "aliases": ("x",)}, True),
        ({}, {"size": 4_001}, False),
        ({}, {"params": 8.0}, False),
        ({}, {"quantisation": "Q5"}, False),
        ({}, {"name": "other"}, False),
        ({"size": None}, {"size": None}, False),
        ({"params": None}, {"params": None}, False),
        ({"digest": "a"}, {"digest": "a", "size": None, "name": "other"}, True),
        ({"digest": "a"}, {"digest": "b"}, False),
        ({"digest": "a"}, {}, True),
    ],
)
def test_one_file(one, other, same):
    assert same_weights(replace(MODEL, **one), replace(MODEL, **other)) is same


known = st.builds(
    Model,
    id=st.just("m"),
    name=st.sampled_from(["m", "n"]),
    params=st.sampled_from([None, 7.0]),
    size=st.sampled_from([None, 1, 2]),
    quantisation=st.sampled_from([None, "Q4"]),
    digest=st.sampled_from([None, "a", "b"]),
)


@given(known, known)
def test_both_ways_alike(one, other):
    assert same_weights(one, other) is same_weights(other, one)
