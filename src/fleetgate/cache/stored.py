"""A stored answer: what is given again, byte for byte, and what must be known to give it. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

OVERHEAD: Final = 600
"""Bytes that an answer takes in memory beside its body, its key and its names."""


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer, or the frames of a stream without its end mark."""

    at: float
    """unix seconds of its end"""
    ttl: float
    """seconds from then on"""
    deployment: str
    """who answered: whoever may not use it does not get this"""
    weights: str
    """digest of the model's weights; empty: unknown"""
    streamed: bool
    body: bytes
    usage_at: tuple[tuple[int, int], ...] = ()
    """where in `body` the frames stand that tell nothing but the usage"""
    input_tokens: int | None = None
    output_tokens: int | None = None

    def frames(self, *, usage: bool) -> bytes:
        """The frames of a stream, with those of the usage or without."""
        if usage or not self.usage_at:
            return self.body
        kept, begin = [], 0
        for start, end in self.usage_at:
            kept.append(self.body[begin:start])
            begin = end
        return b"".join((*kept, self.body[begin:]))

    def age(self, wall: float) -> float:
        """Seconds; never negative, whatever clocks do."""
        return max(0.0, wall - self.at)

    def size(self, key: str) -> int:
        """Bytes that it takes under this key, by our count."""
        names = len(key) + len(self.deployment) + len(self.weights)
        return len(self.body) + names + 100 * len(self.usage_at) + OVERHEAD


_decoder: Final = msgspec.msgpack.Decoder(Stored)


def encode(stored: Stored) -> bytes:
    return msgspec.msgpack.encode(stored)


def decode(value: bytes) -> Stored | None:
    """None: it is nothing of ours, or of another version."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
