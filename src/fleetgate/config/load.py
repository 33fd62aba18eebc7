"""Text -> `Loaded`: the one way a configuration comes in.

Reading, merging, overriding, validating and checking happen here in this order, and every problem of
all of them is reported at once. The result is whole or nothing: `settings` is None as soon as there is
one error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleetgate.config.checks import Subject, check, check_tree
from fleetgate.config.environment import MASTER_KEY, Given, read_environment
from fleetgate.config.findings import (
    Document,
    Finding,
    Place,
    Positions,
    arrange,
    errors,
    finding,
)
from fleetgate.config.origins import Origin, origins
from fleetgate.config.reader import read_text
from fleetgate.config.scalars import YAML_1_1, YAML_1_2, TypingRules
from fleetgate.config.secrets import Secret, SecretReader
from fleetgate.config.sources import (
    Files,
    as_map,
    lay_over,
    litellm_includes,
    override,
    with_includes,
)
from fleetgate.config.validate import validate

if TYPE_CHECKING:
    from fleetgate.config.schema import Settings

Convert = Callable[[Document, Mapping[str, str]], Document]
"""A reader of LiteLLM's form: its document and the environment -> a document in our form.

The result's positions should point at the lines of the LiteLLM file, so that later findings do too;
its `environ` holds variables that the file itself sets, and its master key as `FLEETGATE_MASTER_KEY`,
which it has judged already.
"""

Further = Callable[["Settings", Positions], Iterable[Finding]]
"""Looks at settings for what is not known here."""

TEXT: Final = "<text>"
_LISTEN: Final = ("gateway", "listen")


@dataclass(frozen=True)
class Loaded:
    """A configuration as it was read."""

    settings: Settings | None
    """None where there is any error"""
    findings: tuple[Finding, ...]
    document: Document
    fingerprint: str
    """changes when any file changes that was read, secret files included"""
    sources: tuple[Path, ...]
    """every file that was asked for, there or not: what to watch"""
    origins: tuple[Origin, ...] = ()
    master_key: Secret | None = None
    """from the environment, else from a LiteLLM file; None where nothing names one"""
    litellm: bool = False

    @property
    def tree(self) -> Any:
        """What was written, merged, before defaults."""
        return self.document.tree

    @property
    def errors(self) -> tuple[Finding, ...]:
        return errors(self.findings)


def is_litellm(tree: Any) -> bool:
    """Whether a tree looks like a LiteLLM configuration."""
    return isinstance(tree, dict) and "model_list" in tree


def load(
    source: Path | str | None,
    environ: Mapping[str, str],
    overlays: Sequence[Path] = (),
    *,
    flags: Mapping[str, Any] | None = None,
    convert: Convert | None = None,
    base: Path | None = None,
    further: Further | None = None,
) -> Loaded:
    """Reads a configuration.

    A `Path` is a file, a `str` is the text itself (relative paths in it start at `base`), None is no
    configuration at all. `flags` are values from the command line by their dotted key, such as
    `{"gateway.listen": ("127.0.0.1:4001",)}`. `further` looks at what was understood, for what is not
    known here.
    """
    files = Files()
    home = source.parent if isinstance(source, Path) else base or Path()
    document, foreign = _read(source, home, files, convert, environ)
    for overlay in overlays:
        part = as_map(files.document(overlay, YAML_1_2))
        if part.tree is not None:
            part = with_includes(part, overlay.parent, files, YAML_1_2, (overlay.resolve(),))
        document = lay_over(document, part)
    reader = SecretReader({**environ, **document.environ}, home, files.digests)
    # The document's own variables are for its references; the gateway's settings come from outside.
    given = read_environment(SecretReader(environ, home, files.digests))
    document = _override(document, given, flags or {})
    judged = _judge(document, reader, given, litellm=foreign)
    if further is None or judged.settings is None:
        return judged
    found = further(judged.settings, judged.document.positions)
    return replace(judged, findings=arrange((*judged.findings, *found)))


def _read(
    source: Path | str | None,
    home: Path,
    files: Files,
    convert: Convert | None,
    environ: Mapping[str, str],
) -> tuple[Document, bool]:
    """The main document with its includes, and whether it was LiteLLM's."""
    if source is None:
        return Document({}), False
    document = as_map(_main(source, files, YAML_1_2))
    reading = (source.resolve(),) if isinstance(source, Path) else ()
    if not is_litellm(document.tree):
        if document.tree is None:
            return document, False
        return with_includes(document, home, files, YAML_1_2, reading), False
    document = _main(source, files, YAML_1_1)
    document = litellm_includes(document, home, files, YAML_1_1, reading)
    if convert is None:
        place = document.positions.key(("model_list",))
        hint = "this command reads only native files"
        wrong = finding("error", place, ("model_list",), "this is a LiteLLM configuration", hint)
        return replace(document, tree=None, findings=(*document.findings, wrong)), True
    native = convert(document, environ)
    return replace(native, findings=document.findings + native.findings), True


def _main(source: Path | str, files: Files, rules: TypingRules) -> Document:
    return files.document(source, rules) if isinstance(source, Path) else read_text(source, TEXT, rules)


def _override(document: Document, given: Given, flags: Mapping[str, Any]) -> Document:
    """Environment over file, flags over both."""
    if not isinstance(document.tree, dict):
        return document
    if given.listen and given.listen_from is not None:
        document = override(document, _LISTEN, list(given.listen), given.listen_from)
    for key, value in flags.items():
        listed = list(value) if isinstance(value, tuple) else value
        document = override(document, tuple(key.split(".")), listed, Place(f"flag {key}"))
    return document


def _judge(document: Document, reader: SecretReader, given: Given, *, litellm: bool) -> Loaded:
    findings = [*document.findings, *given.findings]
    settings: Settings | None = None
    if document.tree is not None:
        validated = validate(document, reader)
        findings += validated.findings
        if validated.partial is None:
            findings += check_tree(document)
        else:
            subject = Subject(validated.partial, document, given.master_key, names_lost=validated.names_lost)
            findings += check(subject)
        settings = validated.settings
    arranged = arrange(findings)
    if errors(arranged):
        settings = None
    return Loaded(
        settings,
        arranged,
        document,
        _fingerprint(document, reader.files),
        tuple(reader.files),
        origins(settings, document) if settings is not None else (),
        given.master_key or _own_master_key(document),
        litellm,
    )


def _own_master_key(document: Document) -> Secret | None:
    """Of a LiteLLM file: there the master key is a setting."""
    text = document.environ.get(MASTER_KEY)
    return Secret(text) if text else None


def _fingerprint(document: Document, digests: Mapping[Path, str]) -> str:
    """Over every file; a text without files counts by its tree."""
    total = hashlib.sha256()
    for path in sorted(digests):
        total.update(f"{path}\0{digests[path]}\0".encode("utf-8", "surrogateescape"))
    if not digests:
        total.update(repr(document.tree).encode("utf-8", "surrogatepass"))
    return total.hexdigest()
