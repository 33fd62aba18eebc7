"""The part of the admin API about the answer cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.errors import Refused, Source
from fleetgate.http import answers, forms
from fleetgate.http.keys import actor
from fleetgate.http.table import Access, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fleetgate.cache.owner import Cache
    from fleetgate.domain import Principal
    from fleetgate.http.call import Call
    from fleetgate.keys.changes import Actor

AT = "/admin/api/cache"


class Flush(forms.Form):
    """What is forgotten: everything, or the answers to one key."""

    key: str | None = None
    """id or alias"""


def rows(
    cache: Cache,
    principal_of: Callable[[str], Awaitable[Principal]],
    note: Callable[[Actor, str, str, dict[str, Any], dict[str, Any]], Awaitable[None]],
) -> Iterator[Row]:
    """`principal_of` tells whom a key stands for, by its id or alias; `note` writes a line of the trail."""

    async def show(call: Call) -> None:
        await call.json(cache.figures())

    async def flush(call: Call) -> None:
        form = await forms.filled(call, Flush)
        if cache.settings is None:
            raise Refused(
                409,
                "no_cache",
                "no answers are kept here",
                source=Source.GATEWAY,
                advice="Configure `cache` first.",
            )
        issuer = None
        if form.key is not None:
            if cache.settings.share:
                raise Refused(
                    400,
                    "shared_cache",
                    "all keys share one cache: an answer belongs to no key",
                    param="key",
                    advice="Leave `key` out to forget everything.",
                )
            issuer = (await principal_of(form.key)).id
        flushed = await cache.flush(issuer)
        if flushed is None:
            raise Refused(
                503,
                "shared_state_down",
                "the shared state does not answer; its answers expire by themselves",
                source=Source.GATEWAY,
                retry_after=5.0,
            )
        await note(actor(call), "cache.flush", issuer or "everything", {}, {"flushed": flushed})
        await call.json({"flushed": flushed, "key": issuer})

    yield Row(
        "GET",
        AT,
        Access.VIEWER,
        show,
        "The answer cache: sizes and counts.",
        query=(),
        gives=answers.CacheFigures,
    )
    yield Row(
        "POST",
        f"{AT}/flush",
        Access.ADMIN,
        flush,
        "Forget kept answers: all, or those to one `key` (id or alias).",
        store="goes on; 503 where `key` must be looked up",
        audited=True,
        query=(),
        request=Flush,
        gives=answers.Flushed,
        refuses=(404, 409),
    )
