"""Addresses in a request, before anybody is asked: whom they may be handed to, and what takes their place.

Providers get them as they are written. An engine of one's own would fetch from inside one's network whatever
a caller names, so it gets none, unless its entry says that it guards that itself (`fetches_media`). With
`gateway.fetch_media` the gateway fetches the pictures, guarded (`upstream.media`), and such engines get the
data. Fetching stands between recalling and planning: once per request, whoever is asked in the end.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

from fleetgate.errors import Refused
from fleetgate.gateway import addresses
from fleetgate.gateway.addresses import Addresses
from fleetgate.gateway.replaced import Replaced, takes_data_only
from fleetgate.gateway.spool import IN_MEMORY
from fleetgate.upstream.media import NotFetched, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.config.schema import FetchMedia
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.gateway.spool import BodyBudget
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route
    from fleetgate.upstream.media import Found, Media

CODE: Final = "address_not_fetched"
_ADVICE: Final = (
    "Send the picture itself as a `data:` URL, or enable `gateway.fetch_media`; an engine that guards itself "
    "gets addresses with `fetches_media: true`."
)
_SEND_DATA: Final = "Send the picture itself as a `data:` URL."


class _Room:
    """Counts what is fetched for one request, while it is not yet part of anything."""

    def __init__(self, most: int, budget: BodyBudget) -> None:
        self._most = most
        self._budget = budget
        self._held = 0

    def take(self, size: int) -> None:
        if self._held + size > self._most:
            raise NotFetched("", f"together they are larger than {self._most} bytes")
        self._budget.take(size)
        self._held += size

    def close(self) -> None:
        self._budget.give_back(self._held)


def may_matter(body: Body) -> bool:
    """Whether there is something to look for."""
    return body.may_hold_addresses or body.original is not None or body.upload is not None


async def look(gateway: Gateway, body: Body, route: Route) -> None:
    """Find what becomes of the addresses in a body, and leave that with it (`body.replaced`).

    Raises Refused where nobody is left who takes the request.
    """
    candidates = [one for step in route.steps for one in step.candidates]
    if not any(map(takes_data_only, candidates)):
        return
    if body.size <= IN_MEMORY:
        found, untranslated = found_in(body)
    else:  # as long as it is looked at, others have their turn
        found, untranslated = await asyncio.to_thread(found_in, body)
    if found is None:
        return
    replaced = body.replaced = Replaced()
    try:
        if untranslated:
            raise _kept_back(found)  # as it is written, or not at all
        await _fetch(replaced, found, gateway)
    except Refused as refused:
        if refused.status != 400 or all(map(takes_data_only, candidates)):
            raise
        replaced.refused = refused


def found_in(body: Body) -> tuple[Addresses | None, bool]:
    """The addresses in a body, and whether it cannot be sent in other words than its caller's.

    What a translation leaves out counts too: it would stand in the caller's own words, where those pass.
    """
    if body.upload is not None:
        found = addresses.in_form(body.upload)
        return (found if found.places else None), True
    written = addresses.find(body.original.read()) if body.original is not None else None
    if written is not None and not written.places:
        return None, False
    if body.original is not None and body.original.refused is not None:
        return written, True
    between = addresses.find(b"{" + body.rest() + b"}") if body.may_hold_addresses else None
    if between is not None and between.places:
        return between, False
    return (Addresses.none() if written is not None else None), False


def keeps_from(candidate: Deployment, raw: bytes) -> bool:
    """Whether a body that was read before is not for a candidate as its caller wrote it."""
    return takes_data_only(candidate) and bool(addresses.find(raw).places)


def foreseen(gateway: Gateway, body: Body) -> Replaced | None:
    """What would become of them, without fetching anything. For explanations."""
    found, _ = found_in(body)
    if found is None or not found.places:
        return None
    replaced = Replaced()
    if _fetchable(found, gateway):
        replaced.note = f"{len(found.places)} addresses: the gateway fetches them, and sends data"
    else:
        replaced.refused = _kept_back(found)
    return replaced


def _fetchable(found: Addresses, gateway: Gateway) -> bool:
    return gateway.settings.gateway.fetch_media is not None and all(one.fetchable for one in found.places)


async def _fetch(replaced: Replaced, found: Addresses, gateway: Gateway) -> None:
    places, rule, budget = found.places, gateway.settings.gateway.fetch_media, gateway.bodies
    if not places:
        return  # they are left out of what is sent
    if rule is None or not _fetchable(found, gateway):
        raise _kept_back(found)
    texts = list(dict.fromkeys(place.text.strip() for place in places))
    if len(texts) > rule.count:
        why = f"there are {len(texts)} addresses, and at most {rule.count} are fetched"
        raise _not_fetched(places[rule.count].path, why)
    paths = {place.text.strip(): place.path for place in reversed(places)}
    room = _Room(rule.most, budget)
    try:
        got = await _all(texts, paths, rule, gateway.media, room.take)
        size = sum(len(one.data) for one in got.values())
        if size > IN_MEMORY:
            rest = await asyncio.to_thread(_put, found, got)
        else:
            rest = _put(found, got)
    finally:
        room.close()
    size_kept = len(rest)
    budget.take(size_kept)
    replaced.keep(rest, lambda: budget.give_back(size_kept))
    hosts = ", ".join(dict.fromkeys(read(text).host for text in texts))
    replaced.note = f"{len(texts)} fetched from {hosts}: {size} bytes"


async def _all(
    texts: list[str],
    paths: dict[str, str],
    rule: FetchMedia,
    fetching: Media,
    take: Callable[[int], None],
) -> dict[str, Found]:
    """Everything at once; the first that fails ends it. Raises Refused."""
    got: dict[str, Found] = {}
    refused: list[Refused] = []

    async def one(text: str) -> None:
        try:
            async with asyncio.timeout(rule.timeout):
                got[text] = await fetching.fetch(text, rule.from_, take)
        except NotFetched as error:
            raise _not_fetched(paths[text], str(error)) from None
        except TimeoutError:
            why = f"{read(text).host}: it was not there within {rule.timeout:g} s"
            raise _not_fetched(paths[text], why) from None

    try:
        async with asyncio.TaskGroup() as group:
            for text in texts:
                group.create_task(one(text))
    except* Refused as several:
        refused += [error for error in several.exceptions if isinstance(error, Refused)]
    if refused:
        raise refused[0]
    return got


def _put(found: Addresses, got: dict[str, Found]) -> bytes:
    for place in found.places:
        one = got[place.text.strip()]
        place.put(f"data:{one.type};base64,{base64.b64encode(one.data).decode('ascii')}")
    return found.encode()


def _kept_back(found: Addresses) -> Refused:
    """Nothing is fetched: because it is off, or because it is of a form that is never replaced."""
    place = next((one for one in found.places if not one.fetchable), found.places[0])
    return Refused(
        400,
        CODE,
        f"`{place.path}`: engines here get no addresses, because they would fetch from inside this network",
        param=place.path,
        advice=_ADVICE
        if place.fetchable
        else "Only pictures and sounds in messages are fetched, from http and https.",
    )


def _not_fetched(path: str, why: str) -> Refused:
    return Refused(400, CODE, f"`{path}` was not fetched: {why}", param=path, advice=_SEND_DATA)
