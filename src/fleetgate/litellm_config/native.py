"""The tree in our form while it grows, and for each part of it where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetgate import units
from fleetgate.config.findings import Positions

if TYPE_CHECKING:
    from fleetgate.config.findings import Document, Path


@dataclass
class Native:
    """`origins`: a path of the new tree -> the path in the LiteLLM file."""

    tree: dict[str, Any] = field(default_factory=dict, repr=False)
    origins: dict[Path, Path] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: Any, origin: Path | None = None) -> None:
        """Writes a value at a path of maps."""
        holder = self.tree
        for part in path[:-1]:
            holder = holder.setdefault(part, {})
        holder[path[-1]] = value
        if origin is not None:
            self.origins[path] = origin

    def came_from(self, path: Path, origin: Path) -> None:
        """Where a part came from, unless that is known."""
        self.origins.setdefault(path, origin)

    def positions(self, document: Document) -> Positions:
        places = {path: document.positions.key(origin) for path, origin in self.origins.items()}
        return Positions({(): document.positions.at(()), **places})


def duration(seconds: float) -> str:
    """Seconds as our form writes them, to the millisecond; something written is never nothing."""
    return units.print_duration(max(round(seconds, 3), 0.001))
