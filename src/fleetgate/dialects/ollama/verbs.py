"""The verbs that manage an Ollama's models. None of them is done through this dialect, but for loading."""

from __future__ import annotations

from typing import Final

from fleetgate.errors import Refused, Source

VERBS: Final = (
    ("POST", "/api/pull", "pull"),
    ("POST", "/api/push", "push"),
    ("POST", "/api/create", "create"),
    ("POST", "/api/copy", "copy"),
    ("DELETE", "/api/delete", "delete"),
    ("POST", "/api/blobs/{digest}", "create"),
    ("HEAD", "/api/blobs/{digest}", "create"),
)
"""method, path and verb"""
UNLOAD: Final = "unload"
"""a request without a prompt and with `keep_alive: 0`"""


def refusal(verb: str) -> Refused:
    """What whoever tries is told."""
    return Refused(
        403,
        "not_managed_here",
        f"`{verb}` is not done through the gateway's Ollama dialect",
        advice=(
            "Manage the model at its engine; /admin/api/nodes lists engines,"
            " POST /admin/api/deployments/load and /unload have it load a model or throw it out."
        ),
        source=Source.GATEWAY,
    )
