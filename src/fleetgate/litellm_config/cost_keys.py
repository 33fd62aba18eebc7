"""The names that LiteLLM gives to prices, and what each is in our form. Data alone."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input_cost_per_token": "input",
        "output_cost_per_token": "output",
        "cache_read_input_token_cost": "cached_input",
        "cache_creation_input_token_cost": "cache_write",
        "input_cost_per_audio_token": "audio_input",
        "output_cost_per_audio_token": "audio_output",
    }
)
TIER: Final = re.compile(r"(.+)_above_([1-9][0-9]{0,5})k_tokens")
TIERED: Final = ("input", "output", "cached_input", "cache_write")
_SOUND: Final = frozenset({"audio_transcription", "audio_speech"})
OTHERS: Final[Mapping[str, tuple[str, str, frozenset[str]]]] = MappingProxyType(
    {
        "output_cost_per_image": ("image", "USD/image", frozenset({"image_generation"})),
        "input_cost_per_image": ("image", "USD/image", frozenset({"image_generation"})),
        "input_cost_per_second": ("second", "USD/s", _SOUND),
        "output_cost_per_second": ("second", "USD/s", _SOUND),
        "input_cost_per_character": ("character", "USD/char", _SOUND),
        "input_cost_per_query": ("request", "USD", frozenset({"rerank"})),
    }
)
"""key -> our key, its unit, and the modes for which both mean the same"""


def is_price(key: str) -> bool:
    """Whether a key is a price that is read here."""
    found = TIER.fullmatch(key)
    return key in OTHERS or key in TOKENS or (found is not None and TOKENS.get(found[1]) in TIERED)
