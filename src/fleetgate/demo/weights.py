"""Models as simulated engines have them: what is not said about one is guessed from its name.

The guesses need only be plausible. A digest depends on name and size alone, so that one model on two
machines is the same model.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Capability, Model

if TYPE_CHECKING:
    from fleetgate.config.schema import ModelEntry

_PARAMS: Final = re.compile(r"(?:^|[-_:/. ])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?=$|[-_:/. ])", re.IGNORECASE)
_BYTES_PER_PARAM: Final = 0.62
"""of usual four-bit weights"""
_CONTEXT: Final = 32_768
_DIMENSIONS: Final = 768
_TALKS: Final = frozenset({Capability.CHAT, Capability.COMPLETE, Capability.TOOLS, Capability.SCHEMA})
_BY_NAME: Final = (
    (re.compile(r"rerank", re.IGNORECASE), frozenset({Capability.RERANK})),
    (re.compile(r"embed|bge|minilm|e5-|gte-", re.IGNORECASE), frozenset({Capability.EMBED})),
    (re.compile(r"whisper", re.IGNORECASE), frozenset({Capability.TRANSCRIBE, Capability.TRANSLATE})),
    (re.compile(r"transcri", re.IGNORECASE), frozenset({Capability.TRANSCRIBE})),
    (re.compile(r"moderation", re.IGNORECASE), frozenset({Capability.MODERATE})),
    (re.compile(r"tts|kokoro|piper|speech|bark", re.IGNORECASE), frozenset({Capability.SPEAK})),
    (re.compile(r"ssd-1b|sdxl|stable-diffusion|flux|dall-e|gpt-image|dreamshaper", re.IGNORECASE),
     frozenset({Capability.IMAGE, Capability.EDIT})),
    (re.compile(r"vision|[-_.]vl|llava|moondream|pixtral|gpt-4o|claude|gemini|gemma3", re.IGNORECASE),
     _TALKS | {Capability.VISION}),
)  # fmt: skip


def model(
    name: str,
    *,
    does: frozenset[Capability] | None = None,
    size: int | None = None,
    params: float | None = None,
    context: int | None = None,
    dimensions: int | None = None,
) -> Model:
    """A model of this id, complete."""
    able = _able(name, does)
    billions = params or _params(name) or (0.14 if Capability.EMBED in able else 8.0)
    weight = size or max(50_000_000, int(billions * 1e9 * _BYTES_PER_PARAM))
    family = re.split(r"[-_:/.\d]", name.rsplit("/", 1)[-1])[0].lower() or "simulated"
    return Model(
        id=name,
        name=name,
        does=able,
        context=context or _CONTEXT,
        params=billions,
        dimensions=(dimensions or _DIMENSIONS) if Capability.EMBED in able else None,
        digest=hashlib.sha256(f"{name} {weight}".encode()).hexdigest(),
        size=weight,
        quantisation="Q4_K_M",
        family=family,
    )


def written(entry: ModelEntry) -> Model:
    """The model that an entry of the file describes."""
    return model(
        entry.id or entry.name,
        does=entry.does,
        size=entry.size,
        params=entry.params,
        context=entry.context,
        dimensions=entry.dimensions,
    )


def _able(name: str, does: frozenset[Capability] | None) -> frozenset[Capability]:
    """What it can do. Who chats also completes, takes tools and follows a schema, unless said otherwise."""
    if does is not None:
        return does | {Capability.COMPLETE} if Capability.CHAT in does else does
    return next((found for pattern, found in _BY_NAME if pattern.search(name)), _TALKS)


def _params(name: str) -> float | None:
    found = _PARAMS.search(name)
    if found is None:
        return None
    billions = float(found[1] or 1) * float(found[2])
    return billions / 1000 if found[3].lower() == "m" else billions
