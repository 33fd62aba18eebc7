"""Declarations about machines: how one is switched on, and what its memory can do."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from fleetgate import units
from fleetgate.config.block import LATER, Block, Duration, SecretRef, Strings

FOREVER: Final = -1.0
"""What `keep_alive: forever` is read as."""


def _bandwidth(value: Any) -> int:
    """`960GB/s` -> bytes per second."""
    if isinstance(value, str) and value.rstrip().endswith("/s"):
        return units.size(value.rstrip().removesuffix("/s").rstrip())
    raise ValueError(f"{value!r} is not a bandwidth; write it with its unit, such as 960GB/s")


def _keep(value: Any) -> float:
    """A duration, or `forever`."""
    return FOREVER if value == "forever" else units.duration(value)


Bandwidth = Annotated[
    int,
    BeforeValidator(_bandwidth, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "bandwidth"}),
]
"""bytes per second; written `960GB/s`"""
Keep = Annotated[
    float, BeforeValidator(_keep, json_schema_input_type=str), Field(json_schema_extra={"unit": "duration"})
]
"""seconds, or FOREVER; written `10m` or `forever`"""


class Wake(Block):
    """How a machine is switched on: a packet to its network card, a command, or a call. All that are
    written are used."""

    mac: Strings = Field(
        default=(), description="Address of its network card, or of several, for Wake-on-LAN."
    )
    broadcast: Strings = Field(
        default=(),
        description="Broadcast address of its network, such as 192.168.1.255; default: those of this "
        "machine's networks that hold the node's address.",
    )
    port: int = Field(default=9, ge=1, le=65535, description="UDP port of the packet.")
    relay: str = Field(
        default="", description="A node on the same network that sends the packet.", json_schema_extra=LATER
    )
    command: Strings = Field(
        default=(), description="A program and its arguments that switches it on; no shell is between."
    )
    url: SecretRef | None = Field(
        default=None, description="An address that is called to switch it on: a smart plug, a hypervisor."
    )
    method: Literal["GET", "POST", "PUT"] = Field(default="POST", description="How `url` is called.")
    headers: dict[str, SecretRef] = Field(default={}, description="Headers of that call.")
    body: str = Field(default="", description="Body of that call.")
    within: Duration = Field(
        default=180.0, gt=0, description="How long it may take until an engine of it answers."
    )

    @model_validator(mode="after")
    def _some_way(self) -> Wake:
        if not (self.mac or self.command or self.url):
            raise ValueError("nothing says how it is switched on; write mac:, command: or url:")
        return self


class Affinity(Block):
    """Conversations and long beginnings go where they went before: the engine still holds their cache."""

    keep: Duration = Field(default=300.0, ge=0, description="How long it is remembered; `0s`: not at all.")
    entries: int = Field(default=20_000, ge=1, description="Most beginnings and conversations remembered.")
    headers: Strings = Field(
        default=(),
        description="Further headers in which callers name their conversation, beside those of known "
        "clients (`x-session-id`, `x-claude-code-session-id`, `session-id`, `x-session-affinity`, "
        "`x-openwebui-chat-id`).",
    )
