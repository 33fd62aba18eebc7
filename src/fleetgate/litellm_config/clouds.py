"""Where models of clouds are whose address is everybody's own: Azure by its resource, Bedrock by its region.

LiteLLM asks both by other paths. Here their interfaces in OpenAI's form are used, which need no api-version
and no signature.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

AZURE: Final = frozenset({"azure", "azure_text", "azure_ai"})
BEDROCK: Final = frozenset({"bedrock", "bedrock_converse", "bedrock_mantle"})
KEYS: Final[Mapping[str, str]] = {"azure": "AZURE_API_KEY", "azure-claude": "AZURE_AI_API_KEY"}
"""variables that LiteLLM reads where no key is written, where they are not those of our table"""
REGIONS: Final = ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION")
"""variables that hold a region"""
SIGNED: Final = ("aws_access_key_id", "aws_profile_name", "aws_role_name", "aws_session_token")
"""members of what LiteLLM signs its requests with"""
_RESOURCE: Final = re.compile(r"[\w-]+\.(?:openai|cognitiveservices|services\.ai)\.azure\.com")
_OLD: Final = re.compile(r"(?:/openai(?:/v1|/deployments(?:/.*)?)?|/models)?/?")
_PLACE: Final = re.compile(
    r"(?:(?P<way>converse|converse_like|invoke|mantle)/)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)/)?"
)


def azure_url(base: str) -> str:
    """The address with the interface that needs no api-version; as it is where it has another form."""
    parts = urlsplit(base if "://" in base else f"https://{base}")
    if _RESOURCE.fullmatch(parts.hostname or "") and _OLD.fullmatch(parts.path):
        return f"https://{parts.netloc}/openai/v1"
    return base


def is_claude(base: str) -> bool:
    """Whether an address of Azure's speaks Anthropic's dialect."""
    return urlsplit(base).path.rstrip("/").endswith(("/anthropic", "/anthropic/v1", "/anthropic/v1/messages"))


def claude_url(base: str) -> str:
    """Where that dialect begins."""
    return f"{base.rstrip('/').removesuffix('/messages').removesuffix('/v1')}/v1"


def bedrock_model(model: str) -> tuple[str, str, str]:
    """The model, and the region and the way that stand before it."""
    found = _PLACE.match(model)
    assert found is not None
    return model[found.end() :], found["region"] or "", found["way"] or ""


def bedrock_url(region: str, way: str) -> str:
    host = (
        f"bedrock-mantle.{region}.api.aws" if way == "mantle" else f"bedrock-runtime.{region}.amazonaws.com"
    )
    return f"https://{host}/v1" if way == "mantle" else f"https://{host}/openai/v1"
