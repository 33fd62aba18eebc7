"""Who may go on with an answer that broke off: the rules between two deployments. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetgate.domain import Model
    from fleetgate.live import Deployment

Resume = Literal["", "exact", "text"]
BY_IDS: Final = "llamacpp"
"""the kind of engine whose answers can be asked for by the ids of their tokens"""


def same_weights(one: Model, other: Model) -> bool:
    """Whether two models are for certain one file: by the digest, else by everything that a catalogue tells
    of it. What nobody told is not equal to anything."""
    if one.digest and other.digest:
        return one.digest == other.digest
    told = one.size is not None and one.params is not None
    return (
        told
        and (one.size, one.params, one.quantisation) == (other.size, other.params, other.quantisation)
        and one.name == other.name
    )


def begins(how: Resume, first: Deployment) -> str:
    """Why an answer of `first` could not be continued by anybody; empty: it can."""
    if how == "exact" and first.engine.kind.name != BY_IDS:
        return f"{first.engine.kind.name} does not tell the ids of tokens"
    if how == "text" and first.engine.kind.speaks != "openai":
        return "its dialect is another one"
    return ""


def followers(
    how: Resume, first: Deployment, others: Iterable[Deployment]
) -> tuple[list[Deployment], list[tuple[Deployment, str]]]:
    """Who can go on where `first` breaks off, and who not, and why."""
    can: list[Deployment] = []
    cannot: list[tuple[Deployment, str]] = []
    for other in others:
        if other.engine is first.engine:
            continue
        if reason := why_not(how, first, other):
            cannot.append((other, reason))
        else:
            can.append(other)
    return can, cannot


def why_not(how: Resume, first: Deployment, other: Deployment, *, chat: bool = True) -> str:
    """Why `other` cannot go on where `first` broke off; empty: it can."""
    if reason := begins(how, other):
        return reason
    if how == "exact":
        return "" if same_weights(first.model, other.model) else "other weights, or not known to be the same"
    if not same_weights(first.model, other.model) and first.model.name != other.model.name:
        return "another model"
    if chat and not other.engine.kind.continues:
        return f"{other.engine.kind.name} is not known to continue an answer"
    return ""
