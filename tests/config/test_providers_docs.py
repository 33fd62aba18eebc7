"""The page on providers has every row of the table, and everything that is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetgate.config.providers import CHATS, PROVIDERS
from fleetgate.dialects.mend import ODDITIES
from fleetgate.domain import Capability

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "providers.md").read_text("utf-8").splitlines()
WORDS = {
    Capability.COMPLETE: "completions",
    Capability.EMBED: "embeddings",
    Capability.RERANK: "rerank",
    Capability.IMAGE: "pictures",
    Capability.EDIT: "edits",
    Capability.SPEAK: "speech",
    Capability.TRANSCRIBE: "transcriptions",
    Capability.TRANSLATE: "translations",
    Capability.MODERATE: "moderations",
}


def row_of(name):
    row = PROVIDERS[name]
    serves = ["chat", *(WORDS[one] for one in Capability if one in row.serves - CHATS)]
    dialects = [
        f"`{dialect}` at `{base.partition('://')[2]}`" if base != (row.url or row.form) else f"`{dialect}`"
        for dialect, base in row.dialects.items()
    ]
    own = " (spoken there)" if row.speaks == "anthropic" else ""
    told = ", ".join(dialects) or (f"`{row.speaks}`{own}" if own else "")
    return f"| {name} | `{row.url or row.form}` | `{row.key}` | {', '.join(serves)} | {told} |"


def oddity_rows():
    for name, odd in ODDITIES.items():
        if odd.calls_end_as_stop:
            yield f"| {name} | the end `stop` after tool calls | `tool_calls` |"
        if odd.content_in_parts:
            yield f"| {name} | `content` as a list of parts | text, thoughts in `reasoning_content` |"
        for reason, due in odd.reasons.items():
            yield f"| {name} | the end `{reason}` | `{due}` |"
        for reason in sorted(odd.broken):
            yield f"| {name} | the end `{reason}` | another candidate, or an error |"
        if odd.told_in:
            told = f"a failure in `{odd.told_in}` of a good answer"
            yield f"| {name} | {told} | another candidate, or an error |"


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_on_the_page(name):
    assert row_of(name) in PAGE
    note = PROVIDERS[name].note
    assert not note or f"- `{name}`: {note}." in PAGE


def test_everything_that_is_mended_is_on_the_page():
    for line in oddity_rows():
        assert line in PAGE


def test_every_provider_is_named_where_people_configure_them():
    text = " ".join((DOCS / "configuration.md").read_text("utf-8").split())
    names = text.partition("Known by name: ")[2].partition(", at the addresses")[0]
    assert names.split(", ") == list(PROVIDERS)
