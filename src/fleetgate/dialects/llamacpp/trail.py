"""What was said so far, as ids and as characters: enough to have somebody else go on. Pure.

The engine keeps text back while it is half a character or may become a stop word, so ids and characters do
not come in step. What counts as said ends with the last characters that went out; the ids behind them are
dropped and will be said again.

It also keeps the *ids* of tokens that end inside a character to itself: the next piece shows more tokens than
it names. Such a gap is either filled by tokenizing the piece, where that agrees with what is known of it, or
the next one begins before the gap, and what went out behind it is compared and not sent twice.

An engine computes a prompt in one go and an answer token by token, and the two do not give the same numbers
to the last digit. Where an answer is always the most likely one, the text may differ by that from what would
have been said without the break. So it can also be said again as a whole (`from_the_start`) and compared.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_GAPS: Final = 256
"""Gaps that are worth filling; behind them the text is compared."""
LARGEST: Final = 256 * 1024
"""Characters that are kept of an answer."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A piece of text of which some ids are not known."""

    at: int
    """ids known before it"""
    characters: int
    """that had gone out before it"""
    tokens: int
    """that had been made before it"""
    text: str
    last: tuple[int, ...]
    """the ids at its end that are known"""
    missing: int

    def agrees(self, ids: Sequence[int]) -> bool:
        """Whether these ids may be all of the piece."""
        known = len(self.last)
        return len(ids) == self.missing + known and tuple(ids[-known:] if known else ()) == self.last


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the next one begins."""

    ids: list[int]
    """the prompt and what was said"""
    tokens: int
    """of it that were said"""
    again: str
    """what went out behind that: it comes again, and is not sent twice"""


class Trail:
    """One answer's."""

    __slots__ = ("_ids", "_pending", "_texts", "characters", "gaps", "prompt", "tokens")

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = list(prompt)
        self.characters = 0
        self.tokens = 0
        """made when the last characters went out"""
        self.gaps: list[Gap] = []
        self._ids = array("q")
        self._pending: list[int] = []
        """ids whose text is still kept back"""
        self._texts: list[str] = []

    def add(self, text: str, ids: Sequence[int], made: int | None) -> None:
        """A piece: what goes out, the ids that it names, and how many tokens were made so far."""
        self._pending += ids
        if not text:
            return
        made = self.tokens + len(self._pending) if made is None else made
        missing = made - self.tokens - len(self._pending)
        if missing > 0:
            last = tuple(self._pending)
            self.gaps.append(Gap(len(self._ids), self.characters, self.tokens, text, last, missing))
        self._ids.extend(self._pending)
        self._pending.clear()
        self.tokens = made
        self.characters += len(text)
        if self.characters > LARGEST:
            self._texts.clear()
        self._texts.append(text)

    @property
    def fits(self) -> bool:
        """Something was said, and not too much to be kept."""
        return 0 < self.characters <= LARGEST

    def from_the_start(self) -> Cut:
        """All of it again."""
        return Cut(list(self.prompt), 0, "".join(self._texts))

    def cut(self, filled: Sequence[Sequence[int] | None] = ()) -> Cut:
        """Where to go on. `filled`: all ids of the first gaps, where they were found."""
        whole = list(self.prompt)
        position = 0
        for gap, ids in zip(self.gaps, [*filled, *[None] * len(self.gaps)], strict=False):
            whole.extend(self._ids[position : gap.at])
            if ids is None or not gap.agrees(ids):
                return Cut(whole, gap.tokens, "".join(self._texts)[gap.characters :])
            whole.extend(ids)
            position = gap.at + len(gap.last)
        whole.extend(self._ids[position:])
        return Cut(whole, self.tokens, "")
