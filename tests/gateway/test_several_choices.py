"""Streams of several answers: whole when each of them has its finish reason."""

import json

from fleetgate import sse
from fleetgate.dialects.openai import Stream
from fleetgate.gateway import body as bodies


def finish(index):
    return sse.frame(
        json.dumps({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}).encode()
    )


def test_one_of_two_answers_is_finished_but_not_whole():
    reader = Stream(strip_usage=True, choices=2)
    reader.look(finish(0))
    assert reader.finished
    assert not reader.whole
    reader.look(finish(0))
    assert not reader.whole, "the same answer ends once"
    reader.look(finish(1))
    assert reader.whole


def wanted(**members):
    raw = json.dumps({"model": "m", **members}).encode()
    budget = bodies.BodyBudget()
    budget.take(len(raw))
    return bodies.parse(raw, budget).wanted


def test_answers_asked_for_are_n_for_each_prompt():
    assert wanted().choices == 1
    assert wanted(n=3).choices == 3
    assert wanted(n=2, prompt=["a", "b"]).choices == 4
    assert wanted(prompt=[[1, 2], [3]]).choices == 2
    assert wanted(prompt=[1, 2, 3]).choices == 1
    assert wanted(n="many", prompt="a").choices == 1
