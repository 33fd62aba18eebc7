"""The life of one exchange. `Exchange.run` is the table of contents: one line per stage.

0 head (in `http`), 1 body, 2 resolve, 3 admit, 4 recall, 5 plan, 6 seat, 7 authorise, 8 attempt
(5 to 8 in `walk`), 9 relay, 10 settle. Limits and money are in `purse`. Stage 4 exists only where a
cache is configured.

Whatever ends the exchange early (the caller left, the deadline, a stall, the end of a drain) calls
`stop` with its class: the task is cancelled once, sockets close at once, and stage 10 still runs,
exactly once, in `finally`. Where equal requests wait for this answer, the caller's own reasons to stop
end only its own part: the exchange goes on without it (`_leave`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.domain import IN_TOKENS, PASSING, PICTURES, Capability, Entry, Principal, Usage
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway import body as bodies
from fleetgate.gateway import media, relay, through, verdicts
from fleetgate.gateway import upload as uploads
from fleetgate.gateway.absence import Absence
from fleetgate.gateway.attempt import Flow, Whole
from fleetgate.gateway.downstream import Downstream
from fleetgate.gateway.errand import Errand
from fleetgate.gateway.prepare import Preparation
from fleetgate.gateway.purse import NOTHING_OWED, Objection, Owed, Purse, either, refusal
from fleetgate.gateway.recall import Question, Recall, recall
from fleetgate.gateway.record import interrupted, noted
from fleetgate.gateway.resume import resume_for
from fleetgate.gateway.speech import Plain, Speech, Translating, Untouched, spoken_in_chat
from fleetgate.gateway.spool import IN_MEMORY
from fleetgate.gateway.stall import Stall
from fleetgate.gateway.tasks import task_of
from fleetgate.gateway.through import Through
from fleetgate.gateway.told import About, headers_of
from fleetgate.gateway.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.budgets.holds import Hold
    from fleetgate.cache.stored import Stored
    from fleetgate.dialects.port import Reader
    from fleetgate.gateway.downstream import Headers, Receive, Send
    from fleetgate.gateway.gateway import Gateway, Head
    from fleetgate.gateway.operation import Operation
    from fleetgate.gateway.resume import Resume
    from fleetgate.routing.plan import Route

WHITE_SPACE: Final = b" "
CRASHED: Final = "internal_error"
"""the outcome where the fault is ours; the caller is told the same code"""
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
        operation: Operation,
        request_id: str,
        head: Head,
    ) -> None:
        self._gateway = gateway
        dialect = operation.dialect
        self._speech: Speech = Plain(request_id) if dialect is None else Translating(dialect, request_id)
        self._receive = receive
        self._principal = principal
        self._capability = operation.capability
        self._row = operation.row
        self._request_id = request_id
        self._head = head
        self._form = operation.form
        self._down = Downstream(receive, send, gateway.spawn, self._caller_left, operation.cut)
        self._task = asyncio.current_task(gateway.loop)
        self._began = gateway.clock()
        self._at = gateway.wall()
        self._body: bodies.Body | None = None
        self._body_size = 0
        self._walk: Walk | None = None
        self._preparation: Preparation | None = None
        self._usage = NO_USAGE
        self._outcome = "ok"
        self._note = ""
        self._stopped: FailureClass | None = None
        self._recall: Recall | None = None
        self._purse = Purse(gateway.budgets, gateway.store, request_id, self._known)
        self._absence = Absence(gateway, self.stop)
        self._settled = self._over = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: Stall | None = None
        self._resume: Resume | None = None
        """set where somebody else may go on with an answer that breaks off"""

    async def run(self) -> None:
        """Everything between the head of the request and the last byte of the answer."""
        self._gateway.began(self)
        try:
            body = await self._read_body()  # 1
            route = self._gateway.route_of(body.wanted.model, self._principal)  # 2
            self._watch(body, route)
            await self._purse.admit(self._principal, route.role, body, self._capability)  # 3
            if self._speech.preparing is not None:
                await self._prepare(body, route, self._speech.preparing)
                return
            if self._gateway.cache is not None and await self._recalled(body, route):  # 4
                return
            if media.may_matter(body):
                await media.look(self._gateway, body, route)
            walk = self._walk = self._begin_walk(body, route)
            got = await walk.run(route)  # 5 to 8, and 9 for streams
            if got is None:
                raise self._nobody(walk, route)  # noqa: TRY301  (ends as all refusals do)
            await self._finish(got)
        except Refused as refused:
            await self._refuse(refused)
        except bodies.CallerGone:
            self._outcome = FailureClass.CALLER_GONE.value
        except asyncio.CancelledError:
            await self._after_cancel()
        except BaseException:
            self._outcome = CRASHED
            raise
        finally:
            self._settle()  # 10
            self._over = True
            self._let_go()

    def stop(self, why: FailureClass) -> None:
        """End the exchange from outside, once."""
        if self._stopped is None and not self._over and self._task is not None:
            absence, gone = self._absence, why is FailureClass.CALLER_GONE
            if self._recall is not None and absence.leaves(why, self._recall, self._tell_late):
                return
            if gone and absence.is_read_on(self._walk, self._purse, self._down):
                self._outcome, self._note = why.value, absence.note
                return
            self._stopped = why
            self._task.cancel()

    # -- the stages ----------------------------------------------------------------------------------

    async def _read_body(self) -> bodies.Body:
        gateway = self._gateway
        if self._form is not None:
            room = uploads.Room(gateway.settings.gateway.media_limit, gateway.bodies, gateway.uploads)
            body = self._body = await uploads.read(self._receive, self._form, self._head.length, room)
            self._body_size = body.size
            return body
        limit = gateway.settings.gateway.body_limit
        raw, held = await bodies.read(self._receive, limit, self._head.length, gateway.bodies)
        self._body_size = held
        try:
            if len(raw) <= IN_MEMORY:
                self._body = self._understand(raw)
            else:  # it takes a while, in which others have their turn
                self._body = await asyncio.to_thread(self._understand, raw)
        except BaseException:
            gateway.bodies.give_back(held)
            raise
        if self._body.original is not None:
            self._body.original.headers = self._head.of_dialect
        self._capability = self._speech.capability or self._capability
        self._body.events_wanted = self._body.wanted.stream and self._capability in PICTURES
        return self._body

    def _understand(self, raw: bytes) -> bodies.Body:
        gateway = self._gateway
        if self._capability is Capability.CHAT and isinstance(self._speech, Plain):
            self._speech = spoken_in_chat(raw, self._request_id) or self._speech
        return self._speech.read(raw, gateway.bodies, compare=gateway.cache is not None)

    def _watch(self, body: bodies.Body, route: Route) -> None:
        """From here on the caller is watched, the deadline runs, and signs of life go out."""
        gateway, down = self._gateway, self._down
        down.watch()
        deadline = self._head.timeout or route.deadline
        if deadline is not None:
            rest = deadline - (gateway.clock() - self._began)
            self._deadline = gateway.loop.call_later(max(0.0, rest), self.stop, FailureClass.DEADLINE)
        signs = gateway.settings.gateway.keep_alive
        if self._capability in PASSING or (body.wanted.stream and self._capability not in IN_TOKENS):
            return  # nobody knows yet what kind of answer it will be
        if body.wanted.stream:
            down.keep_alive(gateway.loop, signs.first, signs.every, self._sign, self._stream_headers)
        elif self._head.white_space:
            down.keep_alive(gateway.loop, signs.first, signs.every, _white_space, self._json_headers)

    def _sign(self) -> bytes:
        """A sign of life in a stream: what is waited for, where that can be told."""
        waits = self._walk or self._preparation
        ticket = waits.ticket if waits is not None else None
        return self._speech.sign(None if ticket is None else ticket.text(self._gateway.clock()))

    async def _prepare(self, body: bodies.Body, route: Route, answer: bytes) -> None:
        """The caller only wants a model in memory, as Ollama's clients may: answered when it is there."""
        asks = task_of(body, self._capability, self._principal.id, "", beginning=False)
        self._preparation = Preparation(self._gateway, asks, self._objection(route))
        await self._preparation.run(route)
        await self._down.whole(200, self._json_headers(), answer)

    def _objection(self, route: Route) -> Objection | None:
        """What the caller's key, its money and its words have against candidates."""
        found = either(self._gateway.permissions.objection(self._principal, route), self._purse.objection)
        body = self._body
        if body is not None and body.replaced is not None:
            found = either(found, body.replaced.objection)
        original = body.original if body is not None else None
        return found if original is None else either(found, original.objection)

    async def _recalled(self, body: bodies.Body, route: Route) -> bool:
        """Stage 4: whether the answer was there, or came with an equal request."""
        question = Question(self._principal, self._capability, body, route)
        self._recall = recall(self._gateway, self._head, question)
        found = await self._recall.find() if self._recall is not None else None
        if found is None:
            return False
        await self._give_again(found, body)
        return True

    async def _give_again(self, found: Stored, body: bodies.Body) -> None:
        assert self._recall is not None
        self._note = self._recall.note
        if not body.wanted.stream:
            await self._down.whole(200, self._json_headers(), _said(self._speech.whole, found.body))
            return
        await self._down.begin(200, self._stream_headers())
        speech = self._speech
        frames = sse.Cutter().feed(found.frames(usage=speech.usage_wanted(body)))
        told = _said(speech.frames, frames) + _said(speech.end)
        self._settle()
        await self._down.end(told)

    def _begin_walk(self, body: bodies.Body, route: Route) -> Walk:
        gateway = self._gateway
        headers = gateway.upstream_headers(self._head, self._request_id)
        several = any(len(step.candidates) > 1 for step in route.steps)
        asks = task_of(body, self._capability, self._principal.id, self._head.conversation, beginning=several)
        resume = self._resume = resume_for(route, self._capability, body, self._request_id)
        errand = Errand(asks, body, headers, self._began, self._purse, self._objection(route), resume)
        return Walk(gateway, self, errand, self._relay)

    def _nobody(self, walk: Walk, route: Route) -> Refused:
        """Why there is no answer: the limit that stood against the last candidate, or what failed."""
        if walk.denied is not None:
            return refusal(walk.denied)
        original = self._body.original if self._body is not None else None
        if original is not None and original.refused is not None and walk.last_failure is None:
            return original.refused
        if self._purse.only_local is not None and walk.last_failure is None:
            return refusal(self._purse.only_local)
        now, frees_in = self._gateway.clock(), self._purse.quota_frees_in
        return verdicts.refusal(walk.last_failure, walk.nobody, route, now, frees_in)

    async def _relay(self, got: Whole | Flow | Through) -> None:
        """Stage 9: a stream, up to its end mark. Raises Refused when it breaks after the first content."""
        if isinstance(got, Through):
            await self._pass(got)
            return
        assert isinstance(got, Flow)
        assert self._body is not None
        gateway, recalled = self._gateway, self._recall
        resume = self._resume
        if resume is None:
            self._body.close()
        if got.native:
            self._untouched(got.reader)
        await self._down.begin(200, self._stream_headers())
        limits = gateway.settings.gateway
        self._stall = Stall(gateway.loop, limits.between_tokens, limits.slow_reader, self._late)
        try:
            if resume is not None and resume.second is not None:
                await self._tell_resumed(resume)
            recorder = recalled.recorder() if recalled is not None else None
            outlet = relay.Outlet(self._speech.usage_wanted(self._body), self._speech.frames)
            if resume is None:
                ended = await relay.relay(got, self._down, self._stall, outlet, recorder)
            else:
                ended = await resume.relay(got, self._down, self._stall, outlet, recorder)
            self._note = ended.note or self._note
            if recorder is not None and not ended.note:
                self._keep(got)
        finally:
            self._usage = got.reader.usage

    async def _tell_resumed(self, resume: Resume) -> None:
        """Somebody else goes on: to the caller a comment, to the record a note, and nothing for the cache."""
        self._note = resume.note
        if self._recall is not None:
            self._recall.forgo()
        if mark := self._speech.mark(resume.note):
            await self._down.piece(mark)

    async def _pass(self, got: Through) -> None:
        """Stage 9 for what goes through as it comes."""
        gateway, down, limits = self._gateway, self._down, self._gateway.settings.gateway
        down.mute = got.events is None
        await down.begin(got.status, [*got.headers, *self._headers()])
        self._stall = Stall(gateway.loop, limits.between_tokens, limits.slow_reader, self._late)
        try:
            self._note = await through.relay(got, down, self._stall) or self._note
        finally:
            self._usage = got.usage

    async def _finish(self, got: Whole | Flow | Through) -> None:
        """The answer is whole: settle, then let the caller have its end."""
        if got.unsaid:
            self._note = self._note or openai.UNSAID
        if isinstance(got, Whole):
            if got.native:
                self._untouched(None)
            self._usage = got.usage
            said = _said(self._speech.whole, got.body)
            if self._recall is not None:
                self._keep(got)
            if self._purse.costs:
                await self._purse.durable()
            if not await self._caller_has_left():
                await self._down.whole(got.status, self._json_headers(), said)
            return
        end = b"" if isinstance(got, Through) else _said(self._speech.end)
        self._settle()
        if self._purse.costs:
            await self._purse.durable(posted=True)
        if self._stall is not None:
            self._stall.writing()
        await self._down.end(end)
        if self._stall is not None:
            self._stall.stop()
        if isinstance(got, Flow):
            await relay.close(got)

    def _untouched(self, reader: Reader | None) -> None:
        """The answer is in the caller's own dialect: it goes out as it came, and is not kept, because others
        may ask the same in another one."""
        assert self._body is not None
        assert self._body.original is not None
        self._speech = Untouched(self._speech, self._body.original.dialect, reader, self._request_id)
        if self._recall is not None:
            self._recall.forgo()

    def _keep(self, got: Whole | Flow) -> None:
        """The answer is complete: for equal requests, now and later."""
        deployment = self._walk.deployment if self._walk is not None else None
        assert self._recall is not None
        assert deployment is not None
        if self._purse.capped is not None:
            self._recall.forgo()
        if isinstance(got, Whole):
            self._recall.keep_whole(got, deployment)
        else:
            self._recall.keep_stream(got.reader, deployment)
        self._recall.over()

    # -- headers ---------------------------------------------------------------------------------------

    def _headers(self) -> Headers:
        about = About(self._request_id, self._speech, self._body, self._walk, self._recall, self._purse)
        return headers_of(self._gateway, about)

    def _stream_headers(self) -> Headers:
        return [*self._speech.stream_headers(), *self._headers()]

    def _json_headers(self) -> Headers:
        return [*self._speech.json_headers(), *self._headers()]

    # -- ends ------------------------------------------------------------------------------------------

    async def _refuse(self, refused: Refused) -> None:
        """Tell the caller why there is no answer: as a status while that is possible, else in the stream."""
        if self._recall is not None:
            self._recall.over()  # those who wait go on by themselves
        if await self._caller_has_left():
            return
        self._over = True  # whoever wants to stop it now comes too late
        failure = refused.failure
        self._outcome = failure.value if failure is not None else refused.code
        self._note = self._note or refused.message
        down = self._down
        if not down.started:
            form = self._speech.error_form(refused)
            headers = [*form.headers, *self._gateway.answer_headers(self._request_id)]
            if self._walk is not None:
                headers.append((b"x-fleetgate-attempts", b"%d" % self._walk.dispatched))
            headers += self._purse.headers()
            await down.whole(form.status, headers, form.body)
        elif down.mute:
            down.cut()
        elif self._body is not None and (self._body.wanted.stream or self._capability in PASSING):
            await down.end(self._speech.error_frame(refused))
        else:
            await down.end(self._speech.error_form(refused).body)

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

    async def _caller_has_left(self) -> bool:
        """Whether the rest was only for others; then what the caller got is what counts for the record."""
        absence = self._absence
        if absence.why is None:
            return False
        self._outcome = absence.why.value
        self._note = self._note or absence.note
        await absence.told()
        return True

    async def _tell_late(self) -> None:
        form = self._speech.error_form(verdicts.deadline())
        headers = [*form.headers, *self._gateway.answer_headers(self._request_id)]
        await self._down.whole(form.status, headers, form.body)

    def _late(self, writing: bool) -> None:  # noqa: FBT001
        """Silence inside the answer: the upstream's fault, but not when the caller reads nothing."""
        limits = self._gateway.settings.gateway
        if writing:
            self._note = f"the caller took nothing of its answer for {limits.slow_reader:g} s"
            self.stop(FailureClass.CALLER_GONE)
            return
        self._note = f"no token for {limits.between_tokens:g} s"
        if self._resume is not None and self._resume.broke_off(self._note):
            return
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
        self._absence.over()
        body = self._body
        if body is not None:
            body.close()
        if self._recall is not None:
            self._recall.over()
        self._gateway.ended(self)
        self._gateway.record(self._entry(body.wanted if body is not None else None, self._purse.close()))
        if self._stall is not None and self._outcome != "ok":
            self._stall.stop()

    def _let_go(self) -> None:
        """Open the rings of references, so that nothing is left to the garbage collector."""
        self._walk = self._preparation = self._stall = self._task = None
        self._recall = None
        self._absence.let_go()
        self._purse.let_go()
        self._down.let_go()

    def _known(self, hold: Hold) -> Entry:
        """What the ledger says should this process die during the attempt."""
        assert self._body is not None
        now = self._gateway.clock() - self._began
        return interrupted(self._entry(self._body.wanted), hold, now)

    def _entry(self, wanted: bodies.Wanted | None, owed: Owed = NOTHING_OWED) -> Entry:
        """`owed`: what the purse has to settle and to book with it."""
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
            note=noted(self._note or self._purse.note, self._body, walk),
            user=self._principal.user,
            team=self._principal.team,
            end_user=self._principal.end_user or (wanted.end_user if wanted is not None else None),
            cache=self._recall.record if self._recall is not None else "",
            tags=self._principal.tags,
            settlements=owed[0],
            bookings=owed[1],
        )


def _said(say: Callable[..., bytes], *what: Any) -> bytes:
    """An answer, or the end of one, as the caller reads it. Raises Refused where it cannot be said."""
    try:
        return say(*what)
    except AttemptFailed as failed:
        raise verdicts.unsayable(failed) from None


def _white_space() -> bytes:
    return WHITE_SPACE
