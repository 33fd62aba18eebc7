"""The JSON Schema of a configuration, for editors. It describes what is written, not what is parsed."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from fleetgate import units
from fleetgate.config.schema import Settings

ID: Final = "fleetgate.schema.json"
_PATTERNS: Final = {
    "duration": r"^(?:0|(?:[0-9.]+\s*(?:ms|s|m|h|d)\s*)+)$",
    "size": r"^(?:0|[0-9.]+\s*(?:[kKMGT]i?)?[bB])$",
}
_MARKS: Final = frozenset({"unit", "restart", "later", "gt", "ge", "lt", "le"})


class _Generator(GenerateJsonSchema):
    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002
        """Keeps the declared order, which editors show."""
        return value


def json_schema() -> dict[str, Any]:
    """The schema as a document."""
    schema = Settings.model_json_schema(by_alias=True, schema_generator=_Generator)
    tidy = _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        **tidy,
        "title": "Fleetgate configuration",
    }


def _tidy(node: Any) -> Any:
    """Written forms in place of parsed ones; our own marks out."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    unit = node.get("unit")
    clean = {key: _tidy(value) for key, value in node.items() if key not in _MARKS or isinstance(value, dict)}
    if unit in _PATTERNS and clean.get("type") == "string":
        clean["pattern"] = _PATTERNS[unit]
    if unit in _PATTERNS and isinstance(clean.get("default"), int | float):
        printer = units.print_duration if unit == "duration" else units.print_size
        clean["default"] = printer(clean["default"])
    if node.get("later") is True:
        clean["description"] = f"{clean.get('description', '')} (Not yet in effect.)".strip()
    if "properties" in clean and "title" in clean:
        for name, held in clean["properties"].items():
            _finish(name, held, clean["title"])
    return clean


def _finish(name: str, held: dict[str, Any], block: str) -> None:
    """Titles repeat the key; a step has a second word for its pool."""
    held.pop("title", None)
    if isinstance(held.get("default"), dict):
        del held["default"]  # a block's defaults stand at its own keys
    if block == "StepEntry" and name == "pool":
        held["description"] = f"{held.get('description', '')} `deployment` is accepted too."
