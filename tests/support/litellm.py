"""LiteLLM files for tests: converted alone, or loaded whole and compiled into routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.config.load import Loaded, load
from fleetgate.config.reader import read_text
from fleetgate.config.scalars import YAML_1_1
from fleetgate.engines.kinds import KINDS
from fleetgate.fleet.fleet import Fleet
from fleetgate.litellm_config import convert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.config.findings import Document
    from fleetgate.config.schema import Settings
    from fleetgate.routing.names import NameTable

MASTER = "sk-a-long-private-master-key"
KEYS = {"LITELLM_MASTER_KEY": MASTER, "OPENAI_API_KEY": "sk-one-of-ours", "GROQ_API_KEY": "gsk-one-of-ours"}


def converted(text: str, environ: Mapping[str, str] | None = None) -> Document:
    return convert(read_text(text, "c.yaml", YAML_1_1), KEYS if environ is None else environ)


def said(document: Document, severity: str = "warning") -> list[str]:
    return [found.render() for found in document.findings if found.severity == severity]


def steps(text: str, name: str) -> list[dict[str, Any]]:
    """The steps of one role; `answer` is left out where it says the same as `first_token`."""
    found: list[dict[str, Any]] = converted(text).tree["roles"][name]["use"]
    return [
        {key: held for key, held in step.items() if key != "answer" or held != step.get("first_token")}
        for step in found
    ]


def loaded(text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    return load(text, KEYS if environ is None else environ, convert=convert)


def names(settings: Settings) -> NameTable:
    """The table of names over the fleet that the settings describe."""
    fleet = Fleet(
        KINDS,
        clock=lambda: 0.0,
        wall=lambda: 0.0,
        random=lambda: 0.5,
        call_later=lambda _delay, _call: None,
        report=lambda *_args, **_fields: None,
        remember=lambda *_args: None,
    )
    fleet.configure(settings)
    assert fleet.names is not None
    return fleet.names
