"""A request's task: what choosing a machine for it needs to know."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.domain import PICTURES, Capability
from fleetgate.forecast.task import Task, bits
from fleetgate.gateway.demands import BLOCK

if TYPE_CHECKING:
    from fleetgate.gateway.body import Body

_NEEDS: Final = MappingProxyType({one: bits((one,)) for one in Capability})
BYTES_PER_SECOND: Final = 16_000
"""of sound, as it is usually sent: only to compare uploads with each other"""
_READ: Final = frozenset({Capability.CHAT, Capability.COMPLETE})
"""what leaves a state behind that the next request may use"""


def task_of(
    body: Body, capability: Capability, principal: str, conversation: str, *, beginning: bool
) -> Task:
    """`beginning`: there is a choice, so it matters who has seen the prompt before."""
    wanted = body.wanted
    needs = _NEEDS[capability]
    units = 1.0
    if capability is Capability.CHAT:
        needs |= body.needs
    elif capability is Capability.EMBED:
        units = float(body.inputs)
    elif capability in PICTURES:
        units = float(wanted.choices)
    elif capability is Capability.SPEAK:
        units = float(body.characters or 1)
    elif body.upload is not None:
        units = max(1.0, body.size / BYTES_PER_SECOND)
    read = capability in _READ
    if conversation and read:  # one name for two models is two conversations
        conversation = f"{conversation} {wanted.model}"
    return Task(
        capability,
        needs,
        body.tokens if body.upload is None else 0,  # what a file holds is no prompt that has to fit
        wanted.max_tokens,
        wanted.choices,
        units,
        principal,
        conversation if read else "",
        blocks(wanted.model, body.opening) if beginning and read else (),
    )


def blocks(model: str, opening: bytes) -> tuple[int, ...]:
    """Hashes of the model with the first block, with the first two, and so on. Other ones in each process."""
    found = []
    before = hash(model)
    for begin in range(0, len(opening) - BLOCK, BLOCK):
        before = hash((before, opening[begin : begin + BLOCK]))
        found.append(before)
    return tuple(found)
