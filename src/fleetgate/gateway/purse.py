"""The money and the limits of one exchange, from its admission to its last settlement.

Stage 3 asks the caller's limits. Stage 7 asks, for each attempt, those of the candidate; where it costs
money, the attempt is durable in the ledger before a byte of it leaves. Whatever an attempt comes to,
`ended` settles it, once. `close` gives what the exchange's own line needs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fleetgate import pricing
from fleetgate.budgets.denied import Denied
from fleetgate.budgets.gate import NEVER
from fleetgate.budgets.holds import NOTHING, Caller, Counts, Hold, counted, merged
from fleetgate.budgets.owner import ROOM
from fleetgate.domain import IN_TOKENS, PICTURES, Booking, Capability, Reservation, Settlement, Usage
from fleetgate.errors import TABLE, AttemptFailed, FailureClass, Refused, Source
from fleetgate.gateway.verdicts import TERMINAL_AFTER
from fleetgate.routing.availability import Reason
from fleetgate.store.failures import StoreError

if TYPE_CHECKING:
    from fleetgate.budgets.denied import Room
    from fleetgate.budgets.holds import Admission
    from fleetgate.budgets.owner import Budgets
    from fleetgate.domain import Entry, Principal
    from fleetgate.gateway.body import Body
    from fleetgate.live import Account, Deployment
    from fleetgate.store.database import Store

SETTLED_WITHIN: Final = 0.25
"""Seconds that a finished answer waits for its settlement to be durable."""
LONGEST_ANSWER: Final = 16_384
"""Tokens that an answer is taken to have at most, where neither the caller nor the model says."""
USUAL_ANSWER: Final = 1_000
"""Tokens that an answer is estimated at where the caller sets no bound."""
LEDGER_AGAIN: Final = 5.0
"""Seconds after which a caller may ask again who was refused because the database is down."""
ABSURD: Final = 1_000_000
"""Output tokens that no answer has, where the model's own bound is not known."""

_UNBILLED: Final = frozenset(
    {
        *(FailureClass.RATE_LIMITED, FailureClass.QUOTA_EXHAUSTED, FailureClass.KEY_INVALID),
        *(FailureClass.KEY_UNFUNDED, FailureClass.KEY_FORBIDDEN, FailureClass.MODEL_MISSING),
        *(FailureClass.BAD_REQUEST, FailureClass.CONTEXT_TOO_LONG, FailureClass.REFUSED_CONTENT),
        *(FailureClass.LOADING, FailureClass.FULL, FailureClass.ABSENT_FEATURE),
    }
)
"""Refusals: the provider says that it did nothing."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What an attempt came to, for its line."""

    usage: Usage
    cost: int | None
    estimated: bool
    price: str


