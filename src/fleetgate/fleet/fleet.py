"""The owner of nodes, engines and deployments as they are now.

Nobody else changes a live record. Records live at their key and survive a reload: an engine that
stays at its address keeps its breaker, its seats and what was learned about it. Others send what
they saw (a reading of a probe, the outcome of an attempt), the fleet decides what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Model, Power, Presence
from fleetgate.engines.meters import empty
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.fleet.build import EnginePlan, fill_engine, fill_node, follow, learn_ways, plans, power_of
from fleetgate.fleet.credentials import account_document, accounts_of
from fleetgate.fleet.flow import Flow
from fleetgate.fleet.learning import LENGTHS, SPEEDS, Learning
from fleetgate.fleet.models import offered, rules, rules_of
from fleetgate.fleet.outcomes import Outcomes
from fleetgate.fleet.price_watch import LONGEST_WATCH, PriceWatch
from fleetgate.fleet.remembered import document, restore
from fleetgate.fleet.residency import FOREVER, Residency, loadable, not_wakeable
from fleetgate.fleet.seats import Knowledge, Seats
from fleetgate.fleet.wants import Wants
from fleetgate.health import Rules
from fleetgate.live import Deployment, Engine, Node
from fleetgate.placement import fits
from fleetgate.routing.names import NameTable
from fleetgate.routing.naming import generated
from fleetgate.routing.needs import can_of, quality_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from fleetgate.config.schema import Settings
    from fleetgate.engines.port import EngineKind, Reading
    from fleetgate.engines.terms import Change
    from fleetgate.fleet.lease import Lease
    from fleetgate.fleet.rooms import Wish
    from fleetgate.forecast.task import Answered, Task
    from fleetgate.live import Account
    from fleetgate.placement import Fit
    from fleetgate.upstream.port import Answer

LEARNED: Final = "engine"
"""Kind of the documents that hold what was learned about an engine."""
ACCOUNTS: Final = "account"
"""Kind of the documents that hold which accounts are out, and until when."""
NODES: Final = "node"
"""Kind of the documents that hold which machines their owners use."""
_LASTING: Final = frozenset(
    {FailureClass.QUOTA_EXHAUSTED, FailureClass.KEY_INVALID, FailureClass.KEY_UNFUNDED}
    | {FailureClass.KEY_FORBIDDEN}
)
"""What an account is out for beyond a restart."""
_NOBODY: Final = frozenset({FailureClass.UNSENT_REFUSED, FailureClass.UNSENT_UNREACHABLE})


class Fleet:
    """Live state, and the only hands on it."""

    def __init__(
        self,
        kinds: Mapping[str, EngineKind],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        report: Callable[..., None],
        remember: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._kinds = kinds
        self._clock = clock
        self._wall = wall
        self._report = report
        self._remember = remember
        self._recalled: dict[str, dict[str, Any]] = {}
        self._recalled_accounts: dict[str, dict[str, Any]] = {}
        self._recalled_nodes: dict[str, dict[str, Any]] = {}
        self._outcomes = Outcomes(random, report, self._want_catalogue)
        self.wants = Wants(clock)
        self._residency = Residency(self._outcomes, self.wants, report, random, clock, wall)
        self.learning = Learning()
        self._residency.on_emptied = self.learning.emptied
        self._residency.on_placed = self.learning.assume
        knowledge = Knowledge(self.wants, self.learning.lengths, self.learning.affinity, self._fit)
        self.seats = Seats(clock, random, call_later, knowledge, self._want_look)
        self.flow = Flow()
        self.nodes: dict[str, Node] = {}
        self.engines: dict[str, Engine] = {}
        self.deployments: dict[str, Deployment] = {}
        self.names: NameTable | None = None
        self.on_catalogue_wanted: Callable[[Engine], None] | None = None
        self.on_look_wanted: Callable[[Engine], None] | None = None
        self.on_unload_wanted: Callable[[Deployment], Awaitable[None]] | None = None
        self._settings: Settings | None = None
        self._call_later = call_later
        self._prices = PriceWatch(call_later, wall, self._price_again)

    # -- configuration ------------------------------------------------------------------------

    def recall(
        self,
        documents: dict[str, dict[str, Any]],
        accounts: dict[str, dict[str, Any]] | None = None,
        nodes: dict[str, dict[str, Any]] | None = None,
        lengths: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """What was learned before the last stop: by engine address, by account, by node, and how long
        answers are."""
        self.learning.lengths.restore((lengths or {}).get(LENGTHS, {}))
        self._recalled = documents
        self._recalled_accounts = dict(accounts or {})
        self._recalled_nodes = dict(nodes or {})

    def configure(self, settings: Settings) -> list[EnginePlan]:
        """Make the records match the settings. What stays keeps its state. Returns what they came from."""
        self._settings = settings
        self.learning.affinity.configure(settings.affinity.keep, settings.affinity.entries)
        wanted = {plan.id: plan for plan in plans(settings, self._kinds)}
        self._configure_nodes(settings, wanted)
        for gone in [engine_id for engine_id in self.engines if engine_id not in wanted]:
            self._let_go(self.engines.pop(gone))
        self.flow.keep_only(wanted)
        for plan in wanted.values():
            self._configure_engine(plan)
        self._index()
        return list(wanted.values())

    def _configure_nodes(self, settings: Settings, wanted: Mapping[str, EnginePlan]) -> None:
        names = {**dict.fromkeys(settings.nodes), **dict.fromkeys(plan.node for plan in wanted.values())}
        for gone in [name for name in self.nodes if name not in names]:
            self._residency.gone(self.nodes.pop(gone))
        for name in names:
            node = self.nodes.get(name)
            if node is None:
                node = self.nodes[name] = Node(name, Power.ALWAYS)
                self._residency.restore(node, self._recalled_nodes.get(name))
                self._watch_yield(node)
            written = settings.nodes.get(name)
            node.power = power_of(settings, name)
            node.local = written is not None
            node.planned = written.planned if written else False
            node.maintenance = written.maintenance if written else None
            fill_node(node, written)

    def _configure_engine(self, plan: EnginePlan) -> None:
        old = self.engines.get(plan.id)
        same = old is not None and old.written == plan.target and old.kind.name == plan.kind
        before = old.accounts if old is not None and same else ()
        kind = plan.provided or self._kinds[plan.kind]
        accounts = accounts_of(plan, kind, before, self._recalled_accounts, self._clock(), self._wall())
        if old is not None and same:
            engine = old
        else:
            engine = Engine(
                id=plan.id,
                node=self.nodes[plan.node],
                kind=kind,
                target=plan.target,
                root=plan.root,
                versioned=plan.versioned,
                accounts=accounts,
                rules=Rules(),
            )
            if old is not None:
                self._let_go(old)
            self.engines[plan.id] = engine
        engine.node, engine.kind = self.nodes[plan.node], kind
        engine.root, engine.versioned = plan.root, plan.versioned
        engine.accounts, engine.meters, engine.hints = accounts, plan.meters, plan.hints
        engine.rules = rules(plan.health)
        engine.every = plan.health.every
        engine.transport = plan.transport
        engine.listed = plan.models is not None
        engine.slots_written = plan.slots
        fill_engine(engine, plan)
        follow(engine)
        if not same:
            kept = self._recalled.get(address_of(engine))
            restore(engine, kept)
            learn_ways(engine)
            self.learning.restore(engine, kept)
        self._set_models(engine, plan)

    def _set_models(self, engine: Engine, plan: EnginePlan) -> None:
        """Written models as written, enriched by what the engine says; otherwise what it says."""
        kept: dict[str, Deployment] = {}
        for model in offered(engine, plan):
            deployment_id = f"{plan.prefix}/{model.name}"
            deployment = engine.deployments.get(deployment_id)
            if deployment is None:
                deployment = Deployment(deployment_id, engine, model, engine.rules)
                self.learning.begin(deployment)
            deployment.model = model
            deployment.context = model.context or deployment.context
            deployment.can = can_of(model, engine.kind)
            deployment.quality = quality_of(model)
            deployment.loadable = loadable(deployment)
            self.learning.assume(deployment)
            deployment.price = plan.price(model, self._wall())
            deployment.terms = plan.terms(model.id)
            deployment.retires = plan.retires(model.id)
            deployment.rules = rules_of(deployment, self._settings)
            kept[deployment_id] = deployment
        for gone in engine.deployments.keys() - kept.keys():
            self._leave(engine.deployments[gone])
        engine.deployments = kept

    def _let_go(self, engine: Engine) -> None:
        """It is not written any more, or is at another address now."""
        self._save(engine)
        for deployment in engine.deployments.values():
            self._leave(deployment)
        self.learning.forget(engine)

    def _leave(self, deployment: Deployment) -> None:
        """It is no deployment any more. Who still waits for it asks it as it is: nobody has it loaded."""
        deployment.loadable = False
        self.learning.gone(deployment)

    def _index(self) -> None:
        self.deployments = {
            one.id: one for engine in self.engines.values() for one in engine.deployments.values()
        }
        if self._settings is not None:
            names = generated(self._settings.naming, self.deployments.values())
            for one in self.deployments.values():
                one.generated = names.get(one.id, ())
                if one.generated:
                    one.rules = rules_of(one, self._settings)
            self.names = NameTable(self._settings, self.deployments.values())
        self._prices.follow(self.deployments.values())
        self._residency.forget(self.engines)
        self._changed()

    def _price_again(self) -> None:
        """Prices may have ended."""
        wall = self._wall()
        for plan in plans(self._settings, self._kinds) if self._settings else ():
            for deployment in self.engines[plan.id].deployments.values():
                deployment.price = plan.price(deployment.model, wall)
        self._prices.follow(self.deployments.values())

    # -- what others saw -------------------------------------------------------------------------

    def read(self, engine: Engine, reading: Reading, account: Account | None = None) -> None:
        """A probe's reading. `account`: whose key it was asked with."""
        now = self._clock()
        if reading.failure in (FailureClass.KEY_INVALID, FailureClass.KEY_FORBIDDEN):
            asked_with = account or engine.account
            self._outcomes.key_refused(asked_with, FailureClass.KEY_INVALID, reading.note, now)
            self._keep(asked_with)
        if reading.alive is not None:
            self._alive(engine, reading, now)
        if reading.loading is not None:
            engine.loading = reading.loading
        self._read_facts(engine, reading)
        if reading.models is not None:
            self._read_models(engine, reading.models)
        self._residency.read(engine, reading)
        self._changed()

    def _read_facts(self, engine: Engine, reading: Reading) -> None:
        for name in ("slots_total", "slots_busy", "queue", "version"):
            value = getattr(reading, name)
            if value is not None:
                setattr(engine, name, value)
        if reading.version is not None:
            learn_ways(engine)
        if reading.slots_busy is not None and engine.orphans:
            self.seats.settle_orphans(engine, reading.slots_busy)
        if reading.context is not None:
            for deployment in engine.deployments.values():
                deployment.context = deployment.model.context or reading.context

    def _alive(self, engine: Engine, reading: Reading, now: float) -> None:
        was = engine.alive
        if reading.alive:
            engine.alive = True
            engine.why = ""
            engine.breaker.probe_passed(now)
            self._answered(engine.node, now)
            if not was:
                # It came back: what its models did before says little. Where it never left, health
                # says nothing about why a model failed, and its breaker keeps its time.
                for deployment in engine.deployments.values():
                    deployment.breaker.probe_passed(now)
                self._report("engine_up", engine=engine.id, version=engine.version)
                self._save(engine)
        else:
            self._outcomes.unwell(engine, reading.note or "its health check fails", now)

    def _read_models(self, engine: Engine, models: tuple[Model, ...]) -> None:
        ids = {engine.kind.normal_id(model.id) for model in models}
        for deployment in engine.deployments.values():
            if deployment.removed and engine.kind.normal_id(deployment.model.id) in ids:
                deployment.removed = False
        engine.remembered = False
        if engine.discovered == models:
            return
        engine.discovered = models
        settings = self._settings
        plan = (
            next((one for one in plans(settings, self._kinds) if one.id == engine.id), None)
            if settings
            else None
        )
        if plan is not None:
            self._set_models(engine, plan)
            self._index()
        self._report("catalogue", engine=engine.id, models=len(models))
        self._tell_retirements(engine)
        self._save(engine)

    def probe_failed(self, engine: Engine, error: AttemptFailed) -> None:
        """A probe could not be made at all."""
        now = self._clock()
        if error.failure is FailureClass.UNSENT_REFUSED:
            self._outcomes.refused(engine, error.text, now)
        elif error.failure is FailureClass.UNSENT_UNREACHABLE:
            others = [one for one in self.engines.values() if one.node is engine.node and one.alive]
            if others and others != [engine]:  # the machine answers elsewhere: only this engine is cut off
                self._outcomes.refused(engine, error.text, now)
            else:
                self._outcomes.unreachable(engine, error.text, now)
        elif error.failure is FailureClass.TLS_FAILED:
            self._outcomes.tls_failed(engine, error.text, now)
        else:
            self._outcomes.unwell(engine, error.text or error.failure.value, now)
        if error.failure in _NOBODY:
            self._residency.lost(engine)
        self._residency.forget_stale(engine)
        self._changed()

    # -- what exchanges do -----------------------------------------------------------------------

    async def seat(self, wish: Wish, limit: float) -> Lease:
        return await self.seats.seat(wish, limit)

    def succeeded(self, deployment: Deployment, task: Task, answered: Answered, body_bytes: int) -> None:
        """An attempt answered."""
        now = self._clock()
        self._outcomes.succeeded(deployment, now)
        self._answered(deployment.engine.node, now)
        if answered.first is not None:
            deployment.first_content.learn(answered.first, body_bytes, now)
        self.learning.answered(deployment, task, answered, now)
        usage = answered.usage
        self.flow.answered(deployment, usage.input_tokens, usage.output_tokens, answered.total, now)

    def left(self, deployment: Deployment) -> None:
        """An attempt was taken back before any content of it. Where that ends a load, the load goes on."""
        engine = deployment.engine
        if deployment.loadable and engine.kind.load_dies_with_caller:
            deployment.resident = None
            self._want_look(engine)
            self.wants.keep(deployment, "its caller left")

    def failed(self, deployment: Deployment, error: AttemptFailed, account: Account | None = None) -> None:
        """An attempt failed. `account`: whose key it was sent with; None: the engine's one."""
        sent_with = account or deployment.engine.account
        self._outcomes.failed(deployment, error, self._clock(), sent_with)
        if error.failure in _LASTING:
            self._keep(sent_with)
        if error.failure in _NOBODY:
            self._residency.lost(deployment.engine)
        self._changed()

    def applied(self, deployment: Deployment, changes: Iterable[Change]) -> None:
        """Rules fired for a request that was sent there, or kept it from being sent."""
        deployment.engine.applied.update((one.counted, one.deed.value) for one in changes)

    def asked(self, deployment: Deployment) -> None:
        """A request goes there. A model that is retired, or soon will be, is told of once."""
        retires = deployment.retires
        if retires is None or deployment.retirement_told or not retires.near(self._wall()):
            return
        deployment.retirement_told = True
        text = retires.text(self._wall())
        self._report("model_retires", "warning", deployment=deployment.id, on=retires.day, text=text)

    def _tell_retirements(self, engine: Engine) -> None:
        """Of a list of models: all at once."""
        wall = self._wall()
        found = {
            one.model.id: one
            for one in engine.deployments.values()
            if one.retires is not None and one.retires.near(wall) and not one.retirement_told
        }
        for one in found.values():
            one.retirement_told = True
        if found:
            self._report("models_retire", "warning", engine=engine.id, models=sorted(found))

    def heard(self, deployment: Deployment, account: Account, answer: Answer) -> None:
        """The head of a provider's answer came: it may say that nothing is left."""
        found = empty(answer.header, deployment.engine.meters, self._wall())
        if found is not None:
            self._outcomes.emptied(account, deployment.model.id, found, self._clock())
            if found.quota:
                self._keep(account)

    def untold(self, deployment: Deployment) -> None:
        """The attempt ended for a reason that says nothing about the deployment."""
        self._outcomes.untold(deployment)

    # -- machines, and what is in their memory ------------------------------------------------------

    def waking(self, node: Node) -> None:
        """Something was done to switch it on."""
        self._residency.waking(node)
        self.look_at(node)
        self._changed()

    def look_at(self, one: Node | Engine) -> None:
        """Ask an engine, or all engines of a machine, at once how they are."""
        for engine in self.engines.values():
            if one is engine or one is engine.node:
                self._want_look(engine)

    def wake_failed(self, node: Node, text: str) -> None:
        self._residency.wake_failed(node, text)
        self.look_at(node)  # it may be on, and only its engines are not there
        self._changed()

    def _answered(self, node: Node, now: float) -> None:
        """An engine of it answers."""
        if node.presence is Presence.WAKING or node.wake_failed is not None:
            self._residency.answered(node)
            self.look_at(node)  # its other engines are not on their way any more: there, or down
        else:
            self._outcomes.seen(node, Presence.AWAKE, now)

    def wake_node(self, name: str, why: str) -> str:
        """Somebody wants it on, now. In words why that cannot be; empty: it is being done, or it is on.

        Raises KeyError where there is no such node. A pause after a wake that failed ends here.
        """
        node = self.nodes[name]
        if node.presence is Presence.AWAKE:
            return ""
        against = not_wakeable(node, self._clock())
        if not against:
            node.wake_pause = 0.0
            self.wants.keep(node, why)
        return against

    def yield_node(self, name: str, seconds: float | None, why: str) -> None:
        """Its owner uses it: it takes no new requests. `seconds`: how long; None: until it is resumed."""
        node = self.nodes[name]
        self._residency.yielded(node, FOREVER if seconds is None else self._clock() + seconds, why)
        self._remember(NODES, name, self._residency.document(node))
        self._watch_yield(node)
        self._changed()

    def resume_node(self, name: str) -> None:
        """Its owner gives it back."""
        node = self.nodes[name]
        self._residency.resumed(node)
        self._remember(NODES, name, self._residency.document(node))
        self._changed()

    def _watch_yield(self, node: Node) -> None:
        until = node.yielded_until
        if until is not None and until != FOREVER:
            wait = min(max(0.001, until - self._clock()), LONGEST_WATCH)
            self._call_later(wait, lambda: self._end_yield(node))

    def _end_yield(self, node: Node) -> None:
        until = node.yielded_until
        if self.nodes.get(node.name) is not node or until is None:
            return
        if until <= self._clock():
            self.resume_node(node.name)
        else:
            self._watch_yield(node)

    def load_began(self, deployment: Deployment, why: str = "") -> None:
        self._residency.load_began(deployment, why)
        self._want_look(deployment.engine)
        self._changed()

    def loaded(self, deployment: Deployment, seconds: float) -> None:
        """It is in memory after so many seconds of loading."""
        self._residency.loaded(deployment, seconds)
        self._save(deployment.engine)
        self._changed()

    def load_failed(self, deployment: Deployment, text: str, *, blame: bool = True) -> None:
        """`blame`: False where the engine went away, which its own breaker knows."""
        self._residency.load_failed(deployment, text, blame=blame)
        self._changed()

    def hold_back(self, deployments: Iterable[Deployment], seconds: float) -> None:
        """They take nothing new for a moment: somebody waits for their place in memory."""
        until = self._clock() + seconds
        for one in deployments:
            one.busy_until = max(one.busy_until, until)

    def load_left(self, deployment: Deployment) -> None:
        """Nobody looks after its load any more."""
        self._residency.load_left(deployment)
        self._changed()

    def moved(self, node: Node, host: str) -> None:
        """A machine was found at an address that is not written. The file stays the truth."""
        before, node.moved_to = node.moved_to, host
        for engine in self.engines.values():
            if engine.node is node:
                follow(engine)
        self._report("node_moved", "warning", node=node.name, host=host, before=before or node.hosts[0])

    async def unload(self, deployment: Deployment) -> None:
        """Throw it out of memory. Raises AttemptFailed."""
        if self.on_unload_wanted is not None:
            await self.on_unload_wanted(deployment)

    def unloaded(self, deployment: Deployment) -> None:
        self._residency.unloaded(deployment)
        self._changed()

    # -- memory -------------------------------------------------------------------------------------

    def save_all(self) -> None:
        """Keep what was learned, for the next start."""
        for engine in self.engines.values():
            self._save(engine)
        self.save_learned()

    def _save(self, engine: Engine) -> None:
        kept = {**document(engine), SPEEDS: self.learning.speeds(engine)}
        self._recalled[address_of(engine)] = kept  # it may be written again, by another name
        self._remember(LEARNED, address_of(engine), kept)

    def save_learned(self) -> None:
        """Keep what traffic taught since the last time."""
        for engine in self.learning.fresh():
            if self.engines.get(engine.id) is engine:
                self._save(engine)
        lengths = self.learning.fresh_lengths()
        if lengths is not None:
            self._remember(LENGTHS, LENGTHS, lengths)

    def _keep(self, account: Account) -> None:
        self._remember(ACCOUNTS, account.id, account_document(account, self._clock(), self._wall()))

    def _changed(self) -> None:
        """Tell whoever waits for something, and whoever has to do something about it."""
        self.seats.changed()
        self.wants.on_change()

    def _fit(self, deployment: Deployment) -> Fit:
        """Whether it would be in memory, and in whose place."""
        node = deployment.engine.node
        return fits(deployment, [one for one in self.engines.values() if one.node is node])

    def _want_look(self, engine: Engine) -> None:
        if self.on_look_wanted is not None:
            self.on_look_wanted(engine)

    def _want_catalogue(self, engine: Engine) -> None:
        if self.on_catalogue_wanted is not None:
            self.on_catalogue_wanted(engine)


def address_of(engine: Engine) -> str:
    """The key under which an engine is remembered: its kind and address."""
    return f"{engine.kind.name}@{engine.written.authority}{engine.root}"
