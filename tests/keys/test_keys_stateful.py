"""The owner of keys against a simple model: create, rotate, revoke, disable, expire, clocks that jump.

Two gateways share the database. The one that changes knows at once, the other after its next poll.
"""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from tests.keys.house import ADA, Clock, built
from tests.support.postgres import EITHER, Databases

from fleetgate.keys import owner
from fleetgate.store.database import SQLITE, Store


@dataclass
class Expected:
    """What must hold of one key. Times are unix seconds."""

    secrets: dict = field(default_factory=dict)
    """text -> until when it counts; None: as long as the key"""
    current: str = ""
    expires: float | None = None
    enabled: bool = True
    revoked: bool = False

    def counts(self, text, now):
        if self.revoked or not self.enabled or (self.expires is not None and now >= self.expires):
            return False
        until = self.secrets.get(text, 0.0)
        return until is None or now < until


class KeysMachine(RuleBasedStateMachine):
    keys = Bundle("keys")
    template: Path
    databases: Databases | None = None

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="keys-"))
        shutil.copytree(self.template, self.directory, dirs_exist_ok=True)
        self.database = self.databases.new() if self.databases else SQLITE
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.store = Store.open(self.directory, lambda: self.clock.unix, database=self.database)
        self.here, self.there = built(self.store, self.clock), built(self.store, self.clock)
        self.model = {}

    def run(self, doing):
        return self.loop.run_until_complete(doing)

    @rule(target=keys, lifetime=st.none() | st.integers(0, 100) | st.none())
    def create(self, lifetime):
        expires = None if lifetime is None else self.clock.unix + lifetime
        key_id, text = self.run(self.here.make(expires_at=None if expires is None else round(expires * 1e3)))
        self.model[key_id] = Expected({text: None}, text, expires)
        return multiple(key_id)

    @rule(key=keys, grace=st.sampled_from([0, 1, 30]))
    def rotate(self, key, grace):
        expected = self.model[key]
        if expected.revoked:
            return
        _, text = self.run(self.here.registry.rotate(ADA, key, float(grace)))
        for old in expected.secrets:
            expected.secrets[old] = 0.0
        if grace:
            expected.secrets[expected.current] = self.clock.unix + grace
        expected.secrets[text], expected.current = None, text

    @rule(key=keys)
    def revoke(self, key):
        self.run(self.here.registry.revoke(ADA, key))
        self.model[key].revoked = True

    @rule(key=keys, enabled=st.booleans())
    def switch(self, key, enabled):
        if not self.model[key].revoked:
            self.run(self.here.registry.update(ADA, key, {"enabled": enabled}))
            self.model[key].enabled = enabled

    @rule(seconds=st.sampled_from([1.0, 29.0, 30.0, 61.0]))
    def time_passes(self, seconds):
        self.clock.move(seconds)

    @rule()
    def time_passes_up_to_the_next_end(self):
        """Of a grace or of a key: to the very moment."""
        ends = {until for expected in self.model.values() for until in expected.secrets.values()}
        ends |= {expected.expires for expected in self.model.values()}
        later = [end for end in ends if end is not None and end > self.clock.unix]
        if later:
            self.clock.move(min(later) - self.clock.unix)

    @rule(seconds=st.sampled_from([-3600.0, -1.0, 5.0, 3600.0]))
    def the_wall_clock_jumps(self, seconds):
        self.clock.unix += seconds

    @invariant()
    def both_gateways_let_in_exactly_who_counts(self):
        for house in (self.here, self.there):
            self.run(house.keys.poll())
            for key_id, expected in self.model.items():
                for text in expected.secrets:
                    who = self.run(house.who(text))
                    assert (who is not None) == expected.counts(text, self.clock.unix)
                    assert who is None or (who.id, who.only_local) == (key_id, False)

    def teardown(self):
        self.store.close()
        if self.databases:
            self.databases.drop(self.database)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database whose tables are made: migrations take longer than a test."""
    directory = tmp_path_factory.mktemp("template")
    Store.open(directory, lambda: 1.0).close()
    return directory


@pytest.mark.parametrize("kind", EITHER)
def test_keys_behave_as_the_model_says(template, kind, request, monkeypatch):
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setattr(owner, "READ_LIMIT", 10.0)  # a busy machine is no outage
    databases = None if kind == "sqlite" else request.getfixturevalue("databases")
    machine = type("Machine", (KeysMachine,), {"template": template, "databases": databases})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40 if kind == "sqlite" else 6,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