class Purse:
    """One exchange's. `known`: the exchange's line as far as it is known, with an attempt put in."""

    def __init__(
        self, budgets: Budgets, store: Store, request_id: str, known: Callable[[Hold], Entry]
    ) -> None:
        self._budgets = budgets
        self._store = store
        self._request_id = request_id
        self._known = known
        self._admission: Admission | None = None
        self._estimate = NOTHING
        self._demand: pricing.Demand | None = None
        self._settlements: list[Settlement] = []
        self._bookings: list[Booking] = []
        self._used: list[Counts] = []
        self._refused_room: list[Room | None] = []
        """what the caller had left when its own limits refused it"""
        self._images: int | None = None
        """asked for"""
        self._characters: int | None = None
        """to be spoken"""
        self._milliseconds: int | None = None
        """of sound that was sent, at most"""
        self.note = ""
        self.capped: int | None = None
        """an answer was made shorter than asked for"""
        self.pays = False
        """the attempt under way costs money"""

    # -- stage 3 ---------------------------------------------------------------------------------------

    async def admit(self, principal: Principal, role: str, body: Body, capability: Capability) -> None:
        """Pass the caller's own limits. Raises Refused (429)."""
        wanted = body.wanted
        inputs = body.tokens
        outputs = (wanted.max_tokens or USUAL_ANSWER) if capability in IN_TOKENS else 0
        self._images = wanted.choices if capability in PICTURES else None
        self._characters = body.characters if capability is Capability.SPEAK else None
        # Nobody sends sound with less than 8 kbit/s: a byte is a millisecond at most.
        self._milliseconds = body.size if capability in _HEARD else None
        self._estimate = Counts(inputs, outputs * wanted.choices)
        caller = Caller(principal, role)
        try:
            self._admission = await self._budgets.admit(caller, self._estimate, self._request_id)
        except Denied as denied:
            self._refused_room = denied.room
            raise refusal(denied) from None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The usual rate-limit headers, for callers who have limits, and a bound that a budget set."""
        admission = self._admission
        rooms = self._refused_room
        if admission is not None and admission.taken:
            rooms = self._budgets.room_of(admission)
        found: list[tuple[bytes, bytes]] = []
        if self.capped is not None:
            found.append((b"x-fleetgate-max-tokens", b"%d" % self.capped))
        if not rooms:
            return found
        for (limit, remaining, reset), room in zip(_ROOM, rooms, strict=True):
            if room is not None:
                ceiling, left, frees_in = room
                found += (
                    (limit, b"%d" % ceiling),
                    (remaining, b"%d" % max(0, left)),
                    (reset, b"%gs" % round(frees_in, 3)),
                )
        return found

    @property
    def only_local(self) -> Denied | None:
        """The limit that leaves own machines only, as a reason."""
        limit = self._admission.only_local if self._admission is not None else None
        if limit is None:
            return None
        return Denied("limit_reached", f"the limit is reached: {limit.title}", limit=limit, wait=60.0)

    @property
    def objection(self) -> Callable[[Deployment], Reason | None] | None:
        """What stands against candidates from the start: the switch, a limit with `then: local_only`."""
        admission = self._admission
        over = admission is not None and admission.only_local is not None
        return either(self._budgets.objection, _only_local if over else None)

    def quota_frees_in(self, candidate: Deployment) -> float:
        """Seconds until a candidate whose quotas are used up may be asked again."""
        return self._budgets.quota_frees_in(candidate)

    # -- stage 7 ---------------------------------------------------------------------------------------

    async def hold(self, deployment: Deployment, account: Account | None, number: int, body: Body) -> Hold:
        """Hold what an attempt may cost; durable, where it costs money. Raises Denied."""
        admission = self._admission
        assert admission is not None
        demand = self._demand = self._demand_of(deployment, body)
        name = (self._request_id, number)
        hold = await self._budgets.authorise(admission, deployment, account, demand, name)
        if not hold.price.free:
            await self._dispatch(hold)
            self.pays = True
            if hold.cap is not None:
                self.capped = hold.cap
                self.note = f"the rest of a budget allowed an answer of {hold.cap} tokens at most"
        return hold

    async def _dispatch(self, hold: Hold) -> None:
        """Nothing that costs money leaves before the ledger has it."""
        hold.durable = True
        reservation = Reservation(
            self._request_id,
            hold.number,
            hold.estimate.money,
            hold.expected,
            merged(hold.holds()),
            self._known(hold),
        )
        try:
            await self._store.dispatch(reservation)
        except StoreError:
            hold.durable = False  # the writer takes it back by itself, should it have come through
            hold.settle(NOTHING, self._budgets.now(), released=True)
            raise Denied(
                "ledger_unavailable",
                "the database does not answer, so nothing may cost money",
                wait=LEDGER_AGAIN,
            ) from None
        except BaseException:
            self._keep(hold.settle(NOTHING, self._budgets.now(), released=True), at_once=True)
            raise

    def _demand_of(self, deployment: Deployment, body: Body) -> pricing.Demand:
        wanted, inputs = body.wanted, self._estimate.input_tokens
        if not self._estimate.output_tokens:
            return pricing.Demand(
                inputs,
                0,
                1,
                images=self._images,
                milliseconds=self._milliseconds,
                characters=self._characters,
            )
        longest = wanted.max_tokens
        if longest is None:
            context = deployment.context
            longest = max(1, context - inputs) if context is not None else LONGEST_ANSWER
        return pricing.Demand(inputs, longest, wanted.choices, open_ended=not wanted.length_written)

    # -- ends of attempts ------------------------------------------------------------------------------

    def ended(
        self, hold: Hold, failure: AttemptFailed | None, usage: Usage, *, begun: bool, seen: int
    ) -> Charge:
        """Settle an attempt. `begun`: something of an answer came; `seen`: tokens of it, at least."""
        self.pays = False
        unsent = failure is not None and not TABLE[failure.failure].dispatched
        refused = failure is not None and (
            failure.failure in _UNBILLED
            or (failure.failure is FailureClass.SERVER_ERROR and failure.status is not None and not begun)
        )
        if unsent or refused:
            counts = NOTHING if unsent else Counts(requests=1)
            self._used.append(counts)
            self._settle(hold, counts, released=True, at_once=True)
            return Charge(Usage(), 0, estimated=False, price="")
        if hold.price.free and failure is not None and not begun:
            charge, counts = Charge(usage, 0, estimated=False, price=""), Counts()
        else:
            charge = self._charge(hold, failure, usage, begun=begun, seen=seen)
            counts = counted(charge.usage, hold.estimate, self._money(hold, charge))
        self._used.append(counts)
        self._settle(hold, counts, estimated=charge.estimated, at_once=failure is not None)
        return charge

    def _settle(
        self, hold: Hold, counts: Counts, *, at_once: bool, estimated: bool = False, released: bool = False
    ) -> None:
        if hold.taken or hold.durable:  # else it was free, and nothing bounds it
            now = self._budgets.now()
            self._keep(hold.settle(counts, now, estimated=estimated, released=released), at_once=at_once)

    def _charge(
        self, hold: Hold, failure: AttemptFailed | None, usage: Usage, *, begun: bool, seen: int
    ) -> Charge:
        price = hold.price
        told = usage.input_tokens is not None or usage.output_tokens is not None
        usage, guessed = self._counted(hold, usage, seen if begun else 0)
        if price.free:
            return Charge(usage, 0, estimated=False, price="")
        if price.only_ceiling:
            return Charge(usage, price.ceiling or None, estimated=True, price=price.text)
        if not told and failure is not None and not begun:
            return Charge(usage, hold.expected, estimated=True, price=price.text)
        cost = pricing.cost(price, usage)
        if cost is None:
            return Charge(usage, price.ceiling or None, estimated=True, price=price.text)
        others = (usage.images, usage.characters, usage.milliseconds)
        guessed = guessed and (price.by_tokens or all(one is None for one in others))  # these were counted
        return Charge(usage, cost, guessed or usage.fees, price.text)

    def _counted(self, hold: Hold, usage: Usage, seen: int) -> tuple[Usage, bool]:
        """The usage with what nobody said filled in, and what cannot be true cut to what was held.

        Of the input all was read; of the output there was at least what was seen.
        """
        demand, estimate = self._demand, hold.estimate
        assert demand is not None
        if not demand.output_tokens and usage.output_tokens is None:
            usage = replace(usage, output_tokens=0)  # embeddings have none, and nobody says so
        guessed = usage.input_tokens is None or usage.output_tokens is None
        if guessed:
            usage = replace(
                usage,
                input_tokens=estimate.input_tokens if usage.input_tokens is None else usage.input_tokens,
                output_tokens=seen if usage.output_tokens is None else usage.output_tokens,
                estimated=True,
            )
        usage, absurd = _possible(usage, demand, hold.deployment.context)
        if absurd:
            self.note = "the upstream's usage is impossible and was cut to what was held"
        return usage, guessed or absurd or usage.estimated

    def _money(self, hold: Hold, charge: Charge) -> int:
        """What a budget is charged: where nobody knows the cost, nothing but the ceiling counts."""
        return charge.cost if charge.cost is not None else hold.price.ceiling or 0

    def _keep(self, ended: tuple[Settlement | None, tuple[Booking, ...]], *, at_once: bool) -> None:
        settlement, bookings = ended
        self._bookings.extend(bookings)
        if settlement is not None:
            self._settlements.append(settlement)
            if at_once:
                self._store.settle(settlement)

    # -- the end of the exchange -----------------------------------------------------------------------

    @property
    def costs(self) -> bool:
        """Whether something was settled that the ledger should have before the answer ends."""
        return bool(self._settlements)

    async def durable(self, *, posted: bool = False) -> None:
        """Wait for the settlements so far to be durable, for a moment. They are queued either way.

        `posted`: the exchange's line is, with the settlements in it.
        """
        for settlement in () if posted else self._settlements:
            self._store.settle(settlement)
        try:
            async with asyncio.timeout(SETTLED_WITHIN):
                await self._store.flush()
        except (TimeoutError, StoreError):
            return

    def let_go(self) -> None:
        """Open the ring of references to the exchange."""
        self._known = _nothing_known

    def close(self) -> Owed:
        """The end: everything is given back or put right. Called once, in the `finally` of the exchange."""
        admission = self._admission
        if admission is not None and admission.taken:
            bookings = admission.finish(_all(self._used), self._budgets.now())
            self._bookings.extend([one for one in bookings if one.spent])
        return tuple(self._settlements), merged(self._bookings)


Owed = tuple[tuple[Settlement, ...], tuple[Booking, ...]]
NOTHING_OWED: Final[Owed] = ((), ())


def _all(used: list[Counts]) -> Counts:
    """What an exchange used in its attempts. It is one request, however many those were."""
    if len(used) == 1 and used[0].requests:
        return used[0]
    return Counts(sum(one.input_tokens for one in used), sum(one.output_tokens for one in used))


def _nothing_known(_hold: Hold) -> Entry:
    raise AssertionError("the exchange is over")


_HEARD: Final = frozenset({Capability.TRANSCRIBE, Capability.TRANSLATE})
_ROOM: Final = tuple(
    tuple(f"x-ratelimit-{what}-{measure.value}".encode() for what in ("limit", "remaining", "reset"))
    for measure in ROOM
)
Objection = Callable[["Deployment"], Reason | None]


def either(first: Objection | None, second: Objection | None) -> Objection | None:
    """Both objections as one."""
    if first is None or second is None:
        return first or second

    def object_to(candidate: Deployment) -> Reason | None:
        return first(candidate) or second(candidate)

    return object_to


def _possible(usage: Usage, demand: pricing.Demand, context: int | None) -> tuple[Usage, bool]:
    """Counts that fit into the model, or into many times the estimate: others are cut to what was held.

    Estimates of the input are rough, so that a count a little above one is no wonder.
    """
    inputs, outputs = demand.input_tokens, max(1, demand.output_tokens * demand.choices)
    most_in = max(context or 0, 20 * inputs)
    most_out = max((context or 0) * demand.choices, outputs, ABSURD)
    in_range = 0 <= (usage.input_tokens or 0) <= most_in and 0 <= (usage.output_tokens or 0) <= most_out
    if in_range:
        return pricing.clamped(usage, most_in, most_out)
    return pricing.clamped(usage, inputs, outputs)


def _only_local(candidate: Deployment) -> Reason | None:
    return None if candidate.local else Reason.OVER_LIMIT


def refusal(denied: Denied) -> Refused:
    """What the caller is told when a limit leaves nothing to try."""
    down = denied.code == "ledger_unavailable"
    never = math.isinf(denied.wait)
    return Refused(
        503 if down else _STATUS.get(denied.code, 429),
        denied.code,
        denied.text,
        advice=_ADVICE.get(denied.code, "See `fleetgate limits` for who may use how much."),
        source=Source.GATEWAY if down else Source.CALLER,
        failure=None if down else FailureClass.LIMIT_REACHED,
        retry_after=None if denied.wait == NEVER else max(1.0, denied.wait),
        terminal=never or denied.wait > TERMINAL_AFTER,
    )


_STATUS: Final = {"price_unknown": 503, "paid_off": 503}
_ADVICE: Final = {
    "ledger_unavailable": "Ask again in a moment; own machines are not concerned.",
    "price_unknown": "Write a `price` for the model, or a `price: {ceiling: …}` for what nobody knows.",
    "paid_off": "`fleetgate budget resume` switches them on again.",
    "quota_exhausted": "The provider's quota is used up until its reset; see `fleetgate providers`.",
}
