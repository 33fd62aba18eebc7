"""Rules in the file about what engines and providers do not take of a request."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from fleetgate.config.block import Block, Strings

DEEDS: Final = ("drop", "rename", "clamp", "map", "reject", "keep")
OURS: Final = frozenset({"model", "messages", "stream", "prompt", "input"})
"""members that make a request what it is: no rule is about them"""
IN_MESSAGES: Final = "messages[]."
_NAME: Final = re.compile(r"(?:messages\[\]\.)?[A-Za-z_][A-Za-z0-9_-]{0,63}")


def _member(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a member; write one such as logit_bias or messages[].name")
    if text in OURS:
        raise ValueError(f"{text} is what the request is about; no rule may change it")
    return text


Member = Annotated[str, AfterValidator(_member)]


class Rule(Block):
    """What is done with one member of requests: exactly one of the first six."""

    drop: Member | None = Field(default=None, description="Leave it out, such as `logit_bias`.")
    rename: Member | None = Field(default=None, description="Send it under the name in `to`.")
    clamp: Member | None = Field(default=None, description="Send at most the number in `to`.")
    map: Member | None = Field(default=None, description="Send another value, by the table in `values`.")
    reject: Member | None = Field(
        default=None, description="Refuse requests that have it, before anything is sent."
    )
    keep: Member | None = Field(
        default=None, description="Send it as it was written, whatever the known rules say."
    )
    to: float | Member | None = Field(
        default=None, description="The other name (`rename`), or the most (`clamp`)."
    )
    values: dict[str, Any] = Field(
        default={}, description="Value -> the one that is sent instead (`map`); others stay as they are."
    )
    why: str = Field(default="", description="Why, in a few words; shown wherever it applies.")
    models: Strings = Field(
        default=(), description="Only for models with these ids; `*` stands for any characters."
    )

    @property
    def deed(self) -> Literal["drop", "rename", "clamp", "map", "reject", "keep"]:
        """What it does."""
        return next(deed for deed in DEEDS if getattr(self, deed) is not None)

    @property
    def member(self) -> str:
        """What it is about."""
        return str(getattr(self, self.deed))

    @model_validator(mode="after")
    def _does_one_thing(self) -> Rule:
        written = [deed for deed in DEEDS if getattr(self, deed) is not None]
        if len(written) != 1:
            raise ValueError(f"a rule does one thing; write one of {', '.join(DEEDS)}")
        deed = written[0]
        if self.member.startswith(IN_MESSAGES) and deed not in ("drop", "keep"):
            raise ValueError(f"members of messages can be dropped or kept; {deed} is for the others")
        return self

    @model_validator(mode="after")
    def _has_its_parts(self) -> Rule:
        if self.rename is not None and not isinstance(self.to, str):
            raise ValueError("rename needs the other name: {rename: max_tokens, to: max_completion_tokens}")
        if self.clamp is not None and not isinstance(self.to, float):
            raise ValueError("clamp needs the most that is sent: {clamp: temperature, to: 1.0}")
        if self.to is not None and self.rename is None and self.clamp is None:
            raise ValueError("`to` is for rename and clamp; remove it")
        if bool(self.values) != (self.map is not None):
            raise ValueError("map and `values` go together: {map: reasoning_effort, values: {minimal: low}}")
        return self


Rules = tuple[Rule, ...]
RULES: Final = (
    "What it does not take of a request, such as `{drop: logit_bias}`. A rule of the file stands for all "
    "known ones about the same member."
)
