"""Secrets: references in the file, resolved once, never shown again.

`Secret` prints as a fingerprint wherever it goes: `repr`, `str`, JSON, pickle. Only `reveal()` gives
the text, and only the code that puts it on the wire calls it. An unresolved secret is a value too: it
keeps the reason, so that everything else in the file can still be checked.

Written forms: `"${NAME}"` (environment), `"${file:/path}"` (a relative path is taken from the directory
of the main file), `"${credential:name}"` (a systemd credential), or the text itself.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
    from pydantic.json_schema import JsonSchemaValue

Kind = Literal["literal", "environment", "file", "credential"]

_REFERENCE: Final = re.compile(r"\$\{\s*(?:(file|credential)\s*:\s*)?([^{}]*?)\s*\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITELLM: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_LARGEST: Final = 64 * 1024
"""Bytes of a secret file; a larger one is some other file."""


class Secret:
    """A text that must not be seen, or the reason why there is none."""

    __slots__ = ("_text", "kind", "problem", "reference")

    def __init__(
        self, text: str | None, *, kind: Kind = "literal", reference: str = "", problem: str = ""
    ) -> None:
        if (text is None) == (not problem):
            raise ValueError("a secret has either a text or a problem")
        self._text = text
        self.kind: Kind = kind
        self.reference = reference
        """the environment name, path or credential name; empty for a literal"""
        self.problem = problem
        """why it could not be resolved; empty when it was"""

    @property
    def resolved(self) -> bool:
        return self._text is not None

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell two secrets apart; empty where there is none."""
        return "" if self._text is None else fingerprint(self._text)

    @property
    def written(self) -> str:
        """The reference as it stands in the file; for a literal only that it is one."""
        forms = {"environment": "${%s}", "file": "${file:%s}", "credential": "${credential:%s}"}
        return forms[self.kind] % self.reference if self.kind in forms else "a literal"

    def reveal(self) -> str:
        """The text. Raises where there is none: callers ask `resolved` first."""
        if self._text is None:
            raise LookupError(f"the secret is not resolved: {self.problem}")
        return self._text

    def __str__(self) -> str:
        return f"secret#{self.fingerprint}" if self.resolved else "secret#unresolved"

    def __repr__(self) -> str:
        return f"<{self} from {self.written}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._text, self.kind, self.reference) == (other._text, other.kind, other.reference)

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.kind, self.reference))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle leaves the process: what comes out of it is a secret without its text.
        return (_from_pickle, (self.kind, self.reference, str(self)))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "examples": ["${OPENAI_API_KEY}", "${file:/run/secrets/openai}"]}


def fingerprint(text: str) -> str:
    """Short, one-way and stable, so that two runs can be compared."""
    return hashlib.sha256(b"fleetgate:secret:" + text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _from_pickle(kind: Kind, reference: str, shown: str) -> Secret:
    return Secret(None, kind=kind, reference=reference, problem=f"{shown} was not carried over")


@dataclass(frozen=True)
class SecretReader:
    """Resolves references against an injected environment, and remembers which files it read."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    base: Path = field(default_factory=Path)
    """directory that relative paths start from"""
    files: dict[Path, str] = field(default_factory=dict)
    """every file that was asked for, with the digest of its bytes (empty: it could not be read)"""

    def read(self, written: str) -> Secret:
        """Resolve what the file says."""
        text = written.strip()
        match = _REFERENCE.fullmatch(text)
        if match:
            scheme, name = match.groups()
            if scheme == "file":
                return self.from_file(name)
            return self.from_credential(name) if scheme == "credential" else self.from_environment(name)
        litellm = _LITELLM.fullmatch(text)
        if litellm:
            raise ValueError(f"{text!r} is the form of LiteLLM's files; write " + '"${' + litellm[1] + '}"')
        if "${" in text:
            raise ValueError('a reference must be the whole value; write "${NAME}" alone')
        if not text:
            return Secret(None, problem="is empty")
        return Secret(text)

    def from_environment(self, name: str) -> Secret:
        if not _NAME.fullmatch(name):
            raise ValueError('not an environment name inside "${…}"; write "${NAME}" or "${file:/path}"')
        text = self.environ.get(name, "").strip()
        if text:
            return Secret(text, kind="environment", reference=name)
        problem = f"environment variable {name} is {'empty' if name in self.environ else 'not set'}"
        return Secret(None, kind="environment", reference=name, problem=problem)

    def from_file(self, name: str) -> Secret:
        if not name:
            raise ValueError('no path after "file:"; write "${file:/path}"')
        text, problem = self._file(self.base / Path(name).expanduser())
        return Secret(text, kind="file", reference=name, problem=problem)

    def from_credential(self, name: str) -> Secret:
        """A file of `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=` names."""
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError('not a credential\'s name; write "${credential:name}"')
        directory = self.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            problem = "CREDENTIALS_DIRECTORY is not set: the unit has no LoadCredential="
            return Secret(None, kind="credential", reference=name, problem=problem)
        text, problem = self._file(Path(directory) / name)
        return Secret(text, kind="credential", reference=name, problem=problem)

    def _file(self, path: Path) -> tuple[str | None, str]:
        """Text and problem; exactly one of them is there."""
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            self.files[path] = ""
            return None, f"file {path} cannot be read ({(error.strerror or 'unknown').lower()})"
        self.files[path] = hashlib.sha256(data).hexdigest()
        if len(data) > _LARGEST:
            return None, f"file {path} is larger than 64 KiB, so it is no secret"
        try:
            text = data.decode().strip()
        except UnicodeDecodeError:
            return None, f"file {path} is not text"
        return (text, "") if text else (None, f"file {path} is empty")


CONTEXT_KEY: Final = "secrets"
"""Key of the pydantic validation context under which the `SecretReader` travels."""


def beside(value: str, info: ValidationInfo) -> str:
    """The validator of every setting that names a file: a relative path starts where those of secrets do."""
    reader: SecretReader = (info.context or {}).get(CONTEXT_KEY) or SecretReader()
    return str(reader.base / Path(value).expanduser())


def secret(value: Any, info: ValidationInfo) -> Secret:
    """The validator of every secret setting.

    Without a reader in the validation context nothing of the environment is visible, so that
    references stay unresolved.
    """
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        found = "nothing" if value is None else "not a text"
        raise PydanticCustomError(
            "secret", "{text}", {"text": f'{found}; write "${{NAME}}" or "${{file:/path}}"'}
        )
    reader = (info.context or {}).get(CONTEXT_KEY) or SecretReader()
    resolved: Secret = reader.read(value)
    return resolved
