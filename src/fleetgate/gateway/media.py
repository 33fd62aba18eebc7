"""Addresses in a request, before anybody is asked: whom they may be handed to, and what takes their place.

Providers get them as they are written. An engine of one's own would fetch from inside one's network whatever
a caller names, so it gets none, unless its entry says that it guards that itself (`fetches_media`). With
`gateway.fetch_media` the gateway fetches the pictures, guarded (`upstream.media`), and such engines get the
data. Fetching stands between recalling and planning: once per request, whoever is asked in the end.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from typing import TYPE_CHECKING, Any, Final

from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway import addresses
from fleetgate.gateway.body import IN_MEMORY
from fleetgate.routing.availability import Reason
from fleetgate.upstream.media import NotFetched, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.config.schema import FetchMedia
    from fleetgate.gateway.addresses import Addresses
    from fleetgate.gateway.body import Body, BodyBudget
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route
    from fleetgate.upstream.media import Found
    from fleetgate.upstream.media import Media as Fetching

CODE: Final = "address_not_fetched"
_ADVICE: Final = (
    "Send the picture itself as a `data:` URL, or enable `gateway.fetch_media`; an engine with a guard of its "
    "own gets addresses with `fetches_media: true`."
)
_SEND_DATA: Final = "Send the picture itself as a `data:` URL."


class Media:
    """What became of the addresses in one body. `close` gives its memory back; it may be called twice."""

    __slots__ = ("_budget", "_file", "_held", "_rest", "note", "refused")

    def __init__(self, refused: Refused | None = None) -> None:
        self.refused = refused
        """why own engines cannot be asked; None: the data is there"""
        self.note = ""
        """for the record"""
        self._rest = b""
        self._file: Any = None
        self._budget: BodyBudget | None = None
        self._held = 0

    def rest(self) -> bytes:
        """The members of the body with data in the place of addresses. Raises AttemptFailed."""
        if self.refused is not None:
            raise AttemptFailed(FailureClass.ABSENT_FEATURE, self.refused.message, status=400)
        if self._file is None:
            return self._rest
        self._file.seek(0)
        return bytes(self._file.read())

    def keep(self, rest: bytes, budget: BodyBudget) -> None:
        budget.take(len(rest))
        self._budget, self._held, self._rest = budget, len(rest), rest
        if len(rest) > IN_MEMORY:
            self._file = tempfile.TemporaryFile(prefix="fleetgate-media-")  # noqa: SIM115  (closed in close)
            self._file.write(rest)
            self._rest = b""

    def objection(self, candidate: Deployment) -> Reason | None:
        """What stands against candidates that take data only, where there is none."""
        return Reason.ADDRESSES if self.refused is not None and takes_data_only(candidate) else None

    def close(self) -> None:
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self._held)
        self._rest = b""
        if self._file is not None:
            self._file.close()


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


def takes_data_only(candidate: Deployment) -> bool:
    """Whether addresses are kept from it."""
    engine = candidate.engine
    return engine.node.local and not engine.fetches_media


async def look(
    body: Body, route: Route, rule: FetchMedia | None, fetching: Fetching, budget: BodyBudget
) -> Media | None:
    """What becomes of the addresses in a body; None: there are none, or everybody may have them.

    Raises Refused where nobody is left who takes the request.
    """
    candidates = [one for step in route.steps for one in step.candidates]
    if not any(map(takes_data_only, candidates)):
        return None
    found = found_in(body)
    if found is None:
        return None
    media = Media()
    try:
        if body.original is not None and body.original.refused is not None:
            raise _kept_back(found)  # it passes as it is written, or not at all
        await _fetch(media, found, rule, fetching, budget)
    except Refused as refused:
        if refused.status != 400 or all(map(takes_data_only, candidates)):
            raise
        media.refused = refused
    return media


def found_in(body: Body) -> Addresses | None:
    """The addresses in a body. Where its caller's own words may pass, theirs count as well."""
    if body.original is not None:
        written = addresses.find(body.original.read())
        if written.places and body.original.refused is not None:
            return written
    if not body.may_hold_addresses:
        return None
    found = addresses.find(b"{" + body.rest() + b"}")
    return found if found.places else None


def refusal_of(body: Body) -> Refused | None:
    """Why own engines do not take a body where nothing is fetched. For explanations."""
    found = found_in(body)
    return _kept_back(found) if found is not None else None


async def _fetch(
    media: Media, found: Addresses, rule: FetchMedia | None, fetching: Fetching, budget: BodyBudget
) -> None:
    places = found.places
    other = next((one for one in places if not one.fetchable), None)
    if rule is None or other is not None:
        raise _kept_back(found)
    texts = list(dict.fromkeys(place.text.strip() for place in places))
    if len(texts) > rule.count:
        raise _not_fetched(places[rule.count].path, f"{len(texts)} addresses: at most {rule.count} are fetched")
    paths = {place.text.strip(): place.path for place in reversed(places)}
    room = _Room(rule.most, budget)
    try:
        got = await _all(texts, paths, rule, fetching, room.take)
        size = sum(len(one.data) for one in got.values())
        if size > IN_MEMORY:
            rest = await asyncio.to_thread(_put, found, got)
        else:
            rest = _put(found, got)
    finally:
        room.close()
    media.keep(rest, budget)
    hosts = ", ".join(dict.fromkeys(read(text).host for text in texts))
    media.note = f"{len(texts)} {'picture' if len(texts) == 1 else 'pictures'} fetched from {hosts}: {size} bytes"


async def _all(
    texts: list[str],
    paths: dict[str, str],
    rule: FetchMedia,
    fetching: Fetching,
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
        f"`{place.path}`: addresses are not handed to engines here, which would fetch from them",
        param=place.path,
        advice=_ADVICE if place.fetchable else "Only pictures in messages are fetched, from http and https.",
    )


def _not_fetched(path: str, why: str) -> Refused:
    return Refused(400, CODE, f"`{path}` was not fetched: {why}", param=path, advice=_SEND_DATA)
