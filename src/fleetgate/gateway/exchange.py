"""The life of one exchange. `Exchange.run` is the table of contents: one line per stage.

0 head (in `http`), 1 body, 2 resolve, 3 admit, 4 recall, 5 plan, 6 seat, 7 authorise, 8 attempt
(5 to 8 in `walk`), 9 relay, 10 settle. Stages 3, 4 and 7 have nothing to decide yet: limits, cache
and money join there.

Whatever ends the exchange early (the caller left, the deadline, a stall, the end of a drain) calls
`stop` with its class: the task is cancelled once, sockets close at once, and stage 10 still runs,
exactly once, in `finally`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.domain import Capability, Entry, Principal, Usage
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway import body as bodies
from fleetgate.gateway import relay, verdicts
from fleetgate.gateway.attempt import Flow, Whole
from fleetgate.gateway.downstream import STREAM_HEADERS, Downstream
from fleetgate.gateway.stall import Stall
from fleetgate.gateway.walk import Errand, Walk

if TYPE_CHECKING:
    from fleetgate.gateway.downstream import Headers, Receive, Send
    from fleetgate.gateway.gateway import Gateway, Head
    from fleetgate.routing.plan import Route

KEEP_ALIVE: Final = sse.comment("keep-alive")
WHITE_SPACE: Final = b" "
NO_USAGE: Final = Usage()


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        gateway: Gateway,
        receive: Receive,
        send: Send,
        *,
        principal: Principal,
        capability: Capability,
        row: str,
        request_id: str,
        head: Head,
    ) -> None:
        self._gateway = gateway
        self._receive = receive
        self._principal = principal
        self._capability = capability
        self._row = row
        self._request_id = request_id
        self._head = head
        self._down = Downstream(receive, send, gateway.spawn, self._caller_left)
        self._task = asyncio.current_task(gateway.loop)
        self._began = gateway.clock()
        self._at = gateway.wall()
        self._body: bodies.Body | None = None
        self._body_size = 0
        self._walk: Walk | None = None
        self._usage = NO_USAGE
        self._outcome = "ok"
        self._note = ""
        self._stopped: FailureClass | None = None
        self._settled = self._over = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: Stall | None = None

    async def run(self) -> None:
        """Everything between the head of the request and the last byte of the answer."""
        self._gateway.began(self)
        try:
            body = await self._read_body()  # 1
            route = self._resolve(body)  # 2
            self._watch(body, route)
            walk = self._walk = self._begin_walk(body, route)
            got = await walk.run(route)  # 5 to 8, and 9 for streams
            if got is None:
                raise verdicts.refusal(walk.last_failure, walk.nobody, route, self._gateway.clock())
            await self._finish(got)
        except Refused as refused:
            await self._refuse(refused)
        except bodies.CallerGone:
            self._outcome = FailureClass.CALLER_GONE.value
        except asyncio.CancelledError:
            await self._after_cancel()
        finally:
            self._settle()  # 10
            self._over = True
            self._let_go()

    def stop(self, why: FailureClass) -> None:
        """End the exchange from outside, once."""
        if self._stopped is None and not self._over and self._task is not None:
            self._stopped = why
            self._task.cancel()

    # -- the stages ----------------------------------------------------------------------------------

    async def _read_body(self) -> bodies.Body:
        gateway = self._gateway
        limit = gateway.settings.gateway.body_limit
        raw, held = await bodies.read(self._receive, limit, self._head.length, gateway.bodies)
        self._body_size = held
        try:
            self._body = bodies.parse(raw, gateway.bodies)
        except BaseException:
            gateway.bodies.give_back(held)
            raise
        return self._body

    def _resolve(self, body: bodies.Body) -> Route:
        name = body.wanted.model
        names = self._gateway.names
        route = names.resolve(name)
        permissions, principal = self._gateway.permissions, self._principal
        if route is None:
            raise verdicts.unknown_model(name, permissions.near(principal, names, name))
        if not permissions.may_ask(principal, route):
            raise verdicts.not_allowed(name)
        return route

    def _watch(self, body: bodies.Body, route: Route) -> None:
        """From here on the caller is watched, the deadline runs, and signs of life go out."""
        gateway, down = self._gateway, self._down
        down.watch()
        deadline = self._head.timeout or route.deadline
        if deadline is not None:
            rest = deadline - (gateway.clock() - self._began)
            self._deadline = gateway.loop.call_later(max(0.0, rest), self.stop, FailureClass.DEADLINE)
        signs = gateway.settings.gateway.keep_alive
        if body.wanted.stream:
            down.keep_alive(gateway.loop, signs.first, signs.every, KEEP_ALIVE, self._stream_headers)
        elif self._head.white_space:
            down.keep_alive(gateway.loop, signs.first, signs.every, WHITE_SPACE, self._json_headers)

    def _begin_walk(self, body: bodies.Body, route: Route) -> Walk:
        gateway = self._gateway
        headers = gateway.upstream_headers(self._head, self._request_id)
        objection = gateway.permissions.objection(self._principal, route)
        errand = Errand(self._capability, self._principal.id, body, headers, self._began, objection)
        return Walk(gateway, self, errand, self._relay)

    async def _relay(self, got: Whole | Flow) -> None:
        """Stage 9: a stream, up to its end mark. Raises Refused when it breaks after the first content."""
        assert isinstance(got, Flow)
        assert self._body is not None
        gateway = self._gateway
        self._body.close()
        await self._down.begin(200, self._stream_headers())
        limits = gateway.settings.gateway
        self._stall = Stall(gateway.loop, limits.between_tokens, limits.slow_reader, self._late)
        try:
            ended = await relay.relay(got, self._down, self._stall, usage_wanted=self._body.wanted.usage)
            self._note = ended.note
        finally:
            self._usage = got.reader.usage

    async def _finish(self, got: Whole | Flow) -> None:
        """The answer is whole: settle, then let the caller have its end."""
        if isinstance(got, Whole):
            self._usage = got.usage
            await self._down.whole(got.status, self._json_headers(), got.body)
            return
        self._settle()
        if self._stall is not None:
            self._stall.writing()
        await self._down.end(openai.END)
        if self._stall is not None:
            self._stall.stop()
        await relay.close(got)

    # -- headers ---------------------------------------------------------------------------------------

    def _headers(self) -> Headers:
        """True for answers that begin before the first keep-alive; `pending` after it."""
        deployment = attempts = b"pending"
        walk = self._walk
        if walk is not None and walk.first_content is not None and walk.deployment is not None:
            attempts = b"%d" % walk.dispatched
            deployment = walk.deployment.id.encode("ascii", "replace")
        return [
            *self._gateway.answer_headers(self._request_id),
            (b"x-fleetgate-deployment", deployment),
            (b"x-fleetgate-attempts", attempts),
        ]

    def _stream_headers(self) -> Headers:
        return [*STREAM_HEADERS, *self._headers()]

    def _json_headers(self) -> Headers:
        return [(b"content-type", b"application/json"), *self._headers()]

    # -- ends ------------------------------------------------------------------------------------------

    async def _refuse(self, refused: Refused) -> None:
        """Tell the caller why there is no answer: as a status while that is possible, else in the stream."""
        self._over = True  # whoever wants to stop it now comes too late
        failure = refused.failure
        self._outcome = failure.value if failure is not None else refused.code
        self._note = self._note or refused.message
        down = self._down
        if not down.started:
            form = openai.error_form(refused, self._request_id)
            headers = [*form.headers, *self._gateway.answer_headers(self._request_id)]
            if self._walk is not None:
                headers.append((b"x-fleetgate-attempts", b"%d" % self._walk.dispatched))
            await down.whole(form.status, headers, form.body)
        elif self._body is not None and self._body.wanted.stream:
            await down.end(openai.error_frame(refused, self._request_id))
        else:
            await down.end(openai.error_form(refused, self._request_id).body)

    async def _after_cancel(self) -> None:
        """Cancelled by `stop`: say so to a caller who is still there. Cancelled by others: pass it on."""
        why = self._stopped
        if why is None:
            self._outcome = "cancelled"
            raise asyncio.CancelledError
        if self._task is not None:
            self._task.uncancel()
        self._outcome = why.value
        if why is FailureClass.DEADLINE:
            await self._refuse(verdicts.deadline())
        elif why is FailureClass.STREAM_BROKEN:
            await self._refuse(verdicts.broken(AttemptFailed(why, self._note)))
        elif why is FailureClass.NOTHING_AVAILABLE:
            await self._refuse(verdicts.draining())

    def _caller_left(self) -> None:
        self.stop(FailureClass.CALLER_GONE)

    def _late(self, writing: bool) -> None:  # noqa: FBT001
        """Silence inside the answer: the upstream's fault, but not when the caller reads nothing."""
        limits = self._gateway.settings.gateway
        if writing:
            self._note = f"the caller took nothing of its answer for {limits.slow_reader:g} s"
            self.stop(FailureClass.CALLER_GONE)
            return
        self._note = f"no token for {limits.between_tokens:g} s"
        if self._walk is not None:
            self._walk.broken(AttemptFailed(FailureClass.STREAM_BROKEN, self._note))
        self.stop(FailureClass.STREAM_BROKEN)

    # -- stage 10 --------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Release, record, learn: once, synchronously, whatever happened."""
        if self._settled:
            return
        self._settled = True
        self._down.quiet()
        if self._deadline is not None:
            self._deadline.cancel()
        body = self._body
        if body is not None:
            body.close()
        self._gateway.ended(self)
        self._gateway.record(self._entry(body.wanted if body is not None else None))
        if self._stall is not None and self._outcome != "ok":
            self._stall.stop()

    def _let_go(self) -> None:
        """Open the rings of references, so that nothing is left to the garbage collector."""
        self._walk = self._stall = self._task = None
        self._down.let_go()

    def _entry(self, wanted: bodies.Wanted | None) -> Entry:
        walk, down = self._walk, self._down
        deployment = walk.deployment if walk is not None else None
        return Entry(
            request_id=self._request_id,
            at=self._at,
            principal=self._principal.id,
            route=self._row,
            model=wanted.model if wanted is not None else "",
            status=499 if self._outcome == FailureClass.CALLER_GONE.value else down.status,
            outcome=self._outcome,
            duration=self._gateway.clock() - self._began,
            deployment=deployment.id if deployment is not None else None,
            streamed=wanted.stream if wanted is not None else False,
            first_content=walk.first_content if walk is not None else None,
            usage=self._usage,
            attempts=tuple(walk.attempts) if walk is not None else (),
            bytes_in=self._body_size,
            bytes_out=down.bytes_out,
            note=self._note,
            user=self._principal.user,
            team=self._principal.team,
            end_user=wanted.end_user if wanted is not None else None,
        )
