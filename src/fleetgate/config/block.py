"""What every block of the declaration is made of: its base, its written quantities, its marks."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fleetgate import units
from fleetgate.config.secrets import Secret, beside, secret

Duration = Annotated[
    float,
    BeforeValidator(units.duration, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "duration"}),
]
"""seconds; written `250ms`, `5s`, `2m`, `1h`"""
Size = Annotated[
    int, BeforeValidator(units.size, json_schema_input_type=str), Field(json_schema_extra={"unit": "size"})
]
"""bytes; written `256KiB`, `20MB`"""
Share = Annotated[
    float,
    BeforeValidator(units.share, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "share"}),
]
"""0 to 1; written `80%`"""
SecretRef = Annotated[
    Secret, BeforeValidator(secret, json_schema_input_type=str), Field(json_schema_extra={"unit": "secret"})
]
"""`"${ENV}"` or `"${file:/path}"`"""
FilePath = Annotated[str, AfterValidator(beside)]
"""a relative one is taken from the directory of the main file"""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | tuple[str, ...])]


RESTART: Final[dict[str, Any]] = {"restart": True}
LATER: Final[dict[str, Any]] = {"later": True}


class Block(BaseModel):
    """Base of every block: frozen, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )
