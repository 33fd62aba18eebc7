"""Every example passes `check` as a newcomer has it: with an empty environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetgate.config.load import load
from fleetgate.litellm_config import convert

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").rglob("*.yaml"))


def test_there_are_examples() -> None:
    assert {"quickstart.yaml", "reference.yaml"} <= {file.name for file in EXAMPLES}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_example_passes_check(file: Path) -> None:
    loaded = load(file, {}, convert=convert)
    assert not loaded.errors, "\n".join(one.render() for one in loaded.errors)
    assert loaded.settings is not None
