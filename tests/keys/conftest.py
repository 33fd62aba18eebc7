"""Keys over both databases."""

from __future__ import annotations

from functools import partial

import pytest
from tests.keys.house import house as built_in


@pytest.fixture
def house(database):
    """Makes gateways with keys, in the database of the test."""
    return partial(built_in, database=database)
