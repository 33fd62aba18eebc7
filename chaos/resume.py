"""`kill -9` of a real llama.cpp server in the midst of an answer, while a second one has the same file: is
the text the one that would have come without?"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.rig import Missing, Rig
from tests.support.llama import Llama
from tests.support.noise import SLOW, noise

from chaos import books
from chaos.stage import MASTER, Stage, ready_in
from fleetgate.agent import builtin, tinymodel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.process import RunningGateway

TOKENS: Final = 256
GOOD: Final = 0.99
"""Share of the trials in which the text has to be the same."""
NAME: Final = "told"
PATIENCE: Final = 20.0
MODELS: Final = ("demonstration", "random", "random, larger")
_PIECE: Final = b'"content":"'


@dataclass
class Outcome:
    trials: int = 0
    same: Counter[str] = field(default_factory=Counter)
    of: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    pieces: list[int] = field(default_factory=list)
    verdict: books.Verdict = field(default_factory=books.Verdict)

    def figures(self) -> dict[str, Any]:
        equal = sum(self.same.values())
        return {
            "trials": self.trials,
            "complete and equal": equal,
            "other text": self.verdict.figures["other text"],
            "not complete": self.verdict.figures["not complete"],
            "pieces before the kill, least": min(self.pieces, default=0),
            "pieces before the kill, most": max(self.pieces, default=0),
            "killed too late, tried again": self.too_late,
            **{f"equal, {name} weights": f"{self.same[name]} of {self.of[name]}" for name in MODELS},
        }


def run(directory: Path, times: int, seed: int) -> Outcome:
    """So many trials, shared among models of the demonstration's weights and of random ones."""
    if (why := builtin.missing()) is not None:
        raise Missing(why)
    outcome = Outcome()
    chance = random.Random(seed)
    for place, name in enumerate(MODELS):
        share = (times + len(MODELS) - 1 - place) // len(MODELS)
        with staged(directory / name.replace(", ", "-"), _file(directory, name, seed)) as trial:
            for _ in range(share):
                _one(trial, name, chance, outcome)
                _say(outcome, times)
    equal = sum(outcome.same.values())
    if equal < GOOD * outcome.trials:
        outcome.verdict.broken.append(f"too few: {equal} of {outcome.trials} were complete and equal")
    else:
        outcome.verdict.broken.clear()
    return outcome


def _file(directory: Path, name: str, seed: int) -> Path:
    if name == MODELS[0]:
        return tinymodel.ensure(directory)
    return noise(directory, seed, tinymodel.TINY if name == MODELS[1] else SLOW)


@dataclass
class Trial:
    """Two engines of one file behind a gateway."""

    gateway: RunningGateway
    engines: dict[str, Llama]

    def ask(self, text: str, kill_after: int | None = None) -> tuple[bytes, int]:
        """The whole stream, and how many pieces had come when its engine was killed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=PATIENCE)
        body = {
            "model": "r",
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), _HEADERS)
            answer = connection.getresponse()
            at = (answer.getheader("x-fleetgate-deployment") or "?").partition("/")[0]
            raw, killed = b"", 0
            while piece := answer.read1():
                raw += piece
                if kill_after is not None and not killed and raw.count(_PIECE) >= kill_after:
                    killed = raw.count(_PIECE)
                    self.engines[at].kill()
        return raw, killed

    def whole_again(self) -> None:
        """Start what was killed, and wait until the gateway asks both."""
        for one in self.engines.values():
            with contextlib.suppress(AssertionError):
                assert one.pid
                continue
            one.start()
        limit = time.monotonic() + PATIENCE
        for name in self.engines:
            while not self._answers(name):
                if time.monotonic() > limit:
                    raise Missing(f"{name} did not come back")
                time.sleep(0.05)

    def _answers(self, name: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=PATIENCE)
        body = {"model": f"{name}/{NAME}", "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), _HEADERS)
            return connection.getresponse().status == 200


_HEADERS: Final = {"authorization": f"Bearer {MASTER}", "content-type": "application/json"}


@contextlib.contextmanager
def staged(directory: Path, model: Path) -> Iterator[Trial]:
    directory.mkdir(exist_ok=True)
    words = ["--model", str(model), "--slots", "2", "--context", "4096", "--alias", NAME]
    engines = {"a": Llama(words), "b": Llama(words)}
    with contextlib.ExitStack() as stack:
        for one in engines.values():
            stack.callback(one.stop)
            one.start()
        blocks = {
            "health": {"every": "100ms"},
            "nodes": {
                name: {"power": "always", "engines": [{"kind": "llamacpp", "port": one.port}]}
                for name, one in engines.items()
            },
            "roles": {"r": {"use": [NAME], "policy": "least_busy", "resume": "exact"}},
        }
        gateway = Stage(stack.enter_context(Rig(directory)), blocks).gateway()
        stack.callback(gateway.kill)
        ready_in(gateway)
        trial = Trial(gateway, engines)
        trial.whole_again()
        yield trial


def _one(trial: Trial, name: str, chance: random.Random, outcome: Outcome) -> None:
    """One kill in the midst of an answer; again, where it came when the answer was over."""
    for _ in range(20):
        text = f"Tell me about {chance.randrange(10**6)} things."
        want, _ = trial.ask(text)
        got, killed = trial.ask(text, chance.randint(1, TOKENS * 3 // 4))
        trial.whole_again()
        if b": resumed on " not in got and said(got) == said(want) and b"[DONE]" in got:
            outcome.too_late += 1
            continue
        outcome.trials += 1
        outcome.of[name] += 1
        outcome.pieces.append(killed)
        if b"[DONE]" not in got:
            outcome.verdict.breaks("not complete", f"{name}: {got[-300:]!r}")
        elif said(got) != said(want):
            outcome.verdict.breaks("other text", f"{name}, after {killed} pieces: {text}")
        else:
            outcome.same[name] += 1
        return
    raise Missing("answers are over before they can be broken off")


def said(raw: bytes) -> str:
    """The text of a stream."""
    found = []
    for frame in raw.split(b"\n\n"):
        if frame.startswith(b"data: {"):
            choices = json.loads(frame[6:]).get("choices") or [{}]
            found.append((choices[0].get("delta") or {}).get("content") or "")
    return "".join(found)


def _say(outcome: Outcome, times: int) -> None:
    print(
        f"trial {outcome.trials} of {times}: killed after {outcome.pieces[-1]} pieces, "
        f"{sum(outcome.same.values())} equal so far",
        file=sys.stderr,
        flush=True,
    )
