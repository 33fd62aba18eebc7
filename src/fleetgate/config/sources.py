"""The files a configuration is made of: includes, overlays, and the record of what was read.

Merging: maps are merged key by key at every depth; lists and single values are replaced as a whole.
Included files lie under the file that names them (a later one over an earlier one), overlays over it.
An include that leads back to a file being read is an error. LiteLLM's `include` has its own rule:
lists are extended, everything else of the included file wins.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from fleetgate.config.findings import Document, Finding, Path, Place, Positions, finding
from fleetgate.config.paths import problem_with
from fleetgate.config.reader import read_bytes

if TYPE_CHECKING:
    from fleetgate.config.scalars import TypingRules


@dataclass(frozen=True)
class Files:
    """Reads files and remembers them: what to watch, and the digest of what was found."""

    digests: dict[FilePath, str] = field(default_factory=dict)
    """every file that was asked for; empty: it could not be read"""

    def read(self, path: FilePath) -> bytes:
        self.digests[path] = ""
        data = path.read_bytes()
        self.digests[path] = hashlib.sha256(data).hexdigest()
        return data

    def document(self, path: FilePath, rules: TypingRules) -> Document:
        """One file, without its includes."""
        problem = problem_with(path)
        if problem is not None:
            self.digests[path] = ""
            return Document(None, Positions({(): problem.place}), (problem,))
        return read_bytes(self.read(path), str(path), rules)


def with_includes(
    document: Document, base: FilePath, files: Files, rules: TypingRules, reading: tuple[FilePath, ...] = ()
) -> Document:
    """A document laid over the files it includes; `base` is the directory of its own file."""
    names, findings = _included(document)
    under = Document({}, Positions())
    for path, name in names:
        target = base / FilePath(name).expanduser()
        place = document.positions.at(path)
        if target.resolve() in reading:
            findings += (
                finding(
                    "error", place, path, f"{name} is already being read", "a file cannot include itself"
                ),
            )
            continue
        part = files.document(target, rules)
        if part.tree is None and part.findings:
            reason = part.findings[0]
            findings += (finding("error", place, path, f"{name}: {reason.message}", reason.hint),)
            continue
        part = as_map(with_includes(part, target.parent, files, rules, (*reading, target.resolve())))
        under = lay_over(under, without(part, "include"))
    return replace(lay_over(under, document), findings=under.findings + document.findings + findings)


def lay_over(under: Document, over: Document) -> Document:
    """Both trees as one, with the places of what is left."""
    if under.tree is None or over.tree is None:
        return replace(over if under.tree is None else under, findings=under.findings + over.findings)
    replaced: set[Path] = set()
    tree = _merge(under.tree, over.tree, (), replaced)
    values = {path: place for path, place in under.positions.values.items() if not _inside(path, replaced)}
    keys = {path: place for path, place in under.positions.keys.items() if not _inside(path, replaced)}
    positions = Positions(values | dict(over.positions.values), keys | dict(over.positions.keys))
    return Document(tree, positions, under.findings + over.findings, {**under.environ, **over.environ})


def as_map(document: Document) -> Document:
    """The document, or an error where its top level is no map."""
    if document.tree is None and document.findings:
        return document
    if isinstance(document.tree, dict):
        return document
    found = "a list" if isinstance(document.tree, list) else "a single value"
    wrong = finding(
        "error",
        document.positions.at(()),
        (),
        f"the file is {found}",
        "write a map of settings, such as nodes:",
    )
    return replace(document, tree=None, findings=(*document.findings, wrong))


def without(document: Document, key: str) -> Document:
    """The document without one top-level key."""
    if not isinstance(document.tree, dict):
        return document
    return replace(document, tree={name: value for name, value in document.tree.items() if name != key})


def litellm_includes(
    document: Document, base: FilePath, files: Files, rules: TypingRules, reading: tuple[FilePath, ...] = ()
) -> Document:
    """LiteLLM's own rule, also for nested files: lists grow, every other key of an included file wins."""
    names, findings = _included(document)
    whole = document
    for path, name in names:
        target = base / FilePath(name)
        place = document.positions.at(path)
        if target.resolve() in reading:
            findings += (
                finding(
                    "error", place, path, f"{name} is already being read", "a file cannot include itself"
                ),
            )
            continue
        part = files.document(target, rules)
        if isinstance(part.tree, dict):
            part = litellm_includes(part, target.parent, files, rules, (*reading, target.resolve()))
            whole = _extend(whole, without(part, "include"))
        else:
            reason = part.findings[0].message if part.findings else "it holds no map"
            findings += (finding("error", place, path, f"{name}: {reason}", "name a YAML file with a map"),)
    return replace(whole, findings=whole.findings + findings)


def _included(document: Document) -> tuple[list[tuple[Path, str]], tuple[Finding, ...]]:
    """The file names of `include`, each with its path in the tree."""
    if not isinstance(document.tree, dict) or document.tree.get("include") is None:
        return [], ()
    listed = document.tree["include"]
    entries: list[tuple[Path, Any]] = [(("include",), listed)]
    if isinstance(listed, list):
        entries = [(("include", index), name) for index, name in enumerate(listed)]
    if not all(isinstance(name, str) for _, name in entries):
        place = document.positions.at(("include",))
        wrong = finding("error", place, ("include",), "not a list of files", "write include: [more.yaml]")
        return [], (wrong,)
    return entries, ()


def _merge(under: Any, over: Any, path: Path, replaced: set[Path]) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        merged = dict(under)
        for key, value in over.items():
            merged[key] = _merge(under[key], value, (*path, key), replaced) if key in under else value
        return merged
    replaced.add(path)
    return over


def _inside(path: Path, roots: set[Path]) -> bool:
    return bool(roots) and any(path[:length] in roots for length in range(len(path) + 1))


def _extend(whole: Document, part: Document) -> Document:
    tree = dict(whole.tree)
    values, keys = dict(whole.positions.values), dict(whole.positions.keys)
    for name, value in part.tree.items():
        grown = isinstance(value, list) and isinstance(tree.get(name), list)
        shift = len(tree[name]) if grown else 0
        tree[name] = tree[name] + value if grown else value
        for places, added in ((values, part.positions.values), (keys, part.positions.keys)):
            if not grown:
                for known in [known for known in places if known[:1] == (name,)]:
                    del places[known]
            for known, place in added.items():
                if known[:1] != (name,) or (grown and len(known) < 2):
                    continue
                moved: Path = (
                    (name, known[1] + shift, *known[2:]) if grown and isinstance(known[1], int) else known
                )
                places[moved] = place
    return replace(
        whole, tree=tree, positions=Positions(values, keys), findings=whole.findings + part.findings
    )


def override(document: Document, path: Path, value: Any, place: Place) -> Document:
    """The document with one value from elsewhere (environment or flag), at its own place."""
    tree: Any = value
    for key in reversed(path):
        tree = {key: tree}
    return lay_over(document, Document(tree, Positions({path: place}, {path: place})))
